//! Jobs: each a few steps with pauses between them. An agent that dies leaves its jobs where they were.

use ha_core::record::PolicyKind;
use ha_decision::{Event, GuardNeed, Job, JobFailure, JobOutput, OpId, StopMode};

use crate::clock::{MS, SECOND};
use crate::host::Running;
use crate::mutant::Mutant;
use crate::postgres_model::wal::lsn;
use crate::postgres_model::{Phase, RecordKind, Server};
use crate::standstill::storage_failed;
use crate::world::{Ev, World};

/// How a step ends.
pub(crate) enum Next {
    /// The next step, after a pause.
    After(u64),
    /// The same step again, after a pause.
    Again(u64),
    /// The job has ended.
    Done(JobOutput),
    /// It failed.
    Failed(JobFailure),
}

/// A failure that may pass.
pub(crate) fn failed(message: &str) -> Next {
    Next::Failed(JobFailure { message: message.to_owned(), needs_clone: false, storage: false })
}

impl World {
    pub(crate) fn job_begins(&mut self, host: usize, agent: u64, op: OpId, job: Job) {
        let begun = self.now();
        self.tally.jobs += 1;
        self.checker.job_begins(host, &job, &self.store.authority, &self.hosts);
        if let Some(a) = self.hosts[host].agent(agent) {
            a.jobs.insert(op, Running { job, step: 0, begun, kept: 0, result: None });
            let pause = self.rng.between(MS, 4 * MS);
            self.queue.after(pause, Ev::JobStep { host, agent, op });
        }
    }

    pub(crate) fn job_step(&mut self, host: usize, agent: u64, op: OpId) {
        let now = self.now();
        let h = &mut self.hosts[host];
        let frozen = h.frozen_until;
        let Some(a) = h.agent(agent) else { return };
        if frozen > now {
            self.queue.at(frozen, Ev::JobStep { host, agent, op });
            return;
        }
        let Some(mut running) = a.jobs.remove(&op) else { return };
        let broken = self.healed_at.is_none() && self.rng.chance(self.plan.failing_jobs);
        let next = if broken {
            self.tally.jobs_failed += 1;
            failed("it failed, as things do")
        } else {
            match self.job_on_frozen_server(host, &running) {
                Some(next) => next,
                None => self.job_part(host, &mut running),
            }
        };
        let (pause, result) = match next {
            Next::After(pause) => {
                running.step += 1;
                (pause, None)
            }
            Next::Again(pause) => (pause, None),
            Next::Done(output) => (0, Some(Ok(output))),
            Next::Failed(failure) => (0, Some(Err(failure))),
        };
        match result {
            None => {
                if let Some(a) = self.hosts[host].agent(agent) {
                    a.jobs.insert(op, running);
                }
                let slow = if self.hosts[host].slow_until > now { 5 } else { 1 };
                self.queue.after(pause * slow, Ev::JobStep { host, agent, op });
            }
            Some(result) => {
                self.news(host, 0, Event::JobDone { id: op, result });
                self.observe_after(host, MS);
            }
        }
    }

    fn job_part(&mut self, host: usize, running: &mut Running) -> Next {
        match running.job.clone() {
            Job::Initialize { incarnation, settings } => {
                self.job_initialize(host, running.step, incarnation, settings)
            }
            Job::Clone { source, incarnation } => {
                let job = crate::job_copy::Copy { source, incarnation };
                self.job_clone(host, running, &job)
            }
            Job::Rewind { source, incarnation } => {
                let job = crate::job_copy::Copy { source, incarnation };
                self.job_rewind(host, running, &job)
            }
            Job::WriteIncarnation { incarnation } => match self.hosts[host].disk.data.present_mut() {
                Some(directory) => {
                    directory.incarnation = Some(incarnation);
                    self.checker.look_again();
                    Next::Done(JobOutput::Done)
                }
                None => failed("no data directory"),
            },
            Job::Start { standby, settings } => self.job_start(host, running.step, standby, settings),
            Job::Stop { mode } => self.job_stop(host, running, mode),
            Job::Configure { settings } => self.job_configure(host, running, settings),
            Job::Revoke { epoch, settings } => self.job_revoke(host, running, epoch, settings),
            Job::Promote { epoch, timeline, taken } => {
                self.job_promote(host, running.step, epoch, timeline, &taken)
            }
            Job::ProveBlocked => self.job_prove_blocked(host, running),
            Job::MarkBarrier => self.job_mark_barrier(host),
            Job::ShutOut { settings, successor } => self.job_shut_out(host, running, settings, &successor),
            Job::BounceSenders { pids } => {
                let life = self.hosts[host].server.as_ref().map(|s| s.life);
                let Some(life) = life else { return failed("the server is not running") };
                for sender in pids {
                    self.sender_ends(host, life, sender);
                }
                Next::Done(JobOutput::Done)
            }
            Job::Checkpoint => self.job_checkpoint(host, running.step),
            Job::MarkEpoch { .. } => self.job_mark_epoch(host, running),
        }
    }

