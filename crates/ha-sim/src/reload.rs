//! The agent-owned settings: written once, read by each process at its own time.

use ha_decision::{Access, ServerSettings};

use crate::clock::MS;
use crate::mutant::Mutant;
use crate::postgres_model::Data;
use crate::world::{Ev, Process, World};

impl World {
    /// Writes the agent-owned files; a password file appears for the epoch of the upstream.
    pub(crate) fn write_settings(&mut self, host: usize, mut settings: ServerSettings) {
        if let Some(upstream) = &settings.upstream {
            self.hosts[host].disk.passfiles.insert(upstream.announced.epoch);
        }
        if let Data::Present(directory) = &mut self.hosts[host].disk.data {
            if settings.access == Access::Keep {
                settings.access = directory.settings.access;
            }
            directory.settings = settings;
        }
        self.checker.look_again();
    }

    /// SIGHUP to the postmaster, which reads the files and then signals the children that it has at
    /// that moment (`process_pm_reload_request` of PostgreSQL's postmaster.c).
    pub(crate) fn send_reload(&mut self, host: usize) {
        let Some(server) = &self.hosts[host].server else { return };
        let life = server.life;
        self.signal(host, life, Process::Postmaster);
    }

    /// Every process reads the files at its own time after the signal.
    fn signal(&mut self, host: usize, life: u64, process: Process) {
        let mut delay = self.rng.between(MS, 30 * MS);
        if self.rng.chance(self.plan.late_reloads) {
            delay += self.rng.between(10 * MS, 2500 * MS);
        }
        self.queue.after(delay, Ev::Reload { host, life, process });
    }

    pub(crate) fn reload(&mut self, host: usize, life: u64, process: Process) {
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let settings = directory.settings.clone();
        let answered = match process {
            Process::Postmaster => {
                server.postmaster = settings;
                let senders: Vec<Process> = server.senders.keys().map(|pid| Process::Sender(*pid)).collect();
                let others = [Process::Checkpointer, Process::Startup, Process::Session];
                for child in others.into_iter().chain(senders) {
                    self.signal(host, life, child);
                }
                Vec::new()
            }
            Process::Session => {
                server.session_names = settings.standby_names;
                Vec::new()
            }
            Process::Startup => {
                let same = server.startup_upstream == settings.upstream;
                server.startup_upstream = settings.upstream;
                // The startup process ends a walreceiver whose conninfo has changed.
                if !same && server.receiver.is_some() {
                    self.terminate_receiver(host);
                }
                Vec::new()
            }
            Process::Checkpointer => server.checkpointer_reloads(&settings.standby_names),
            Process::Sender(pid) => server.sender_reloads(pid, &settings.standby_names),
        };
        self.checker.look_again();
        self.answered(host, answered);
    }

    /// The mutant that relaxes the list of a leader that steps down.
    pub(crate) fn empty_list_of_demoted(&mut self, host: usize) {
        let leads = self.store.sync.as_ref().is_some_and(|s| s.record.leader.member == self.hosts[host].name);
        if self.mutant != Mutant::ListEmptiedOnDemotion || leads || !self.hosts[host].is_primary() {
            return;
        }
        let Some(sync) = &self.store.sync else { return };
        let mut pinned = sync.record.clone();
        pinned.policy = ha_core::record::Policy::pinned(pinned.epoch);
        if let Some(directory) = self.hosts[host].disk.data.present_mut() {
            directory.settings.standby_names = ha_core::standby_names::StandbyNames::of_record(&pinned);
        }
        self.send_reload(host);
    }
}
