//! One process replaces another: this one a predecessor, or a successor this one.

use ha_daemon::boottime;
use ha_routing::RouteState;

use super::Driver;
use crate::phase::Phase;
use crate::succession::{self, News};

impl Driver {
    /// Whether it does not serve yet and nobody knows of it. It would hold the sockets that the next process needs.
    pub(super) fn arrives_in_vain(&self) -> bool {
        *self.parts.phase.borrow() == Phase::Arriving && self.parts.replaced.is_orphan()
    }

    /// Takes sessions as soon as it is time to.
    pub(super) fn arrive(&mut self) {
        let open = self.router.table().writes.state == RouteState::Open;
        // Who leaves before it has served serves no more.
        if self.parts.drain.has_begun() || !self.arrival.has_come(boottime(), open) {
            return;
        }
        self.parts.data.listen();
        self.parts.phase.send_replace(Phase::Serving);
        if self.parts.replaced.is_successor() {
            // The other process tells the service manager, which believes nobody else yet.
            self.parts.replaced.say_serving();
        } else {
            ha_daemon::notify_ready();
        }
        tracing::info!("sessions are taken");
    }

    /// Whether this is the process that the service manager supervises.
    pub(super) fn is_main(&self) -> bool {
        self.parts.link.is_some()
    }

    pub(super) fn upgrade(&mut self) {
        if self.parts.drain.has_begun() {
            tracing::warn!("no successor is started: this process takes leave");
        } else if !self.parts.succession.begin(&self.router.table(), &self.parts.replaced) {
            tracing::warn!("a successor is already on its way");
        }
    }

    /// Gives the reason to end, when there is one.
    pub(super) fn hear_of_successor(&mut self, news: News) -> Option<&'static str> {
        match news {
            News::Serves { id } => {
                self.parts.succession.settled();
                if !self.parts.drain.hand_over(boottime()) {
                    tracing::warn!(id, "a successor came too late: this process ends, and so does that one");
                    succession::end(id);
                    return None;
                }
                self.hand_over(id);
                Some("SIGUSR2")
            }
            News::Failed { why } => {
                self.parts.succession.settled();
                tracing::error!("no successor, this process goes on: {why}");
                None
            }
            News::Leaves => {
                self.leave("the successor's SIGTERM");
                None
            }
            News::Lost => {
                tracing::error!("the successor is gone without a word; the sessions here go on");
                None
            }
        }
    }

    /// The successor has every socket. This process keeps its sessions, and follows the roles for them.
    fn hand_over(&mut self, id: u32) {
        let sessions = self.parts.data.sessions();
        tracing::info!(successor = id, sessions, "a successor takes new sessions; the open ones stay here");
        ha_daemon::notify_main_process(id);
        self.watchdog = None;
        self.parts.data.drain();
        self.parts.watch.replaced();
        self.parts.succession.close_all();
        self.parts.snapshot.begin_draining();
        self.parts.phase.send_replace(Phase::HandedOver);
        // The readers meet the successor when they come back.
        self.parts.link = None;
    }
}