    fn job_stop(&mut self, host: usize, running: &mut Running, mode: StopMode) -> Next {
        let now = self.now();
        let Some(server) = &self.hosts[host].server else {
            return Next::Done(JobOutput::Stopped { final_lsn: None });
        };
        let immediate = mode == StopMode::Immediate || server.phase == Phase::Starting;
        if running.step == 0 {
            self.empty_list_of_demoted(host);
        }
        if immediate {
            if running.step == 0 {
                return Next::After(self.rng.between(5 * MS, 60 * MS));
            }
            self.server_dies(host);
            return Next::Done(JobOutput::Stopped { final_lsn: None });
        }
        match running.step {
            0 => {
                // Sessions end without an answer.
                if let Some(server) = &mut self.hosts[host].server {
                    server.phase = Phase::Stopping;
                    server.waiters.clear();
                    // It ends by itself, whether or not somebody still waits for it.
                    let life = server.life;
                    self.queue.after(6 * SECOND, Ev::StopEnds { host, life });
                }
                Next::After(self.rng.between(20 * MS, 200 * MS))
            }
            1 => {
                if self.hosts[host].is_primary() {
                    running.kept = self.write(host, RecordKind::Shutdown).unwrap_or(0) as u64;
                } else if let Some((server, directory)) = self.hosts[host].running() {
                    server.receiver = None;
                    directory.flushed = directory.wal.end();
                    running.kept = directory.flushed as u64;
                }
                Next::After(5 * MS)
            }
            _ => {
                let end = running.kept as usize;
                let all_sent = self.hosts[host].server.as_ref().is_some_and(|s| {
                    s.in_recovery || s.senders.values().all(|x| x.flush.is_some_and(|f| f >= end))
                });
                if !all_sent && now - running.begun < 3 * SECOND {
                    return Next::Again(10 * MS);
                }
                if !all_sent {
                    self.server_dies(host);
                    return Next::Done(JobOutput::Stopped { final_lsn: None });
                }
                let standby = !self.hosts[host].is_primary();
                self.server_dies(host);
                if let Some(directory) = self.hosts[host].disk.data.present_mut() {
                    use ha_core::postgres_view::ControlState as S;
                    directory.state = if standby { S::ShutDownInRecovery } else { S::ShutDown };
                    directory.note_checkpoint();
                }
                let final_lsn = (!standby).then(|| lsn(end));
                Next::Done(JobOutput::Stopped { final_lsn })
            }
        }
    }

    fn job_configure(
        &mut self,
        host: usize,
        running: &mut Running,
        settings: ha_decision::ServerSettings,
    ) -> Next {
        if self.hosts[host].server.as_ref().is_none_or(|s| s.phase != Phase::Up) {
            return failed("the server is not running");
        }
        match running.step {
            0 => {
                self.write_settings(host, settings);
                self.empty_list_of_demoted(host);
                Next::After(self.rng.between(MS, 8 * MS))
            }
            1 => {
                self.send_reload(host);
                Next::After(5 * MS)
            }
            _ => self.wait_for_reload(host, running).unwrap_or(Next::Done(JobOutput::Done)),
        }
    }

    /// `None` once the postmaster and the agent's session have read the file. The others may lag.
    pub(crate) fn wait_for_reload(&mut self, host: usize, running: &Running) -> Option<Next> {
        let late = self.now() - running.begun > 10 * SECOND;
        let (server, directory) = self.hosts[host].running()?;
        let wanted = &directory.settings;
        if server.postmaster == *wanted && server.session_names == wanted.standby_names {
            return None;
        }
        Some(if late { failed("the server does not read its settings") } else { Next::Again(10 * MS) })
    }

