//! Accepts clients and hands them to the workers, and looks after those who wait. This happens on the first worker's thread: a
//! thread of its own would cost every connection two switches between threads more.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::worker::{Order, Shared, Worker, WorkerHandle};
use super::{Port, sockets};

/// Connections beyond the limit that are served at the same time, to tell them so or because they carry a cancel
/// request. More than that are closed at once: each costs a descriptor.
const BEYOND_LIMIT: u32 = 512;

/// Pause after accept failed for want of descriptors or memory; trying on would only burn the processor.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How exactly the ends of waits are kept.
const WAIT_TICK: Duration = Duration::from_millis(20);

/// What whoever accepts shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Hold the listeners, accept nobody yet.
    Wait,
    Listen,
    /// Close the listeners, keep looking after those who wait.
    Drain,
}

/// What it takes to accept.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listeners: Vec<(Port, std::net::TcpListener)>,
    /// All of them; the first one accepts.
    pub(super) workers: Arc<Vec<WorkerHandle>>,
    /// When the sender is gone, the listeners are closed too.
    pub(super) duty: watch::Receiver<Duty>,
    /// Told once whether the listeners could be watched.
    pub(super) watched: SyncSender<io::Result<()>>,
}

/// Starts to accept on the calling worker's thread.
pub(super) fn begin(own: &Rc<Worker>, accepting: Accepting) {
    let Accepting { listeners, workers, duty, watched } = accepting;
    let listeners = listeners
        .into_iter()
        .map(|(port, listener)| TcpListener::from_std(listener).map(|listener| (port, listener)));
    let outcome = listeners.collect::<io::Result<Vec<_>>>().map(|listeners| {
        drop(tokio::task::spawn_local(look_after_waiting(Arc::clone(&own.shared))));
        for (port, listener) in listeners {
            let door = Door { listener, port, own: Rc::clone(own), workers: Arc::clone(&workers) };
            let (mut duty, mut ended) = (duty.clone(), duty.clone());
            let shared = Arc::clone(&own.shared);
            shared.doors.fetch_add(1, Ordering::Relaxed);
            drop(tokio::task::spawn_local(async move {
                tokio::select! {
                    biased;
                    _ = ended.wait_for(|duty| *duty == Duty::Drain) => {}
                    () = async {
                        // Fails when the whole data path is gone.
                        if duty.wait_for(|duty| *duty == Duty::Listen).await.is_ok() {
                            door.accept().await;
                        }
                    } => {}
                }
                shared.doors.fetch_sub(1, Ordering::Release);
            }));
        }
    });
    // Whoever asked is gone only when the whole data path is.
    drop(watched.send(outcome));
}

/// Ends waits that took too long. Sleeps while nobody waits.
async fn look_after_waiting(shared: Arc<Shared>) {
    loop {
        shared.places.somebody_waits.notified().await;
        while shared.places.tick(Instant::now()) {
            tokio::time::sleep(WAIT_TICK).await;
        }
    }
}

/// One listener.
struct Door {
    listener: TcpListener,
    port: Port,
    own: Rc<Worker>,
    workers: Arc<Vec<WorkerHandle>>,
}

impl Door {
    async fn accept(self) {
        let (shared, port) = (&self.own.shared, self.port);
        // Since when it cannot: said once, not ten times a second.
        let mut failing: Option<Instant> = None;
        loop {
            match self.listener.accept().await {
                Ok((client, from)) => {
                    if let Some(since) = failing.take() {
                        let for_ms = since.elapsed().as_millis();
                        tracing::info!(?port, for_ms, "clients are accepted again");
                    }
                    self.hand_over(client, from);
                }
                Err(error) if is_client_gone(&error) => {}
                Err(error) => {
                    if failing.is_none() {
                        failing = Some(Instant::now());
                        let sessions = shared.open.load(Ordering::Relaxed);
                        let open_files = sockets::open_files();
                        tracing::error!(?port, %error, sessions, open_files, "clients cannot be accepted and wait");
                    }
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }

    fn hand_over(&self, client: TcpStream, from: SocketAddr) {
        let shared = &self.own.shared;
        let admitted = take(&shared.open, shared.settings.load().max_connections);
        if !admitted && !take(&shared.beyond, BEYOND_LIMIT) {
            return;
        }
        let give_back = || {
            let limit = if admitted { &shared.open } else { &shared.beyond };
            limit.fetch_sub(1, Ordering::Relaxed);
        };
        let workers = self.workers.iter().enumerate();
        // Among equals the first: it needs no switch to another thread.
        let Some((number, worker)) = workers.min_by_key(|(_, worker)| worker.load.load(Ordering::Relaxed))
        else {
            return give_back();
        };
        worker.load.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            return self.own.serve(client, from, self.port, admitted);
        }
        // Another worker watches it with its own runtime, so this one lets go of it.
        let handed_over = client.into_std().is_ok_and(|client| {
            worker.orders.send(Order::Serve { client, from, port: self.port, admitted }).is_ok()
        });
        if !handed_over {
            worker.load.fetch_sub(1, Ordering::Relaxed);
            give_back();
        }
    }
}

/// Failures that concern one connection only (accept(2) passes on what the network said about it).
fn is_client_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkUnreachable, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkUnreachable | TimedOut)
}

/// Takes one of `limit`. Only this thread takes, so looking before adding is no race.
fn take(count: &AtomicU32, limit: u32) -> bool {
    let free = count.load(Ordering::Relaxed) < limit;
    if free {
        count.fetch_add(1, Ordering::Relaxed);
    }
    free
}
