//! Runs the decider's jobs.

use ha_core::MemberName;
use ha_decision::{Job, JobFailure, JobOutput};

use crate::postgres::{Error, Postgres};

/// Carries out one job after the other on one server.
#[derive(Debug, Clone)]
pub struct Executor {
    postgres: Postgres,
}

impl Executor {
    /// For this server.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// Runs a job to its end. Dropping the future ends programs that it runs; what was written stays, and the durable
    /// job marker tells.
    ///
    /// # Errors
    /// Why it failed, and whether only a clone or a hand-over helps.
    pub async fn run(&self, job: Job) -> Result<JobOutput, JobFailure> {
        let postgres = &self.postgres;
        let log_before = postgres.log_position();
        let result = Box::pin(self.perform(job)).await;
        result.map_err(|error| {
            let mut failure = JobFailure::from(error);
            failure.storage |= postgres.log_speaks_of_storage(log_before);
            failure
        })
    }

    async fn perform(&self, job: Job) -> Result<JobOutput, Error> {
        let postgres = &self.postgres;
        let done = |()| JobOutput::Done;
        match job {
            Job::Initialize { incarnation, settings } => {
                let (system_id, flush) = postgres.initialize(incarnation, &settings).await?;
                Ok(JobOutput::Initialized { system_id, flush })
            }
            Job::Clone { source, incarnation } => postgres.clone_from(&source, incarnation).await.map(done),
            Job::Rewind { source, incarnation } => postgres.rewind(&source, incarnation).await.map(done),
            Job::WriteIncarnation { incarnation } => postgres.write_incarnation(incarnation).await.map(done),
            Job::Start { standby, settings } => postgres.start(standby, &settings).await.map(done),
            Job::Stop { mode } => {
                let final_lsn = postgres.stop(mode).await?;
                Ok(JobOutput::Stopped { final_lsn })
            }
            Job::Configure { settings } => postgres.configure(settings).await.map(done),
            Job::Revoke { epoch, settings } => {
                let (timeline, flush) = postgres.revoke(epoch, &settings).await?;
                Ok(JobOutput::Revoked { timeline, flush })
            }
            Job::Promote { epoch: _, timeline, taken } => postgres.promote(timeline, &taken).await.map(done),
            Job::ProveBlocked => postgres.prove_blocked().await.map(|lsn| JobOutput::Flushed { lsn }),
            Job::MarkBarrier => postgres.mark_barrier().await.map(|lsn| JobOutput::Flushed { lsn }),
            Job::ShutOut { settings, successor } => {
                postgres.shut_out(settings, &successor).await.map(|lsn| JobOutput::Flushed { lsn })
            }
            Job::BounceSenders { pids } => postgres.bounce_senders(&pids).await.map(done),
            Job::Checkpoint => postgres.checkpoint().await.map(done),
            Job::MarkEpoch { epoch } => postgres.mark_epoch(epoch).await.map(done),
        }
    }

    /// Keeps the slots of the other members. Failures are only logged: the next round tries again.
    pub async fn keep_slots(&self, members: Vec<(MemberName, Option<ha_core::Lsn>)>) {
        if let Err(error) = self.postgres.keep_slots(&members).await {
            tracing::warn!(%error, "slots of the other members were not all kept");
        }
    }
}
