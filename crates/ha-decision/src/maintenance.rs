//! What operators ask for besides a change of leader: restart, reload, pause, resume, reinitialize.

use std::time::Duration;

use ha_core::cluster_view::{StoreKey, to_json};
use ha_core::node_state::{JobKind, JobMarker};
use ha_core::record::{MaintenanceRecord, SyncRecord};
use ha_core::{MonoTime, Revision};

use crate::action::{LeaseChoice, RequestId, Txn};
use crate::decider::Decider;
use crate::event::TxnOutcome;
use crate::job::StopMode;
use crate::reason::Reason;
use crate::request::{Refusal, Request, RequestDone};
use crate::store::TxnFor;
use crate::timers::Timer;

/// How long a standby waits to be taken out of the list before it gives up.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A standby asks to be taken out of the list.
    Leave,
    /// PostgreSQL is being stopped.
    Stop,
    /// PostgreSQL is down and comes up again by the ordinary rules.
    Up,
}

#[derive(Debug, Clone)]
struct Work {
    request: RequestId,
    stage: Stage,
    began: MonoTime,
    /// Throw the data away between stop and start.
    reinitialize: bool,
}

/// Requests under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Maintenance {
    work: Option<Work>,
}

impl Maintenance {
    pub(crate) fn restart_asked(&self) -> Option<RequestId> {
        self.work.as_ref().map(|w| w.request)
    }

    /// Asks to be taken out of the list, and to be kept out until its PostgreSQL is up again.
    pub(crate) fn is_leaving(&self) -> bool {
        self.work.is_some()
    }

    pub(crate) fn server_stopped(&mut self) {
        if let Some(work) = self.work.as_mut().filter(|w| w.stage == Stage::Stop) {
            work.stage = Stage::Up;
        }
    }
}

impl Decider {
    pub(crate) fn requested(&mut self, id: RequestId, request: Request) {
        match request {
            Request::Switchover { candidate, method } => {
                self.switchover_asked(id, candidate.as_ref(), method);
            }
            Request::Failover { accept_data_loss } => self.failover_asked(id, accept_data_loss),
            Request::Restart => self.begin_work(id, false),
            Request::Reinitialize => self.begin_work(id, true),
            Request::Reload => {
                self.server.applied = None;
                self.reply(id, Ok(RequestDone::Done));
            }
            Request::Pause { duration, reason } => self.pause(id, duration, reason),
            Request::Resume => self.resume(id),
        }
    }

    fn begin_work(&mut self, id: RequestId, reinitialize: bool) {
        let leads = self.sync().is_some_and(|s| s.record.leader.member == self.setup.me);
        if reinitialize && leads {
            let why = "this member leads: hand the leadership over first (hactl switchover)".to_owned();
            self.reply(id, Err(Refusal::Protected { why }));
            return;
        }
        if reinitialize && !self.store.connected {
            // By an old view it may not be listed, while the leader counts on it.
            self.reply(id, Err(Refusal::StoreUnreachable));
            return;
        }
        if self.maintenance.work.is_some() || self.switchover.is_some() || self.server.job.is_some() {
            self.reply(id, Err(Refusal::Busy { what: "PostgreSQL is being changed already".to_owned() }));
            return;
        }
        let stage = if leads { Stage::Stop } else { Stage::Leave };
        self.maintenance.work = Some(Work { request: id, stage, began: self.now, reinitialize });
    }

    /// Restart of a running primary; true while that keeps everything else waiting.
    pub(crate) fn maintenance_of_leader(&mut self, _record: &SyncRecord) -> bool {
        let Some(work) = &self.maintenance.work else { return false };
        match work.stage {
            Stage::Leave | Stage::Stop => {
                // It may have become the leader only after it was asked.
                if self.job_free() {
                    if let Some(work) = &mut self.maintenance.work {
                        work.stage = Stage::Stop;
                    }
                    self.stop_now(StopMode::Fast);
                }
                true
            }
            Stage::Up => {
                self.end_work(Ok(RequestDone::Done));
                false
            }
        }
    }

