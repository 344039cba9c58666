//! Streaming: walreceivers that connect, walsenders that send, confirmations on the wire, links that stall.

use ha_core::MonoTime;

use crate::clock::{MS, SECOND, US};
use crate::mutant::Mutant;
use crate::postgres_model::server::new_sender;
use crate::postgres_model::{Data, Phase, Receiver, ReceiverPhase, Record, Server, Waiter};
use crate::world::{Ev, World};

/// `wal_retrieve_retry_interval` as the agent sets it.
const RETRY: u64 = 100 * MS;
/// `wal_receiver_timeout`.
const RECEIVER_TIMEOUT: u64 = 2 * SECOND;
/// `wal_sender_timeout`.
const SENDER_TIMEOUT: u64 = 5 * SECOND;

/// Of 1000 ends of a stream, how many the primary notices late: the packet that tells it is lost.
const LATE_ENDS: u64 = 60;

impl World {
    /// The startup process asks for a walreceiver when it has none.
    pub(crate) fn receiver_try(&mut self, host: usize, life: u64) {
        let pid = self.pid();
        let now = self.now();
        let names: Vec<_> = self.hosts.iter().map(|h| h.name.clone()).collect();
        let Some((server, _)) = self.hosts[host].life(life) else { return };
        if !server.in_recovery || server.phase == Phase::Stopping {
            return;
        }
        if server.receiver.is_none()
            && let Some(upstream) = server.startup_upstream.clone()
            && let Some(source) = names.iter().position(|n| *n == upstream.member)
        {
            server.receiver = Some(Receiver {
                pid,
                upstream,
                source,
                phase: ReceiverPhase::Connecting,
                terminated: false,
                heard: now,
                flushing: false,
                confirmed: None,
                wire: 0,
            });
            let delay = self.rng.between(2 * MS, 15 * MS) + 2 * self.net.delay(&mut self.rng);
            self.queue.after(delay, Ev::ReceiverConnects { host, life, pid });
        }
        let pause = self.rng.between(RETRY, 2 * RETRY);
        self.queue.after(pause, Ev::ReceiverTry { host, life });
    }

    pub(crate) fn receiver_connects(&mut self, host: usize, life: u64, pid: u32) {
        let now = self.now();
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.as_ref().filter(|r| r.pid == pid) else { return };
        let (upstream, source) = (receiver.upstream.clone(), receiver.source);
        let (timeline, end) = (directory.wal.timeline(), directory.wal.end());
        let system_id = directory.system_id;
        let may_log_in = self.hosts[host].disk.passfiles.contains(&upstream.announced.epoch);
        let reachable = source != host && self.net.both(host, source) && self.hosts[source].powered;
        let sender = self.pid();
        let any_slot = self.mutant == Mutant::SecondSenderCounts;
        let admitted = may_log_in && reachable && self.server_runs(source);
        let admitted = admitted
            && self.hosts[source].running().is_some_and(|(server, directory)| {
                // What the walsender knows: its timeline history and its flushed position. It does not compare contents.
                let fits =
                    directory.wal.end_of(timeline).is_some_and(|there| end <= there.min(directory.flushed));
                // Its slot is taken while an older walsender of the same member hangs on to it; without slots both would
                // count as confirmations.
                let slot_is_free = any_slot || server.senders.values().all(|s| s.standby != host);
                server.phase == Phase::Up && directory.system_id == system_id && fits && slot_is_free
            });
        if !admitted {
            self.receiver_ends(host, life, pid);
            return;
        }
        let Some((primary, _)) = self.hosts[source].running() else { return };
        let names = primary.postmaster.standby_names.clone();
        let new = new_sender(upstream.announced.clone(), (host, life, pid), end, &names, MonoTime(now));
        primary.senders.insert(sender, new);
        let source_life = primary.life;
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.as_mut() else { return };
        receiver.phase = ReceiverPhase::Streaming { sender, life: source_life };
        receiver.heard = now;
        server.received = Some(directory.wal.end());
        // The first answer tells what is there already.
        directory.flushed = directory.wal.end();
        if let Data::Present(there) = &self.hosts[source].disk.data {
            let history: Vec<_> =
                there.history_files.iter().copied().filter(|t| *t <= there.wal.timeline()).collect();
            if let Data::Present(here) = &mut self.hosts[host].disk.data {
                here.history_files.extend(history);
            }
        }
        self.checker.look_again();
        self.confirm_flush(host, life, pid);
        self.queue.after(US, Ev::Pump { host: source, life: source_life, sender });
    }

    pub(crate) fn terminate_receiver(&mut self, host: usize) {
        let Some(server) = &mut self.hosts[host].server else { return };
        let life = server.life;
        let Some(receiver) = server.receiver.as_mut().filter(|r| !r.terminated) else { return };
        receiver.terminated = true;
        let pid = receiver.pid;
        let mut delay = self.rng.between(MS, 15 * MS);
        if self.rng.chance(100) {
            delay += self.rng.between(0, 600 * MS);
        }
        self.queue.after(delay, Ev::ReceiverEnds { host, life, pid });
    }

