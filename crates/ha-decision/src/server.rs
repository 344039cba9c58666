//! This member's PostgreSQL as the decider steers it: the job under way, what settings it runs with.
//!
//! Two lanes. One conflicting job at a time on the main lane; a checkpoint or an epoch mark beside it, because they may
//! take long and change nothing that others depend on.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::postgres_view::{DataDirectory, DataFacts, Instance, PostgresProcess};
use ha_core::{MonoTime, Timeline};

use crate::action::{Action, OpId};
use crate::decider::Decider;
use crate::job::{Job, JobFailure, JobOutput, ServerSettings, StopMode};
use crate::reason::Reason;
use crate::timers::Timer;

/// First pause after a failed job; doubles up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(15);

#[derive(Debug, Clone)]
pub(crate) struct RunningJob {
    pub(crate) id: OpId,
    pub(crate) job: Job,
}

/// Settings that the server is known to run with.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(crate) settings: ServerSettings,
    pub(crate) at: MonoTime,
}

/// The server side of a decider.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerSide {
    pub(crate) job: Option<RunningJob>,
    pub(crate) side_job: Option<RunningJob>,
    pub(crate) applied: Option<Applied>,
    pub(crate) failures: u32,
    pub(crate) retry_at: MonoTime,
    /// An observation that began before this is older than the end of the last job.
    pub(crate) changed_at: MonoTime,
    /// By process id of a walsender: what its standby said last, and since when.
    pub(crate) replies: BTreeMap<u32, (u64, MonoTime)>,
    /// Failed starts as a primary in a row.
    pub(crate) failed_primary_starts: u32,
    /// The last failure said that storage is full or broken.
    pub(crate) storage_failed: bool,
    /// The last rewind failed in a way that only a clone repairs.
    pub(crate) needs_clone: bool,
}

fn job_name(job: &Job) -> &'static str {
    match job {
        Job::Initialize { .. } => "initdb",
        Job::Clone { .. } => "the clone",
        Job::Rewind { .. } => "the rewind",
        Job::WriteIncarnation { .. } => "writing the incarnation",
        Job::Start { .. } => "starting PostgreSQL",
        Job::Stop { .. } => "stopping PostgreSQL",
        Job::Configure { .. } => "changing settings",
        Job::Revoke { .. } => "stopping the walreceiver",
        Job::Promote { .. } => "the promotion",
        Job::ProveBlocked => "proving that commits wait",
        Job::MarkBarrier => "the barrier record",
        Job::ShutOut { .. } => "shutting clients out",
        Job::BounceSenders { .. } => "restarting walsenders",
        Job::Checkpoint => "the checkpoint",
        Job::MarkEpoch { .. } => "marking the epoch",
    }
}

impl Decider {
    /// The last observation began before the last job ended.
    pub(crate) fn observation_is_old(&self) -> bool {
        self.postgres.as_ref().is_none_or(|p| p.at < self.server.changed_at)
    }

    /// Whether a job may begin on the main lane, and the observation is newer than the last one's end.
    pub(crate) fn job_free(&mut self) -> bool {
        if self.server.job.is_some() {
            return false;
        }
        if self.observation_is_old() {
            return false;
        }
        if self.now < self.server.retry_at {
            self.timers.set(Timer::RetryJob, self.server.retry_at);
            return false;
        }
        true
    }

    pub(crate) fn start_job(&mut self, job: Job) {
        assert!(self.server.job.is_none(), "one job at a time");
        let id = self.next_op();
        self.server.job = Some(RunningJob { id, job: job.clone() });
        self.act(Action::Job { id, job });
    }

    pub(crate) fn start_side_job(&mut self, job: Job) {
        assert!(self.server.side_job.is_none(), "one side job at a time");
        let id = self.next_op();
        self.server.side_job = Some(RunningJob { id, job: job.clone() });
        self.act(Action::Job { id, job });
    }

    pub(crate) fn job_done(&mut self, id: OpId, result: Result<JobOutput, JobFailure>) {
        if let Some(side) = self.server.side_job.take_if(|j| j.id == id) {
            self.side_job_done(&side.job, result);
            return;
        }
        let Some(running) = self.server.job.take_if(|j| j.id == id) else { return };
        self.server.changed_at = self.now;
        match result {
            Ok(output) => {
                self.server.failures = 0;
                self.server.retry_at = MonoTime(0);
                self.job_succeeded(running.job, output);
            }
            Err(failure) => self.job_failed(&running.job, &failure),
        }
    }

    fn applied(&mut self, settings: ServerSettings) {
        self.server.applied = Some(Applied { settings, at: self.now });
    }