    /// Restart or re-clone of a standby; true while that keeps everything else waiting.
    pub(crate) fn maintenance_of_standby(&mut self, record: &SyncRecord) -> bool {
        let Some(work) = self.maintenance.work.clone() else { return false };
        let listed = self.me_id().is_some_and(|me| record.policy.lists(&me));
        match work.stage {
            Stage::Leave if listed && !broken!(self, StopWhileListed) => {
                let limit = work.began + LEAVE_LIMIT;
                if self.now >= limit {
                    let why = "the leader did not take this member out of the synchronous list".to_owned();
                    self.end_work(Err(Refusal::CalledOff { seconds: LEAVE_LIMIT.as_secs(), why }));
                    return false;
                }
                if self.leader_looks_gone(record) {
                    // Nobody is there to change the list, and this member may be needed to lead.
                    let (seconds, why) = (LEAVE_LIMIT.as_secs(), "the leader is gone".to_owned());
                    self.end_work(Err(Refusal::CalledOff { seconds, why }));
                    return false;
                }
                self.timers.set(Timer::Shrink, limit);
                self.because(Reason::Leaving);
                true
            }
            Stage::Leave | Stage::Stop if self.is_stopped() => {
                if let Some(w) = &mut self.maintenance.work {
                    w.stage = Stage::Up;
                }
                true
            }
            Stage::Leave | Stage::Stop => {
                if self.job_free() {
                    if let Some(w) = &mut self.maintenance.work {
                        w.stage = Stage::Stop;
                    }
                    self.stop_now(StopMode::Fast);
                }
                true
            }
            Stage::Up if work.reinitialize => {
                let mut node = self.node.clone();
                node.job = Some(JobMarker { kind: JobKind::Clone, epoch: record.epoch, source: None });
                self.persist(node);
                self.end_work(Ok(RequestDone::Done));
                // Marked as to be thrown away: it must not be started and listed once more.
                true
            }
            Stage::Up => {
                if self.instance().is_some() {
                    self.end_work(Ok(RequestDone::Done));
                }
                false
            }
        }
    }

    /// The directory was cloned, for whatever reason: a wish to have it cloned is fulfilled.
    pub(crate) fn cloned(&mut self) {
        if self.maintenance.work.as_ref().is_some_and(|w| w.reinitialize) {
            self.end_work(Ok(RequestDone::Done));
        }
    }

    fn end_work(&mut self, answer: Result<RequestDone, Refusal>) {
        if let Some(work) = self.maintenance.work.take() {
            self.reply(work.request, answer);
        }
    }

    fn pause(&mut self, id: RequestId, duration: Duration, reason: String) {
        let record = MaintenanceRecord { reason, for_seconds: duration.as_secs(), extra: Default::default() };
        let revision = self.maintenance_revision();
        self.submit_maintenance(
            id,
            Txn {
                purpose: "begin maintenance mode",
                compares: vec![(StoreKey::Maintenance, revision)],
                puts: vec![(StoreKey::Maintenance, to_json(&record), LeaseChoice::Fixed(duration))],
                deletes: Vec::new(),
            },
        );
    }

    fn resume(&mut self, id: RequestId) {
        if !self.is_paused() {
            self.reply(id, Ok(RequestDone::Done));
            return;
        }
        let revision = self.maintenance_revision();
        self.submit_maintenance(
            id,
            Txn {
                purpose: "end maintenance mode",
                compares: vec![(StoreKey::Maintenance, revision)],
                puts: Vec::new(),
                deletes: vec![StoreKey::Maintenance],
            },
        );
    }

    fn maintenance_revision(&self) -> Revision {
        let view = self.store.view.as_ref();
        view.and_then(|v| v.maintenance.as_ref()).map_or(Revision(0), |m| m.revision)
    }

    fn submit_maintenance(&mut self, id: RequestId, txn: Txn) {
        if !self.store.connected {
            self.reply(id, Err(Refusal::StoreUnreachable));
        } else if !self.can_txn() {
            self.reply(
                id,
                Err(Refusal::Busy { what: "another decision is being written; try again".to_owned() }),
            );
        } else {
            self.submit(TxnFor::Maintenance(id), txn);
        }
    }

    pub(crate) fn maintenance_written(&mut self, id: RequestId) {
        self.reply(id, Ok(RequestDone::Done));
    }

    pub(crate) fn maintenance_not_written(&mut self, id: RequestId, outcome: &TxnOutcome) {
        let message = match outcome {
            TxnOutcome::Unknown => {
                "etcd did not answer; look with hactl list whether it took effect".to_owned()
            }
            TxnOutcome::Refused { reason } => format!("etcd refused: {reason}"),
            _ => "somebody else changed maintenance mode at the same moment; look again".to_owned(),
        };
        self.reply(id, Err(Refusal::Failed { message }));
    }
}