    /// A walreceiver exits: it flushes what it has and says nothing more. What it said before stays on the wire.
    pub(crate) fn receiver_ends(&mut self, host: usize, life: u64, pid: u32) {
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.take_if(|r| r.pid == pid) else { return };
        directory.flushed = directory.wal.end();
        server.received = server.received.max(Some(directory.flushed));
        let to = directory.flushed;
        let wire = receiver.wire;
        let delay = self.rng.between(0, 20 * MS);
        self.queue.after(delay, Ev::Replay { host, life, to });
        if let ReceiverPhase::Streaming { sender, life } = receiver.phase
            && self.net.both(host, receiver.source)
        {
            let mut at = (self.now() + self.net.delay(&mut self.rng)).max(wire);
            if self.healed_at.is_none() && self.rng.chance(LATE_ENDS) {
                at += self.rng.between(50 * MS, 3 * SECOND);
            }
            self.queue.at(at, Ev::SenderEnds { host: receiver.source, life, sender });
        }
    }

    pub(crate) fn sender_ends(&mut self, host: usize, life: u64, sender: u32) {
        let Some((server, _)) = self.hosts[host].life(life) else { return };
        let Some(gone) = server.senders.remove(&sender) else { return };
        self.checker.look_again();
        let delay = self.net.delay(&mut self.rng);
        if self.net.both(host, gone.standby) {
            let (standby, life, pid) = (gone.standby, gone.standby_life, gone.receiver);
            self.queue.after(delay, Ev::ReceiverEnds { host: standby, life, pid });
        }
    }

    /// New WAL is there: every walsender is to send it.
    pub(crate) fn pump_all(&mut self, host: usize) {
        let Some((server, _)) = self.hosts[host].running() else { return };
        let life = server.life;
        let idle: Vec<u32> = server.senders.iter().filter(|(_, s)| !s.pumping).map(|(pid, _)| *pid).collect();
        for sender in idle {
            if let Some((server, _)) = self.hosts[host].running()
                && let Some(s) = server.senders.get_mut(&sender)
            {
                s.pumping = true;
            }
            let delay = self.rng.between(20 * US, 300 * US);
            self.queue.after(delay, Ev::Pump { host, life, sender });
        }
    }

    pub(crate) fn pump(&mut self, host: usize, life: u64, sender: u32) {
        let now = self.now();
        let delay = self.net.delay(&mut self.rng);
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(s) = server.senders.get_mut(&sender) else { return };
        s.pumping = false;
        let end = directory.flushed;
        if s.sent >= end {
            return;
        }
        if !self.net.open(host, s.standby) {
            s.pumping = true;
            self.queue.after(100 * MS, Ev::Pump { host, life, sender });
            return;
        }
        let (from, records) = (s.sent, directory.wal.slice(s.sent, end).to_vec());
        s.sent = end;
        s.wire = (now + delay).max(s.wire);
        let (standby, standby_life, pid, at) = (s.standby, s.standby_life, s.receiver, s.wire);
        self.queue.at(at, Ev::WalArrives { host: standby, life: standby_life, pid, from, records });
    }

    pub(crate) fn wal_arrives(&mut self, host: usize, life: u64, pid: u32, from: usize, records: &[Record]) {
        let now = self.now();
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.pid == pid) else { return };
        receiver.heard = now;
        if directory.wal.end() != from {
            return; // Not what follows; cannot happen on one connection.
        }
        directory.wal.append(records);
        if self.mutant == Mutant::ConfirmedBeforeFlush {
            self.confirm_flush(host, life, pid);
        }
        let Some((server, _)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.as_mut() else { return };
        if !std::mem::replace(&mut receiver.flushing, true) {
            let slow = self.hosts[host].slow_until > now || self.plan.lagging == Some(host);
            let delay =
                if slow { self.rng.between(20 * MS, 400 * MS) } else { self.rng.between(100 * US, 3 * MS) };
            self.queue.after(delay, Ev::Flush { host, life, pid });
        }
    }

