//! Jobs that make or replace a data directory: `initdb`, base backup, rewind; and the start of a server.

use ha_core::Incarnation;
use ha_core::postgres_view::ControlState;
use ha_decision::{JobFailure, JobOutput, ServerSettings, Upstream};

use crate::clock::MS;
use crate::host::Running;
use crate::job::{Next, failed};
use crate::mutant::Mutant;
use crate::postgres_model::{Data, Directory, Phase, RecordKind, Server};
use crate::standstill::storage_failed;
use crate::world::{Ev, World};

/// What is copied from whom.
pub(crate) struct Copy {
    pub(crate) source: Upstream,
    pub(crate) incarnation: Incarnation,
}

impl World {
    pub(crate) fn job_initialize(
        &mut self,
        host: usize,
        step: u32,
        incarnation: Incarnation,
        settings: ServerSettings,
    ) -> Next {
        match step {
            0 => {
                // What an interrupted initdb left behind goes first.
                self.server_dies(host);
                self.lose_data(host, Data::Broken);
                Next::After(self.rng.between(500 * MS, 3000 * MS))
            }
            1 => {
                let system_id = self.new_system_id();
                let base = [self.number(), self.number(), self.number()];
                let directory = Directory::initialized(system_id, incarnation, &base, settings);
                for (at, id) in base.into_iter().enumerate() {
                    self.checker.written(host, system_id, at + 1, id, ha_core::Timeline(1));
                }
                self.hosts[host].disk.data = Data::Present(Box::new(directory));
                self.guard_starts_server(host);
                Next::After(20 * MS)
            }
            _ => {
                let Some(server) = &self.hosts[host].server else { return failed("the server died") };
                if server.phase != Phase::Up {
                    return Next::Again(20 * MS);
                }
                self.write(host, RecordKind::Mark);
                match self.hosts[host].disk.data.present() {
                    Some(d) => Next::Done(JobOutput::Initialized {
                        system_id: d.system_id,
                        flush: crate::postgres_model::wal::lsn(d.flushed),
                    }),
                    None => failed("the directory is gone"),
                }
            }
        }
    }

    /// The server that a copy comes from, if it can be reached now: its host, its life and its directory.
    fn copy_source(&self, host: usize, source: &Upstream) -> Option<(usize, u64, &Directory)> {
        let from = self.index_of(&source.member)?;
        let server = self.hosts[from].server.as_ref().filter(|s| s.phase == Phase::Up)?;
        let directory = self.hosts[from].disk.data.present()?;
        (from != host && self.net.both(host, from) && self.server_runs(from)).then_some((
            from,
            server.life,
            directory,
        ))
    }

    pub(crate) fn job_clone(&mut self, host: usize, running: &mut Running, copy: &Copy) -> Next {
        if self.hosts[host].server.is_some() {
            return failed("the server is running");
        }
        if self.storage_refuses(host) {
            return storage_failed();
        }
        let Some((_, life, directory)) = self.copy_source(host, &copy.source) else {
            return failed("the source cannot be reached");
        };
        if running.step == 0 {
            running.kept = life;
            self.lose_data(host, Data::Broken);
            return Next::After(self.rng.between(400 * MS, 5000 * MS));
        }
        if running.kept != life {
            return failed("the source was restarted");
        }
        let copied = directory.copied(copy.incarnation);
        self.lose_data(host, Data::Present(Box::new(copied)));
        self.tally.clones += 1;
        Next::Done(JobOutput::Done)
    }

    pub(crate) fn job_rewind(&mut self, host: usize, running: &mut Running, copy: &Copy) -> Next {
        if running.step == 0 {
            self.server_dies(host);
            if self.hosts[host].disk.data.present().is_none() {
                return needs_clone("no usable data directory");
            }
            if self.healed_at.is_none() && self.rng.chance(60) {
                return needs_clone("WAL before the fork point is gone");
            }
            return Next::After(self.rng.between(150 * MS, 2000 * MS));
        }
        if self.storage_refuses(host) {
            return storage_failed();
        }
        if let Some(result) = running.result.take() {
            self.lose_data(host, Data::Present(result));
            self.tally.rewinds += 1;
            return Next::Done(JobOutput::Done);
        }
        if self.hosts[host].server.is_some() {
            return failed("the server is running");
        }
        let Some((_, _, source)) = self.copy_source(host, &copy.source) else {
            return failed("the source cannot be reached");
        };
        let Data::Present(own) = &self.hosts[host].disk.data else {
            return needs_clone("no usable data directory");
        };
        if own.system_id != source.system_id {
            return needs_clone("another cluster's data");
        }
        // pg_rewind judges the source by its control file, which shows the old timeline until the first checkpoint
        // after a promotion; then it finds nothing to do.
        if source.checkpoint_timeline != source.wal.timeline() {
            let mut same = own.clone();
            (same.standby_signal, same.incarnation) = (true, Some(copy.incarnation));
            self.lose_data(host, Data::Present(same));
            self.tally.futile_rewinds += 1;
            return Next::Done(JobOutput::Done);
        }
        let mut result = source.copied(copy.incarnation);
        result.history_files.extend(own.history_files.iter().copied());
        // From here on the directory is half rewritten.
        running.result = Some(Box::new(result));
        self.lose_data(host, Data::Broken);
        Next::After(self.rng.between(20 * MS, 400 * MS))
    }