    fn job_succeeded(&mut self, job: Job, output: JobOutput) {
        match (job, output) {
            (Job::Initialize { settings, .. }, JobOutput::Initialized { system_id, flush }) => {
                self.applied(settings);
                self.initialized(system_id, flush);
            }
            (Job::Clone { incarnation, .. } | Job::Rewind { incarnation, .. }, _) => {
                self.server.applied = None;
                self.server.needs_clone = false;
                self.data_replaced(incarnation);
                self.cloned();
            }
            (Job::Start { settings, standby }, _) => {
                self.applied(settings);
                if !standby {
                    self.server.failed_primary_starts = 0;
                }
            }
            (Job::Configure { settings }, _) => self.applied(settings),
            (Job::Revoke { settings, epoch }, JobOutput::Revoked { timeline, flush }) => {
                self.applied(settings);
                self.revoked(epoch, timeline, flush);
            }
            (Job::Stop { .. }, JobOutput::Stopped { final_lsn }) => {
                self.server.applied = None;
                self.server_stopped(final_lsn);
            }
            (Job::ShutOut { settings, .. }, JobOutput::Flushed { lsn }) => {
                self.applied(settings);
                self.clients_shut_out(lsn);
            }
            (Job::Promote { epoch, .. }, _) => self.promoted(epoch),
            (Job::ProveBlocked | Job::MarkBarrier, JobOutput::Flushed { lsn }) => self.flushed(lsn),
            (Job::BounceSenders { .. }, _) => self.senders_bounced(),
            _ => {}
        }
    }

    fn job_failed(&mut self, job: &Job, failure: &JobFailure) {
        self.server.failures += 1;
        let factor = 1 << self.server.failures.min(6).saturating_sub(1);
        self.server.retry_at = self.now + (RETRY_FIRST * factor).min(RETRY_MOST);
        self.server.storage_failed |= failure.storage;
        self.note(Reason::JobFailed { what: job_name(job), why: failure.message.clone() });
        if matches!(job, Job::Revoke { .. }) {
            self.revocation = None;
        }
        let writes_files = matches!(
            job,
            Job::Configure { .. }
                | Job::Revoke { .. }
                | Job::Start { .. }
                | Job::Promote { .. }
                | Job::ShutOut { .. }
        );
        if writes_files {
            // What the files and the server hold now is not known.
            self.server.applied = None;
        }
        match job {
            Job::Rewind { .. } => self.server.needs_clone |= failure.needs_clone,
            Job::Start { standby: false, .. } => self.server.failed_primary_starts += 1,
            Job::ShutOut { .. } => self.stop_instead(),
            Job::ProveBlocked | Job::MarkBarrier | Job::BounceSenders { .. } => {
                // A change whose transaction is on its way goes on holding the list.
                self.list_change.take_if(|change| change.awaits_job());
            }
            _ => {}
        }
    }

    fn side_job_done(&mut self, job: &Job, result: Result<JobOutput, JobFailure>) {
        let ok = result.is_ok();
        if let Err(failure) = result {
            self.note(Reason::JobFailed { what: job_name(job), why: failure.message });
        }
        match job {
            Job::Checkpoint => self.checkpointed(ok),
            Job::MarkEpoch { .. } => self.epoch_marked(ok),
            _ => {}
        }
    }

    /// Applies settings if the server runs with others; true when there is nothing to do.
    pub(crate) fn settle(&mut self, wanted: &ServerSettings) -> bool {
        if self.server.applied.as_ref().is_some_and(|a| a.settings == *wanted) {
            return true;
        }
        if self.job_free() {
            self.start_job(Job::Configure { settings: wanted.clone() });
        }
        false
    }

    /// Somebody changed owned settings by hand or by ALTER SYSTEM: forget that they are applied.
    pub(crate) fn notice_drift(&mut self) {
        let Some(instance) = self.instance() else { return };
        let observed = self.postgres.as_ref().map_or(MonoTime(0), |p| p.at);
        if self.server.job.is_some() || observed < self.server.changed_at {
            // What a job is just writing is no drift.
            return;
        }
        let names = instance.drifted.join(", ");
        if !names.is_empty() && self.server.applied.as_ref().is_some_and(|a| a.at < observed) {
            self.note(Reason::Drift { names });
            self.server.applied = None;
        }
    }

    pub(crate) fn stop_now(&mut self, mode: StopMode) {
        if self.server.job.is_none() {
            self.start_job(Job::Stop { mode });
        }
    }

    pub(crate) fn instance(&self) -> Option<&Instance> {
        self.postgres.as_ref()?.instance()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.postgres.as_ref().is_some_and(|p| p.process == PostgresProcess::Stopped)
    }

    pub(crate) fn facts(&self) -> Option<&DataFacts> {
        match &self.postgres.as_ref()?.data {
            DataDirectory::Present(facts) => Some(facts),
            _ => None,
        }
    }

    /// Runs as a primary, whoever leads.
    pub(crate) fn runs_as_primary(&self) -> bool {
        self.instance().is_some_and(|i| !i.in_recovery)
    }

    /// Timeline of this member's WAL.
    pub(crate) fn timeline(&self) -> Timeline {
        self.instance().map(|i| i.timeline).or_else(|| self.facts().map(|f| f.timeline)).unwrap_or_default()
    }
}
