//! How far a process has come. The status page, gRPC and the local link are served by one process at a time; the next one
//! listens on the same sockets.

use std::time::Duration;

use tokio::sync::watch;

/// How long whoever was let in before a successor took over may take to ask something. Afterwards connections without a
/// question are closed, so that their owners come back and meet the successor.
const LAST_QUESTIONS: Duration = Duration::from_millis(300);

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does not serve yet; a predecessor may.
    Arriving,
    /// It serves.
    Serving,
    /// A successor serves.
    HandedOver,
}

/// Waits until this process serves. When the driver is gone, and with it everything, nobody has to wait any more; that holds
/// for each of these.
pub async fn serving(mut phase: watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase != Phase::Arriving).await);
}

/// Waits until a successor serves: from now on nobody is let in here.
pub async fn handed_over(mut phase: watch::Receiver<Phase>) {
    drop(phase.wait_for(|phase| *phase == Phase::HandedOver).await);
}

/// Waits until connections that ask nothing are closed. One that is let in and never answered would be an error to whoever
/// made it, and there is none with a successor.
pub async fn last_questions(phase: watch::Receiver<Phase>) {
    handed_over(phase).await;
    tokio::time::sleep(LAST_QUESTIONS).await;
}