    /// A directory is replaced: whatever only it held is gone.
    fn lose_data(&mut self, host: usize, new: Data) {
        self.checker.data_replaced(host, &self.store.authority, &self.hosts[host], &new);
        self.hosts[host].disk.data = new;
    }

    pub(crate) fn job_start(
        &mut self,
        host: usize,
        step: u32,
        standby: bool,
        mut settings: ServerSettings,
    ) -> Next {
        match step {
            0 => {
                if let (Mutant::ResumeWithOldFile, false, Some(directory)) =
                    (self.mutant, standby, self.hosts[host].disk.data.present())
                {
                    settings.standby_names = directory.settings.standby_names.clone();
                }
                if self.hosts[host].server.is_some() {
                    return failed("the server is running");
                }
                if self.hosts[host].disk.data.present().is_none() {
                    return failed("no usable data directory");
                }
                if self.storage_refuses(host) && self.rng.chance(800) {
                    return storage_failed();
                }
                self.write_settings(host, settings);
                if let Some(directory) = self.hosts[host].disk.data.present_mut() {
                    directory.standby_signal = standby;
                }
                Next::After(self.rng.between(10 * MS, 80 * MS))
            }
            1 => {
                self.guard_starts_server(host);
                Next::After(20 * MS)
            }
            _ => match &self.hosts[host].server {
                None => failed("the server died"),
                Some(server) if server.phase != Phase::Up => Next::Again(20 * MS),
                Some(_) => Next::Done(JobOutput::Done),
            },
        }
    }

    /// The postmaster starts on what is in the directory.
    pub(crate) fn launch_server(&mut self, host: usize) {
        let life = self.number();
        if self.hosts[host].server.is_some() {
            return;
        }
        let Data::Present(directory) = &mut self.hosts[host].disk.data else { return };
        let in_recovery = directory.standby_signal;
        let crashed = !matches!(directory.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
        let server = Server::starting(life, in_recovery, directory);
        self.hosts[host].server = Some(server);
        let took =
            if crashed { self.rng.between(80 * MS, 1500 * MS) } else { self.rng.between(40 * MS, 300 * MS) };
        self.queue.after(took, Ev::ServerUp { host, life });
        let name = self.host_name(host).to_owned();
        let role = if in_recovery { "standby" } else { "primary" };
        self.say(|| format!("{name}: PostgreSQL starts as a {role}"));
        self.checker.look_again();
    }

    pub(crate) fn server_up(&mut self, host: usize, life: u64) {
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        server.phase = Phase::Up;
        if server.in_recovery {
            directory.state = ControlState::InArchiveRecovery;
            let end = directory.flushed;
            self.queue.after(MS, Ev::ReceiverTry { host, life });
            let took = self.rng.between(5 * MS, 300 * MS);
            self.queue.after(took, Ev::Replay { host, life, to: end });
        } else {
            directory.state = ControlState::InProduction;
            if self.write(host, RecordKind::Checkpoint).is_none() {
                return;
            }
            if let Some(directory) = self.hosts[host].disk.data.present_mut() {
                directory.note_checkpoint();
            }
            self.checker.opened(host, &self.store.authority, &self.hosts);
        }
        self.checker.look_again();
    }

    /// A fast stop that nobody followed to its end.
    pub(crate) fn stop_ends(&mut self, host: usize, life: u64) {
        let stopping = |s: &Server| s.life == life && s.phase == Phase::Stopping;
        if self.hosts[host].server.as_ref().is_some_and(stopping) {
            self.server_dies(host);
        }
    }

    /// Every process of the server is gone at once.
    pub(crate) fn server_dies(&mut self, host: usize) {
        if self.hosts[host].server.take().is_some() {
            let name = self.host_name(host).to_owned();
            self.say(|| format!("{name}: PostgreSQL is gone"));
            self.checker.look_again();
            self.observe_after(host, 20 * MS);
            self.guard_sees_exit(host);
        }
    }
}

fn needs_clone(message: &str) -> Next {
    Next::Failed(JobFailure { message: message.to_owned(), needs_clone: true, storage: false })
}
