//! Clients that never stop connecting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::{Login, login};
use super::wait_for;

/// A few threads that log in, ask something, leave, and begin again.
pub(crate) struct Crowd {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    pub(crate) fn start(address: SocketAddr, threads: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads).map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match login(address) {
                        Ok(Login::In(mut session)) => {
                            if session.is_alive() {
                                served.fetch_add(1, Ordering::Relaxed);
                            } else {
                                failures.push("no answer to a question".to_owned());
                            }
                        }
                        other => failures.push(format!("{other:?}")),
                    }
                }
                failures
            })
        });
        let threads = threads.collect();
        Self { stop, served, threads }
    }

    /// Clients that were served so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until this many more were served.
    pub(crate) fn wait_for_more(&self, more: u64) {
        let wanted = self.served() + more;
        wait_for("clients to be served", Duration::from_secs(20), || (self.served() >= wanted).then_some(()));
    }

    /// How many were served, and how each failed that was not.
    pub(crate) fn finish(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let failures = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (self.served(), failures)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
