//! Everything around a real pg-proxy: agents that claim what a test tells them, REST interfaces, PostgreSQL servers that
//! know only how to say who they are, and clients. The agents' ports are fixed, so each test has loopback addresses of
//! its own, 127.72.`network`.x.

#![allow(dead_code, reason = "not every test uses every fake")]

pub(crate) mod agent;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod crowd;
pub(crate) mod postgres;
pub(crate) mod rest;
pub(crate) mod world;

use std::future::Future;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Port of every PostgreSQL here.
pub(crate) const POSTGRES_PORT: u16 = 25_432;

/// A server in a thread of its own. Dropping it closes its sockets and all of its connections.
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs what `serve` gives until dropped. `serve` runs inside the runtime and has listened when it returns.
    pub(crate) fn run<F>(serve: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let inside = runtime.enter();
            let future = serve();
            ready.send(()).unwrap();
            drop(inside);
            runtime.block_on(async {
                tokio::select! {
                    () = future => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the fake could not listen");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Waits for a condition, and says which one was never met.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs_f32());
        std::thread::sleep(Duration::from_millis(5));
    }
}