    pub(crate) fn flush(&mut self, host: usize, life: u64, pid: u32) {
        let flushes = |s: &Server| s.life == life && s.receiver.as_ref().is_some_and(|r| r.pid == pid);
        if self.hosts[host].server.as_ref().is_some_and(flushes) && self.panics(host) {
            return;
        }
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.pid == pid) else { return };
        receiver.flushing = false;
        directory.flushed = directory.wal.end();
        server.received = server.received.max(Some(directory.flushed));
        let to = directory.flushed;
        let delay =
            if self.rng.chance(100) { self.rng.between(0, 300 * MS) } else { self.rng.between(0, 2 * MS) };
        self.queue.after(delay, Ev::Replay { host, life, to });
        self.confirm_flush(host, life, pid);
        self.pump_all(host);
    }

    /// Sends the flushed position to the primary.
    fn confirm_flush(&mut self, host: usize, life: u64, pid: u32) {
        let now = self.now();
        let (delay, mutant) = (self.net.delay(&mut self.rng), self.mutant);
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        let early = mutant == Mutant::ConfirmedBeforeFlush;
        let flush = if early { directory.wal.end() } else { directory.flushed };
        let Some(receiver) = server.receiver.as_mut().filter(|r| r.pid == pid) else { return };
        let ReceiverPhase::Streaming { sender, life: source_life } = receiver.phase else { return };
        receiver.confirmed = Some(flush);
        receiver.wire = (now + delay).max(receiver.wire);
        let (at, source, epoch) = (receiver.wire, receiver.source, receiver.upstream.announced.epoch);
        self.checker.confirming(host, epoch, &self.store.authority);
        self.queue.at(at, Ev::Confirm { host: source, life: source_life, sender, standby: host, flush });
    }

    pub(crate) fn confirm(&mut self, host: usize, life: u64, sender: u32, standby: usize, flush: usize) {
        let now = self.now();
        let open = self.net.open(standby, host);
        let Some((server, _)) = self.hosts[host].life(life) else { return };
        let Some(s) = server.senders.get_mut(&sender) else { return };
        if !open {
            // TCP sends it again and again, for as long as this end is there to hear it.
            self.queue.after(150 * MS, Ev::Confirm { host, life, sender, standby, flush });
            return;
        }
        s.heard = now;
        let answered = server.confirmed(sender, flush);
        self.answered(host, answered);
    }

    pub(crate) fn replay(&mut self, host: usize, life: u64, to: usize) {
        let Some((server, directory)) = self.hosts[host].life(life) else { return };
        if server.in_recovery {
            server.replay = server.replay.max(to.min(directory.wal.end()));
        }
    }

    /// The server told these clients that their commits are safe.
    pub(crate) fn answered(&mut self, host: usize, answered: Vec<(usize, Waiter)>) {
        for (lsn, waiter) in answered {
            self.tally.acknowledged += 1;
            // Who has not noticed that the store went back may have been established since.
            let established = self.store.authority.as_ref().is_some_and(|s| s.record.is_established());
            let sync =
                if self.store.went_back && !established { &self.store.sync } else { &self.store.authority };
            self.checker.acknowledged(host, lsn, waiter.record, sync, &self.hosts);
            self.reader_notes_commit(lsn, waiter.record);
            if let Some(client) = waiter.client {
                self.client_answered(client, host, waiter.record);
            }
        }
    }

    /// Notices dead and silent ends of streams.
    pub(crate) fn replication_tick(&mut self) {
        for host in 0..self.hosts.len() {
            self.receiver_tick(host);
            self.sender_tick(host);
        }
    }

    fn receiver_tick(&mut self, host: usize) {
        let now = self.now();
        if !self.server_runs(host) {
            return;
        }
        let Some(server) = &self.hosts[host].server else { return };
        let Some(receiver) = &server.receiver else { return };
        let ReceiverPhase::Streaming { sender, life: source_life } = receiver.phase else { return };
        let (life, pid, source, heard) = (server.life, receiver.pid, receiver.source, receiver.heard);
        let there = self.hosts[source]
            .server
            .as_ref()
            .is_some_and(|s| s.life == source_life && s.senders.contains_key(&sender));
        if there && self.net.open(source, host) && self.server_runs(source) {
            // Keepalives come when nothing else does.
            if let Some(r) = self.hosts[host].server.as_mut().and_then(|s| s.receiver.as_mut()) {
                r.heard = now;
            }
        } else if !there && self.hosts[source].powered && self.net.both(host, source)
            || now - heard > RECEIVER_TIMEOUT
        {
            self.receiver_ends(host, life, pid);
        }
    }

    fn sender_tick(&mut self, host: usize) {
        let now = self.now();
        if !self.server_runs(host) {
            return;
        }
        let Some(server) = &self.hosts[host].server else { return };
        let life = server.life;
        let mut gone = Vec::new();
        let mut heard = Vec::new();
        for (pid, s) in &server.senders {
            let there = self.hosts[s.standby].server.as_ref().is_some_and(|x| {
                x.life == s.standby_life && x.receiver.as_ref().is_some_and(|r| r.pid == s.receiver)
            });
            if there && self.net.open(s.standby, host) && self.server_runs(s.standby) {
                heard.push(*pid);
            } else if !there && self.hosts[s.standby].powered && self.net.both(host, s.standby)
                || now - s.heard > SENDER_TIMEOUT
            {
                gone.push(*pid);
            }
        }
        for pid in heard {
            if let Some(s) = self.hosts[host].server.as_mut().and_then(|s| s.senders.get_mut(&pid)) {
                s.heard = now;
            }
        }
        for pid in gone {
            self.sender_ends(host, life, pid);
        }
    }
}
