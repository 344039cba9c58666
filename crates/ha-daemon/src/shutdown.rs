//! Signals: SIGTERM and SIGINT ask for the end, SIGHUP for reading the configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a daemon listens to. Made once, before anything else may take long, because a signal that comes
/// earlier ends the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the kernel refuses the handlers, or outside a runtime with I/O.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. Cancel-safe: a signal that has arrived is not lost.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Shutdown("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Shutdown("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// Waits for SIGTERM or SIGINT and says which; SIGHUP is dropped meanwhile.
    pub async fn shutdown(&mut self) -> &'static str {
        loop {
            if let Asked::Shutdown(signal) = self.next().await {
                return signal;
            }
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// End, because of this signal.
    Shutdown(&'static str),
    /// Read the configuration again.
    Reload,
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal as Number, kill};
    use nix::unistd::Pid;

    #[tokio::test]
    async fn signals_become_what_they_ask_for() {
        let mut signals = Signals::listen().unwrap();
        kill(Pid::this(), Number::SIGHUP).unwrap();
        assert_eq!(signals.next().await, Asked::Reload);
        kill(Pid::this(), Number::SIGTERM).unwrap();
        assert_eq!(signals.shutdown().await, "SIGTERM");
    }
}
