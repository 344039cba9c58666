//! Several clients on one thread in the network of the client host, and what each of them remembers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::topology::CLIENT;
use crate::wait::wait_for;

/// What clients and whoever started them tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stop: AtomicBool,
    answered: AtomicU64,
}

impl Progress {
    /// Whether a client is to go on.
    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A client was answered.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Clients<T> {
    progress: Arc<Progress>,
    thread: JoinHandle<Result<Result<Vec<T>>>>,
}

impl<T: Send + 'static> Clients<T> {
    /// Starts so many, each with its number; they end by themselves when they are not to go on.
    pub(super) fn start<F>(
        lab: &Lab,
        count: usize,
        progress: Arc<Progress>,
        work: impl Fn(usize) -> F + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Vec<T>> + Send + 'static,
    {
        let thread = lab.spawn_in_network_of(CLIENT, move || run(count, work))?;
        Ok(Self { progress, thread })
    }

    /// Waits until `more` further answers came.
    pub(super) fn wait_for_answers(&self, more: u64, limit: Duration) -> Result<()> {
        let answered = || self.progress.answered.load(Ordering::Relaxed);
        let wanted = answered() + more;
        wait_for(&format!("{more} more answers"), limit, || match answered() {
            now if now >= wanted => Ok(()),
            now => Err(format!("{} are missing", wanted - now)),
        })
    }

    /// Ends them and returns what they remember, one client after the other.
    pub(super) fn finish(self) -> Result<Vec<T>> {
        self.progress.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join().map_err(|_| anyhow::anyhow!("a client of the registers panicked"))?;
        joined?
    }
}

fn run<T: Send + 'static, F>(count: usize, work: impl Fn(usize) -> F) -> Result<Vec<T>>
where
    F: Future<Output = Vec<T>> + Send + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let clients: Vec<_> = (0..count).map(|index| tokio::spawn(work(index))).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.context("a client of the registers")?);
        }
        Ok(all)
    })
}
