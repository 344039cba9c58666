//! `/run/matriarch/proxy.sock`: how vrrpd on this host knows that pg-proxy lives. Everybody who connects gets a line of
//! JSON at once, at every change, and ten times a second. The end of the stream, or a second of silence, is the death of
//! the proxy; that is why the lines are made by the same thread that makes the decisions.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use crate::phase::{self, Phase};

/// Where the socket lies.
pub const PATH: &str = "/run/matriarch/proxy.sock";

/// How often a line goes out without a change. The reader counts on one each 200 ms; half of that leaves room for a
/// busy host.
const INTERVAL: Duration = Duration::from_millis(100);
/// A reader that takes nothing for so long is gone or hung, and asks again if it lives.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// Readers at the same time: vrrpd, its successor during a restart, and people who look. One more waits unanswered.
const READERS: usize = 8;
/// Pause after accept failed.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Only the owner may follow.
const MODE: u32 = 0o600;

/// What the readers are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkState {
    /// It listens and every one of its workers answers.
    pub serving: bool,
    /// It takes leave: new sessions should go elsewhere.
    pub draining: bool,
    /// Writes have somewhere to go. Says nothing about the health of the proxy.
    pub primary: bool,
    /// The leadership that this rests on, or the newest that was heard of; 0 where nobody counts them.
    pub epoch: u64,
    /// Whether the cluster is in maintenance mode, in which the floating address is to stay where it is while it can; not
    /// known before an agent was heard.
    pub maintenance: Option<bool>,
}

#[derive(Serialize)]
struct Line {
    seq: u64,
    serving: bool,
    draining: bool,
    primary: bool,
    epoch: u64,
    maintenance: Option<bool>,
}

