//! Hosts that stand still as a whole, as a paused virtual machine does, servers whose processes are stopped one by one,
//! and storage that refuses to be written. What comes to something that stands still waits for it, in order.

use ha_decision::{Job, JobFailure, JobOutput};

use crate::clock::{MS, SECOND};
use crate::host::Running;
use crate::job::{Next, failed};
use crate::world::{Ev, World};

/// How long an agent waits for a server that does not answer.
const AGENT_PATIENCE: u64 = 10 * SECOND;
/// After so long a stop is a kill; it needs no cooperation.
const STOP_PATIENCE: u64 = 4 * SECOND;

impl World {
    /// Whether a server runs here and does anything.
    pub(crate) fn server_runs(&self, host: usize) -> bool {
        let (now, h) = (self.now(), &self.hosts[host]);
        h.paused_until <= now && h.server.as_ref().is_some_and(|s| s.frozen_until <= now)
    }

    /// Until when the target of an event stands still, if it does.
    pub(crate) fn sleeps_until(&self, event: &Ev) -> Option<u64> {
        let now = self.now();
        let paused = |host: usize| self.hosts[host].paused_until;
        let until = match *event {
            Ev::AgentDies { host, .. }
            | Ev::AgentStarts { host, .. }
            | Ev::Wake { host, .. }
            | Ev::ToAgent { host, .. }
            | Ev::Observe { host, .. }
            | Ev::JobStep { host, .. }
            | Ev::GuardDue { host, .. }
            | Ev::FenceNoted { host, .. }
            | Ev::LeaseAsked { host, .. }
            | Ev::StopEnds { host, .. } => paused(host),
            Ev::PeerPump { from, to } => paused(from).max(paused(to)),
            Ev::StoreAnswers { call, .. } | Ev::StoreTimeout { call } => {
                self.store.caller(call).map_or(0, paused)
            }
            Ev::Reload { host, life, .. }
            | Ev::ServerUp { host, life }
            | Ev::ReceiverTry { host, life }
            | Ev::ReceiverConnects { host, life, .. }
            | Ev::ReceiverEnds { host, life, .. }
            | Ev::Pump { host, life, .. }
            | Ev::WalArrives { host, life, .. }
            | Ev::Flush { host, life, .. }
            | Ev::Confirm { host, life, .. }
            | Ev::SenderEnds { host, life, .. }
            | Ev::Replay { host, life, .. } => {
                let server = self.hosts[host].server.as_ref().filter(|s| s.life == life);
                paused(host).max(server.map_or(0, |s| s.frozen_until))
            }
            Ev::ReadRuns(ref read) => {
                let (host, life) = read.of();
                let server = self.hosts[host].server.as_ref().filter(|s| s.life == life);
                paused(host).max(server.map_or(0, |s| s.frozen_until))
            }
            _ => 0,
        };
        (until > now).then_some(until)
    }

    /// Every process of the host stands still and its clock goes on.
    pub(crate) fn pause_host(&mut self, host: usize, duration: u64) {
        if !self.hosts[host].powered {
            return;
        }
        let until = self.now() + duration;
        // Never shorter than an earlier one: what waits must come in order.
        self.hosts[host].paused_until = self.hosts[host].paused_until.max(until);
        self.net.silence(host);
        self.topology_changed();
        self.queue.after(duration, Ev::HostResumes { host });
    }

    pub(crate) fn host_resumes(&mut self, host: usize) {
        if self.hosts[host].paused_until > self.now() {
            return;
        }
        self.net.unsilence(host);
        self.topology_changed();
        let name = self.host_name(host).to_owned();
        self.say(|| format!("{name}: goes on, and its clock has jumped"));
    }

    /// The postmaster and all its children are stopped; they are there and say nothing.
    pub(crate) fn freeze_server(&mut self, host: usize, duration: u64) {
        let until = self.now() + duration;
        if let Some(server) = &mut self.hosts[host].server {
            server.frozen_until = server.frozen_until.max(until);
        }
    }

    /// What a job can do while the server says nothing; none when it needs no answer.
    pub(crate) fn job_on_frozen_server(&mut self, host: usize, running: &Running) -> Option<Next> {
        let now = self.now();
        self.hosts[host].server.as_ref().filter(|s| s.frozen_until > now)?;
        let waited = now - running.begun;
        match running.job {
            Job::Stop { .. } if waited >= STOP_PATIENCE => {
                self.server_dies(host);
                Some(Next::Done(JobOutput::Stopped { final_lsn: None }))
            }
            Job::Initialize { .. }
            | Job::Clone { .. }
            | Job::Rewind { .. }
            | Job::WriteIncarnation { .. }
            | Job::Start { .. } => None,
            Job::Stop { .. } => Some(Next::Again(100 * MS)),
            _ if waited >= AGENT_PATIENCE => Some(failed("the server does not answer")),
            _ => Some(Next::Again(100 * MS)),
        }
    }

    /// Whether storage refuses writes here.
    pub(crate) fn storage_refuses(&self, host: usize) -> bool {
        self.hosts[host].storage_broken_until > self.now()
    }

    /// A server could not write its WAL: PANIC. True when it was so.
    pub(crate) fn panics(&mut self, host: usize) -> bool {
        if !self.storage_refuses(host) {
            return false;
        }
        if let Some((_, directory)) = self.hosts[host].running() {
            directory.wal.truncate(directory.flushed);
            self.tally.panics += 1;
            self.server_dies(host);
        }
        true
    }
}

/// A job found the storage full or broken.
pub(crate) fn storage_failed() -> Next {
    Next::Failed(JobFailure {
        message: "no space left on device".to_owned(),
        needs_clone: false,
        storage: true,
    })
}
