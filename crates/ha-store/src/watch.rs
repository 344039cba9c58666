//! Following the store: what a watch tells, and the handle that tells it.

use std::pin::Pin;
use std::task::{Context, Poll};

use ha_core::Revision;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::Stream;

use crate::store::{Entry, Snapshot};

/// Events that wait for a slow reader. Each is a whole snapshot of a few kilobytes; when the buffer is full the watch
/// waits for the reader, and etcd for the watch.
const BUFFERED_EVENTS: usize = 32;

/// What a [`Watch`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The watch works (again); a [`WatchEvent::Snapshot`] or [`WatchEvent::RolledBack`] follows.
    Connected,
    /// The watch broke and an attempt to repair it failed too: what was seen last may be out of date from here on.
    /// Attempts go on.
    Disconnected {
        /// What the last attempt said.
        reason: String,
    },
    /// Everything below the prefix: at first, after each connect, and after each change. Its revision never goes back
    /// (except after a [`WatchEvent::RolledBack`]). After a reconnect several changes come as one.
    Snapshot(Snapshot),
    /// The store is not the one it was: its cluster id changed, or its revision went back (restored from a backup,
    /// or recreated). What it says must not be believed without other evidence.
    RolledBack {
        /// The cluster id until now.
        had_cluster_id: u64,
        /// The highest revision seen until now.
        had_revision: Revision,
        /// What the store says now.
        snapshot: Snapshot,
    },
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision of the change; changes of one transaction share it.
    pub revision: Revision,
    /// The whole key.
    pub key: String,
    /// What stands there now; `None` = deleted.
    pub entry: Option<Entry>,
}

impl Snapshot {
    /// Carries the snapshot on by one change. A change that it already contains changes nothing.
    pub fn apply(&mut self, change: &Change) {
        if change.revision < self.revision {
            return;
        }
        self.revision = change.revision;
        match &change.entry {
            Some(entry) => self.entries.insert(change.key.clone(), entry.clone()),
            None => self.entries.remove(&change.key),
        };
    }
}

/// A running watch; dropping it ends it. Also a [`Stream`].
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<WatchEvent>,
    task: AbortHandle,
}

impl Watch {
    /// Runs `follow` in a task of its own, feeding the watch that is returned.
    pub(crate) fn spawn<F, Fut>(follow: F) -> Self
    where
        F: FnOnce(mpsc::Sender<WatchEvent>) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (sender, events) = mpsc::channel(BUFFERED_EVENTS);
        let task = tokio::spawn(follow(sender)).abort_handle();
        Self { events, task }
    }

    /// The next event. `None` only when the runtime is shutting down. Cancel safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.events.poll_recv(cx)
    }
}
