//! Jobs that write records, and the writing itself.

use ha_core::Lsn;
use ha_core::standby_names::StandbyName;
use ha_decision::{JobOutput, ServerSettings};

use crate::clock::{MS, SECOND};
use crate::host::Running;
use crate::job::{Next, failed};
use crate::mutant::Mutant;
use crate::postgres_model::wal::lsn;
use crate::postgres_model::{Phase, RecordKind, Waiter};
use crate::world::World;

impl World {
    pub(crate) fn job_prove_blocked(&mut self, host: usize, running: &mut Running) -> Next {
        if !self.hosts[host].server.as_ref().is_some_and(|s| s.phase == Phase::Up && !s.in_recovery) {
            return failed("no primary is running");
        }
        let Some(end) = self.commit(host, None) else { return failed("the commit failed") };
        let waits = self.hosts[host].server.as_mut().is_some_and(|s| s.waiters.remove(&end).is_some());
        if waits {
            return match self.write(host, RecordKind::Mark) {
                Some(end) => Next::Done(JobOutput::Flushed { lsn: lsn(end) }),
                None => failed("the record could not be written"),
            };
        }
        if self.now() - running.begun > 5 * SECOND {
            failed("commits do not wait")
        } else {
            Next::Again(20 * MS)
        }
    }

    pub(crate) fn job_mark_barrier(&mut self, host: usize) -> Next {
        if !self.hosts[host].server.as_ref().is_some_and(|s| s.phase == Phase::Up && !s.in_recovery) {
            return failed("no primary is running");
        }
        match self.write(host, RecordKind::Mark) {
            Some(_) if self.mutant == Mutant::ShrinkWithoutBarrier => {
                Next::Done(JobOutput::Flushed { lsn: Lsn(0) })
            }
            Some(end) => Next::Done(JobOutput::Flushed { lsn: lsn(end) }),
            None => failed("the record could not be written"),
        }
    }

    /// Closes the server, ends its sessions, marks the end of what they wrote and waits until the successor has that.
    pub(crate) fn job_shut_out(
        &mut self,
        host: usize,
        running: &mut Running,
        settings: ServerSettings,
        successor: &StandbyName,
    ) -> Next {
        if !self.hosts[host].server.as_ref().is_some_and(|s| s.phase == Phase::Up && !s.in_recovery) {
            return failed("no primary is running");
        }
        if self.now() - running.begun > 2 * SECOND {
            return failed("it takes too long");
        }
        match running.step {
            0 => {
                self.write_settings(host, settings);
                Next::After(self.rng.between(MS, 8 * MS))
            }
            1 => {
                self.send_reload(host);
                Next::After(5 * MS)
            }
            2 => {
                if let Some(next) = self.wait_for_reload(host, running) {
                    return next;
                }
                if let Some(server) = &mut self.hosts[host].server {
                    server.waiters.clear();
                }
                match self.write(host, RecordKind::Mark) {
                    Some(end) => {
                        running.kept = end as u64;
                        Next::After(5 * MS)
                    }
                    None => failed("the record could not be written"),
                }
            }
            _ => {
                let end = running.kept as usize;
                let Some(server) = &self.hosts[host].server else { return failed("the server is gone") };
                let mut senders = server.senders.values().filter(|s| s.name == *successor);
                if senders.any(|s| s.flush.is_some_and(|flush| flush >= end)) {
                    Next::Done(JobOutput::Flushed { lsn: lsn(end) })
                } else {
                    Next::Again(5 * MS)
                }
            }
        }
    }

    pub(crate) fn job_checkpoint(&mut self, host: usize, step: u32) -> Next {
        if self.hosts[host].server.as_ref().is_none_or(|s| s.phase != Phase::Up) {
            return failed("the server is not running");
        }
        if step == 0 {
            return Next::After(self.rng.between(30 * MS, 1500 * MS));
        }
        if self.hosts[host].is_primary() {
            self.write(host, RecordKind::Checkpoint);
        }
        if let Some(directory) = self.hosts[host].disk.data.present_mut() {
            directory.note_checkpoint();
        }
        Next::Done(JobOutput::Done)
    }

    pub(crate) fn job_mark_epoch(&mut self, host: usize, running: &mut Running) -> Next {
        if !self.hosts[host].server.as_ref().is_some_and(|s| s.phase == Phase::Up && !s.in_recovery) {
            return failed("no primary is running");
        }
        if running.step == 0 {
            return match self.commit(host, None) {
                Some(end) => {
                    running.kept = end as u64;
                    Next::After(5 * MS)
                }
                None => failed("the commit failed"),
            };
        }
        let end = running.kept as usize;
        if self.hosts[host].server.as_ref().is_some_and(|s| !s.waiters.contains_key(&end)) {
            return Next::Done(JobOutput::Done);
        }
        if self.now() - running.begun > 10 * SECOND {
            // The agent gives up and cancels its own session; nobody takes that for an acknowledgement.
            if let Some(server) = &mut self.hosts[host].server {
                server.waiters.remove(&end);
            }
            return failed("the quorum does not confirm");
        }
        Next::Again(20 * MS)
    }

    /// Commits a record at `synchronous_commit = on`; returns its LSN. The answer, if there is one, is noted.
    pub(crate) fn commit(&mut self, host: usize, client: Option<usize>) -> Option<usize> {
        let record = self.number();
        let waiter = Waiter { record, client };
        let (server, _) = self.hosts[host].running()?;
        if server.in_recovery || server.phase != Phase::Up || !self.server_runs(host) || self.panics(host) {
            return None;
        }
        let (server, directory) = self.hosts[host].running()?;
        let (end, answered) = server.commit(directory, waiter);
        let (system, timeline) = (directory.system_id, directory.wal.timeline());
        self.checker.written(host, system, end, record, timeline);
        if answered {
            self.answered(host, vec![(end, waiter)]);
        }
        self.pump_all(host);
        Some(end)
    }

    /// Writes and flushes a record that nobody waits for; returns its LSN.
    pub(crate) fn write(&mut self, host: usize, kind: RecordKind) -> Option<usize> {
        let id = self.number();
        let (server, _) = self.hosts[host].running()?;
        if server.in_recovery || self.panics(host) {
            return None;
        }
        let (server, directory) = self.hosts[host].running()?;
        let end = server.write(directory, id, kind);
        let (system, timeline) = (directory.system_id, directory.wal.timeline());
        self.checker.written(host, system, end, id, timeline);
        self.pump_all(host);
        Some(end)
    }
}