    fn job_revoke(
        &mut self,
        host: usize,
        running: &mut Running,
        epoch: ha_core::Epoch,
        settings: ha_decision::ServerSettings,
    ) -> Next {
        match &self.hosts[host].server {
            None if running.step < 2 => return self.start_revoked(host, running, epoch, settings),
            Some(server) if server.in_recovery && server.phase == Phase::Starting => {
                return Next::Again(20 * MS);
            }
            Some(server) if server.in_recovery && server.phase == Phase::Up => {}
            _ => return failed("no standby is running"),
        }
        if self.mutant == Mutant::PromiseWithoutStop && running.step == 0 {
            running.step = 3;
        }
        match running.step {
            0 => {
                if self.mutant != Mutant::PasswordFileKept {
                    self.hosts[host].disk.passfiles.retain(|e| *e > epoch);
                }
                Next::After(self.rng.between(MS, 10 * MS))
            }
            1 => {
                self.write_settings(host, settings);
                self.send_reload(host);
                self.terminate_receiver(host);
                Next::After(5 * MS)
            }
            2 => {
                let Some((server, directory)) = self.hosts[host].running() else {
                    return failed("the server is gone");
                };
                if server.receiver.is_some() {
                    self.terminate_receiver(host);
                    return Next::Again(10 * MS);
                }
                if server.replay < directory.wal.end() {
                    return Next::Again(10 * MS);
                }
                Next::After(10 * MS)
            }
            _ => {
                let (mutant, less) = (self.mutant, self.rng.index(60));
                let Some((server, directory)) = self.hosts[host].running() else {
                    return failed("the server is gone");
                };
                let exact = server.receiver.is_none() && server.replay == directory.wal.end();
                let less = if mutant == Mutant::PositionUnderReported { less } else { 0 };
                let output = JobOutput::Revoked {
                    timeline: directory.wal.timeline(),
                    flush: lsn(directory.wal.end().saturating_sub(less)),
                };
                if !exact && self.mutant != Mutant::PromiseWithoutStop {
                    running.step = 2;
                    return Next::Again(10 * MS);
                }
                self.checker.revoked(host, epoch, &self.hosts[host]);
                if self.rng.chance(self.plan.dying_promisers)
                    && let Some(agent) = self.hosts[host].agent.as_ref().map(|a| a.number)
                {
                    let fate = self.rng.between(MS, 800 * MS);
                    self.queue.after(fate, Ev::AgentDies { host, agent });
                }
                Next::Done(output)
            }
        }
    }

    /// A stopped standby is started without upstream, because only a running one knows what it holds.
    fn start_revoked(
        &mut self,
        host: usize,
        running: &mut Running,
        epoch: ha_core::Epoch,
        settings: ha_decision::ServerSettings,
    ) -> Next {
        if self.hosts[host].disk.data.present().is_none_or(|d| d.facts().is_primary_shaped()) {
            return failed("the directory's last life was a primary's");
        }
        self.hosts[host].disk.passfiles.retain(|e| *e > epoch);
        self.write_settings(host, settings);
        self.guard_starts_server(host);
        running.step = 2;
        Next::Again(20 * MS)
    }

    fn job_promote(
        &mut self,
        host: usize,
        step: u32,
        epoch: ha_core::Epoch,
        timeline: ha_core::Timeline,
        taken: &[ha_core::Timeline],
    ) -> Next {
        if self.hosts[host].server.as_ref().is_none_or(|s| s.phase != Phase::Up || !s.in_recovery) {
            return failed("no standby is running");
        }
        if step == 0 {
            if let Some(directory) = self.hosts[host].disk.data.present_mut() {
                directory.history_files.extend(taken.iter().copied());
            }
            return Next::After(self.rng.between(40 * MS, 400 * MS));
        }
        let id = self.number();
        if self.panics(host) {
            return storage_failed();
        }
        let Some((server, directory)) = self.hosts[host].running() else {
            return failed("the server is gone");
        };
        let (parent, switch, system) = (directory.wal.timeline(), directory.wal.end(), directory.system_id);
        let got = directory.next_timeline();
        let end = server.promote(directory, id, got);
        self.tally.promotions += 1;
        let name = self.host_name(host).to_owned();
        self.say(|| format!("{name}: PostgreSQL is a primary on timeline {got}, left {parent} at {switch}"));
        self.checker.promoted(host, epoch, got);
        self.nobody_else_writes(host);
        self.checker.written(host, system, end, id, got);
        if got == timeline { Next::Done(JobOutput::Done) } else { failed("another timeline was taken") }
    }

    /// Without confirmations only the old leader's end makes a new one safe: its guard must have seen to it, unless the
    /// plan keeps guards from it or an operator holds them back.
    fn nobody_else_writes(&mut self, host: usize) {
        let now = self.now();
        // A server whose commits wait harms nobody; one that was promoted long ago and wakes up from a standstill is such.
        let waits = self.hosts[host].server.as_ref().is_some_and(|server| server.commits_wait);
        let asynchronous = !waits
            && self.store.sync.as_ref().is_some_and(|s| s.record.policy.kind == PolicyKind::Asynchronous);
        if !asynchronous || self.plan.guard != GuardNeed::Required {
            return;
        }
        let other = self.hosts.iter().enumerate().find(|(i, h)| {
            let watched = h.guard.watches(h.time(now));
            let takes = h.server.as_ref().is_some_and(Server::takes_commits) && self.server_runs(*i);
            *i != host && takes && watched
        });
        if let Some(other) = other.map(|(_, h)| h.name.clone()) {
            let story = format!("pg{} was promoted while {other} takes commits", host + 1);
            self.fail("1P one writable primary past the deadline", story);
        }
    }
}