impl LinkState {
    /// The line with number `seq`, with its end.
    fn line(self, seq: u64) -> io::Result<String> {
        let Self { serving, draining, primary, epoch, maintenance } = self;
        Ok(serde_json::to_string(&Line { seq, serving, draining, primary, epoch, maintenance })? + "\n")
    }
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another process serves it.
    #[error("serve {}: another pg-proxy serves it", .0.display())]
    Taken(PathBuf),
    /// The file system refused.
    #[error("serve {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The socket; its file is removed when this is dropped, unless another process serves it by then.
#[derive(Debug)]
pub struct LocalLink {
    path: PathBuf,
    listener: UnixListener,
    /// How far this process has come.
    phase: watch::Receiver<Phase>,
    /// A predecessor opened it, and goes on with it when this process does not come to serve.
    taken_over: bool,
}

impl LocalLink {
    /// Listens at `path`, in place of what an earlier process left there.
    ///
    /// # Errors
    /// When a living process serves it, or the directory is missing or not writable.
    pub async fn bind(path: &Path, phase: watch::Receiver<Phase>) -> Result<Self, LinkError> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(LinkError::Taken(path.to_owned()));
        }
        let listener =
            Self::put_in_place(path).map_err(|source| LinkError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), listener, phase, taken_over: false })
    }

    /// Goes on with the socket at `path` that another process listened on. Must be called in a runtime.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn take_over(
        path: &Path,
        listener: std::os::unix::net::UnixListener,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self, LinkError> {
        let watched = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        let listener = watched.map_err(|source| LinkError::Io { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), listener, phase, taken_over: true })
    }

    /// The socket itself.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Under another name first, so that the socket never lies there with a mode that lets others in.
    fn put_in_place(path: &Path) -> io::Result<UnixListener> {
        let beside = path.with_extension("new");
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(MODE))?;
        std::fs::rename(&beside, path)?;
        Ok(listener)
    }

    /// Serves while this process does. When it has handed over, this one first listens no more; the streams of the readers
    /// end with the source of states, and whoever comes back at once meets the other process.
    pub async fn serve(self, state: watch::Receiver<LinkState>) {
        let readers = std::sync::Arc::new(Semaphore::new(READERS));
        let over = phase::handed_over(self.phase.clone());
        tokio::pin!(over);
        loop {
            let next = async {
                // Never closed.
                let place = std::sync::Arc::clone(&readers).acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut over => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let state = state.clone();
                    tokio::spawn(async move {
                        let ended = tell(stream, state).await;
                        tracing::debug!(reason = ?ended.err(), "a reader of the local link is gone");
                        drop(place);
                    });
                }
                Err(error) => {
                    // For want of descriptors: vrrpd is not worth less than the sessions that use them.
                    tracing::warn!(%error, "nobody new can follow on the local link");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        let others = match *self.phase.borrow() {
            Phase::Arriving => self.taken_over,
            Phase::Serving => false,
            Phase::HandedOver => true,
        };
        if others {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the local link's socket stays behind");
        }
    }
}

async fn tell(mut stream: UnixStream, mut state: watch::Receiver<LinkState>) -> io::Result<()> {
    for seq in 1.. {
        let line = state.borrow_and_update().line(seq)?;
        tokio::time::timeout(WRITE_LIMIT, stream.write_all(line.as_bytes())).await??;
        // Either a change or the interval; the source ends with the process.
        if let Ok(Err(_)) = tokio::time::timeout(INTERVAL, state.changed()).await {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    fn phase() -> watch::Receiver<Phase> {
        let (sender, receiver) = watch::channel(Phase::Serving);
        // Its end would be the end of the process.
        std::mem::forget(sender);
        receiver
    }

    #[tokio::test]
    async fn lines_come_at_once_at_a_change_and_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let link = LocalLink::bind(&path, phase()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (state, states) = watch::channel(LinkState { serving: true, ..LinkState::default() });
        let server = tokio::spawn(link.serve(states));
        assert!(matches!(LocalLink::bind(&path, phase()).await, Err(LinkError::Taken(_))));
        let mut lines = BufReader::new(UnixStream::connect(&path).await.unwrap()).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        assert_eq!(
            first,
            r#"{"seq":1,"serving":true,"draining":false,"primary":false,"epoch":0,"maintenance":null}"#
        );
        let all =
            LinkState { serving: true, draining: true, primary: true, epoch: 7, maintenance: Some(true) };
        state.send_replace(all);
        let second = lines.next_line().await.unwrap().unwrap();
        assert_eq!(
            second,
            r#"{"seq":2,"serving":true,"draining":true,"primary":true,"epoch":7,"maintenance":true}"#
        );
        assert!(lines.next_line().await.unwrap().unwrap().contains(r#""seq":3"#));
        server.abort();
        assert!(server.await.is_err());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_is_handed_over_is_never_closed_for_those_who_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let (old_phase, old_phases) = watch::channel(Phase::Serving);
        let link = LocalLink::bind(&path, old_phases).await.unwrap();
        let copy: std::os::fd::OwnedFd =
            std::os::fd::AsFd::as_fd(&link.listener).try_clone_to_owned().unwrap();
        let (old_state, old_states) = watch::channel(LinkState { serving: true, ..LinkState::default() });
        let old = tokio::spawn(link.serve(old_states));
        let mut lines = BufReader::new(UnixStream::connect(&path).await.unwrap()).lines();
        assert!(lines.next_line().await.unwrap().unwrap().contains(r#""primary":false"#));
        old_phase.send_replace(Phase::HandedOver);
        drop(old_state);
        while lines.next_line().await.unwrap().is_some() {}
        // The successor does not accept yet: whoever comes waits.
        let mut lines = BufReader::new(UnixStream::connect(&path).await.unwrap()).lines();
        old.await.unwrap();
        assert!(path.exists());
        let new = LocalLink::take_over(&path, copy.into(), phase()).unwrap();
        let serving = LinkState { serving: true, primary: true, ..LinkState::default() };
        let (_state, states) = watch::channel(serving);
        let new = tokio::spawn(new.serve(states));
        let line = lines.next_line().await.unwrap().unwrap();
        let begin = r#"{"seq":1,"serving":true,"draining":false,"primary":true,"epoch":0,"#;
        assert!(line.starts_with(begin), "{line}");
        new.abort();
        assert!(new.await.is_err());
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn who_does_not_come_to_serve_leaves_the_socket_to_its_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.sock");
        let old = LocalLink::bind(&path, phase()).await.unwrap();
        let copy = std::os::fd::AsFd::as_fd(&old.listener).try_clone_to_owned().unwrap();
        let (_phase, arriving) = watch::channel(Phase::Arriving);
        drop(LocalLink::take_over(&path, copy.into(), arriving).unwrap());
        assert!(path.exists());
        drop(old);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_named() {
        let error = LocalLink::bind(Path::new("/nowhere/proxy.sock"), phase()).await.unwrap_err();
        assert_eq!(error.to_string(), "serve /nowhere/proxy.sock");
    }
}
