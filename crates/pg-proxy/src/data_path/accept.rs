//! The thread that accepts clients and hands them to the workers, and that looks after those who wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use super::worker::{Order, SIGN_OF_LIFE, Shared, WorkerHandle};
use super::{Port, sockets};

/// Connections beyond the limit that are served at the same time, to tell them so or because they carry a cancel
/// request. More than that are closed at once: each costs a descriptor.
const BEYOND_LIMIT: u32 = 512;

/// Pause after accept failed for want of descriptors or memory; trying on would only burn the processor.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How exactly the ends of waits are kept.
const WAIT_TICK: Duration = Duration::from_millis(20);

/// What the accept thread shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Hold the listeners, accept nobody yet.
    Wait,
    Listen,
    /// Close the listeners, keep looking after those who wait.
    Drain,
    Stop,
}

/// Starts the thread; it ends with [`Duty::Stop`] or when the sender of duties is gone.
pub(super) fn spawn(
    listeners: Vec<(Port, std::net::TcpListener)>,
    shared: Arc<Shared>,
    workers: Arc<Vec<WorkerHandle>>,
    duty: watch::Receiver<Duty>,
    seen_ms: Arc<AtomicU64>,
) -> io::Result<()> {
    let (built, outcome) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                drop(built.send(Err(error)));
                return;
            }
        };
        let started = runtime.block_on(async {
            let mut watched = Vec::new();
            for (port, listener) in listeners {
                watched.push((port, TcpListener::from_std(listener)?));
            }
            Ok(watched)
        });
        match started {
            Ok(watched) => {
                drop(built.send(Ok(())));
                runtime.block_on(run(watched, shared, workers, duty, seen_ms));
            }
            Err(error) => {
                drop(built.send(Err(error)));
            }
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))
}

async fn run(
    listeners: Vec<(Port, TcpListener)>,
    shared: Arc<Shared>,
    workers: Arc<Vec<WorkerHandle>>,
    mut duty: watch::Receiver<Duty>,
    seen_ms: Arc<AtomicU64>,
) {
    drop(tokio::task::spawn_local(look_after_waiting(Arc::clone(&shared))));
    for (port, listener) in listeners {
        let (shared, workers) = (Arc::clone(&shared), Arc::clone(&workers));
        let (mut duty, mut ended) = (duty.clone(), duty.clone());
        drop(tokio::task::spawn_local(async move {
            tokio::select! {
                biased;
                _ = ended.wait_for(|duty| matches!(duty, Duty::Drain | Duty::Stop)) => {}
                () = async {
                    // Fails when the whole data path is gone.
                    if duty.wait_for(|duty| *duty == Duty::Listen).await.is_ok() {
                        accept(&listener, port, &shared, &workers).await;
                    }
                } => {}
            }
        }));
    }
    let mut life = tokio::time::interval(SIGN_OF_LIFE);
    loop {
        tokio::select! {
            biased;
            _ = duty.wait_for(|duty| *duty == Duty::Stop) => return,
            _ = life.tick() => seen_ms.store(shared.now_ms(), Ordering::Relaxed),
        }
    }
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

async fn accept(listener: &TcpListener, port: Port, shared: &Shared, workers: &[WorkerHandle]) {
    // Since when it cannot: said once, not ten times a second.
    let mut failing: Option<Instant> = None;
    loop {
        // The worker watches it with its own runtime, so this one lets go of it.
        match listener.accept().await.and_then(|(client, from)| Ok((client.into_std()?, from))) {
            Ok((client, from)) => {
                if let Some(since) = failing.take() {
                    let for_ms = since.elapsed().as_millis();
                    tracing::info!(?port, for_ms, "clients are accepted again");
                }
                hand_over(client, from, port, shared, workers);
            }
            Err(error) if is_client_gone(&error) => {}
            Err(error) => {
                if failing.is_none() {
                    failing = Some(Instant::now());
                    let (sessions, open_files) = (shared.open.load(Ordering::Relaxed), sockets::open_files());
                    tracing::error!(?port, %error, sessions, open_files, "clients cannot be accepted and wait");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Failures that concern one connection only (accept(2) passes on what the network said about it).
fn is_client_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NetworkUnreachable, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NetworkUnreachable | TimedOut)
}

fn hand_over(
    client: std::net::TcpStream,
    from: SocketAddr,
    port: Port,
    shared: &Shared,
    workers: &[WorkerHandle],
) {
    let admitted = take(&shared.open, shared.settings.load().max_connections);
    if !admitted && !take(&shared.beyond, BEYOND_LIMIT) {
        return;
    }
    let give_back = || {
        let limit = if admitted { &shared.open } else { &shared.beyond };
        limit.fetch_sub(1, Ordering::Relaxed);
    };
    let Some(worker) = workers.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed)) else {
        return give_back();
    };
    worker.load.fetch_add(1, Ordering::Relaxed);
    if worker.orders.send(Order::Serve { client, from, port, admitted }).is_err() {
        worker.load.fetch_sub(1, Ordering::Relaxed);
        give_back();
    }
}

/// Takes one of `limit`. Only this thread takes, so looking before adding is no race.
fn take(count: &AtomicU32, limit: u32) -> bool {
    let free = count.load(Ordering::Relaxed) < limit;
    if free {
        count.fetch_add(1, Ordering::Relaxed);
    }
    free
}
