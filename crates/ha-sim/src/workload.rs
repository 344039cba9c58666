//! Clients: each commits one numbered row after another on whatever server lets it in, and waits for the answer.

use ha_core::MemberName;

use crate::clock::{MS, SECOND};
use crate::postgres_model::Phase;
use crate::world::{Ev, World};

/// One client.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// The server it is connected to: host and life.
    session: Option<(usize, u64)>,
    /// The commit that it waits for: host, record, since when.
    waiting: Option<(usize, u64, u64)>,
    /// Voids older alarms.
    token: u64,
}

impl World {
    /// The client acts again after a while.
    pub(crate) fn client_rests(&mut self, client: usize, pause: u64) {
        self.clients[client].token += 1;
        let token = self.clients[client].token;
        self.queue.after(pause, Ev::Client { client, token });
    }

    pub(crate) fn client(&mut self, client: usize, token: u64) {
        if self.clients[client].token != token {
            return;
        }
        if self.clients[client].waiting.take().is_some() {
            // It has waited too long, hangs up, and does not know whether its row is there.
            self.clients[client].session = None;
            self.tally.given_up += 1;
        }
        let session = self.clients[client].session.filter(|(host, life)| {
            self.hosts[*host]
                .server
                .as_ref()
                .is_some_and(|s| s.life == *life && s.phase == Phase::Up && !s.in_recovery)
                && self.server_runs(*host)
        });
        let Some((host, life)) = session.or_else(|| self.connect()) else {
            let pause = self.rng.between(100 * MS, 500 * MS);
            self.client_rests(client, pause);
            return;
        };
        self.clients[client].session = Some((host, life));
        let begun = self.now();
        self.tally.commits += 1;
        // The record's number is the next one that is given out; the answer may come before `commit` returns.
        let record = self.peek_number();
        self.clients[client].waiting = Some((host, record, begun));
        let patience = self.rng.between(3 * SECOND, 8 * SECOND);
        self.client_rests(client, patience);
        if self.commit(host, Some(client)).is_none() {
            self.clients[client].waiting = None;
            self.clients[client].session = None;
            self.client_rests(client, 200 * MS);
        } else if self.rng.chance(self.plan.cancels) {
            let pause = self.rng.between(MS, 3 * SECOND);
            self.queue.after(pause, Ev::Cancels { client, host, record });
        }
    }

    /// A client cancels while its commit waits. PostgreSQL warns and answers as if it were done; the row is visible. That
    /// is no acknowledgement: such a row may be lost, and the client was warned.
    pub(crate) fn client_cancels(&mut self, client: usize, host: usize, record: u64) {
        if self.clients[client].waiting.is_none_or(|(at, of, _)| at != host || of != record)
            || !self.server_runs(host)
        {
            return;
        }
        let Some(server) = &mut self.hosts[host].server else { return };
        let Some(lsn) = server.waiters.iter().find(|(_, w)| w.record == record).map(|(lsn, _)| *lsn) else {
            return;
        };
        server.waiters.remove(&lsn);
        self.clients[client].waiting = None;
        self.tally.cancelled += 1;
        self.cancelled.push((lsn, record));
        let pause = self.rng.between(30 * MS, 300 * MS);
        self.client_rests(client, pause);
    }

    /// How many of the cancelled commits the leader's log holds, and how many are gone.
    pub(crate) fn count_cancelled(&mut self) {
        let Some(leader) = (0..self.hosts.len()).find(|&h| self.leads(h)) else { return };
        let Some(directory) = self.hosts[leader].disk.data.present() else { return };
        let kept = self.cancelled.iter().filter(|(lsn, record)| directory.wal.holds(*lsn, *record)).count();
        self.tally.cancelled_and_kept = kept as u64;
        self.tally.cancelled_and_lost = (self.cancelled.len() - kept) as u64;
    }

    /// Any server that takes commits; two may for a moment.
    fn connect(&mut self) -> Option<(usize, u64)> {
        let open: Vec<(usize, u64)> = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(i, _)| self.server_runs(*i))
            .filter_map(|(i, h)| h.server.as_ref().filter(|s| s.takes_commits()).map(|s| (i, s.life)))
            .collect();
        if open.is_empty() { None } else { Some(self.rng.pick(&open)) }
    }

    pub(crate) fn client_answered(&mut self, client: usize, host: usize, record: u64) {
        let Some((at, waited_for, begun)) = self.clients[client].waiting else { return };
        if at != host || waited_for != record {
            return;
        }
        self.clients[client].waiting = None;
        self.tally.confirmed_to_clients += 1;
        self.longest_pause = self.longest_pause.max(self.now() - self.last_answer);
        self.last_answer = self.now();
        if self.healed_at.is_some_and(|healed| begun > healed) && self.leads(host) {
            self.tally.confirmed_after_healing += 1;
        }
        let pause = self.rng.between(30 * MS, 300 * MS);
        self.client_rests(client, pause);
    }

    /// Whether the sync record names this host.
    pub(crate) fn leads(&self, host: usize) -> bool {
        let leader: Option<&MemberName> = self.store.sync.as_ref().map(|s| &s.record.leader.member);
        leader == Some(&self.hosts[host].name)
    }
}
