//! Clients that read the leader through a proxy which passes answers on only while the leader has a read lease.
//!
//! They are in a run only when it asks for them, and draw from a generator of their own. The proxy always reaches every
//! host: the worst case is a leader that is cut off from everybody but the clients. What is read is the newest commits that
//! were acknowledged before the read began, by whomever: a state that lacks one of them is stale (S5).

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::Epoch;
use ha_decision::{ReadLease, Request};

use crate::clock::{MS, SECOND};
use crate::fault::Healing;
use crate::mutant::Mutant;
use crate::postgres_model::Phase;
use crate::rng::Rng;
use crate::world::{Ev, World};

/// How often the proxy asks a leader's agent.
const ASK_EVERY: u64 = 62 * MS;
/// So many of the newest acknowledged commits are looked for.
const LOOKED_FOR: usize = 32;

/// Sessions of the readers: enough that some have not noticed yet that their leader's lease is over.
const SESSIONS: usize = 64;
/// How often an operator who wants another leader asks for one.
const OPERATOR_ASKS_EVERY: u64 = 400 * MS;

/// The proxy and its readers.
#[derive(Debug)]
pub(crate) struct Readers {
    rng: Rng,
    /// What each host's agent said last, by the proxy's clock, which is the global one.
    leases: Vec<Option<(Epoch, u64)>>,
    /// Newest acknowledged commits: when, at which LSN, which record.
    acked: VecDeque<(u64, usize, u64)>,
    /// Open sessions. Who has one goes on reading, whatever has become of its leader meanwhile.
    sessions: Vec<Session>,
    /// Pause between two reads, from and to.
    pause: (u64, u64),
    /// Detection time of such a run: the longer, the longer are leases.
    detection: u64,
}

/// A session through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    host: usize,
    life: u64,
    /// The leadership for which it was led there.
    epoch: Epoch,
}

/// A read under way.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    session: Session,
    begun: u64,
    /// An acknowledged commit that the state lacks.
    lacks: Option<(usize, u64)>,
}

impl Read {
    /// Whom it asks: host, and life of its server.
    pub(crate) fn of(&self) -> (usize, u64) {
        (self.session.host, self.session.life)
    }
}

impl Readers {
    pub(crate) fn new(seed: u64, size: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x5245_4144);
        let pause = rng.pick(&[(2 * MS, 20 * MS), (20 * MS, 100 * MS)]);
        let detection = rng.pick(&[SECOND, 2500 * MS]);
        Self { detection, rng, leases: vec![None; size], acked: VecDeque::new(), sessions: Vec::new(), pause }
    }

    /// How long members are silent before they are replaced.
    pub(crate) fn detection(&self) -> Duration {
        Duration::from_nanos(self.detection)
    }

    /// Mostly a moment, now and then long.
    fn delay(&mut self) -> u64 {
        if self.rng.chance(40) {
            self.rng.between(50 * MS, 2 * SECOND)
        } else {
            self.rng.between(MS / 5, 5 * MS)
        }
    }
}

impl World {
    /// Begins to read.
    pub(crate) fn readers_begin(&mut self) {
        if self.readers.is_some() {
            self.queue.after(SECOND, Ev::ReadBegins);
            self.queue.after(8 * SECOND, Ev::LeaseSiege);
            for host in 0..self.hosts.len() {
                self.queue.after(SECOND, Ev::LeaseWanted { host });
            }
        }
    }

    /// What brings read leases into danger: a leader that loses the store and, in some order, those who hear it.
    pub(crate) fn lease_siege(&mut self) {
        if self.healed_at.is_some() || self.now() >= self.plan.faults_end {
            return;
        }
        let leader = (0..self.hosts.len()).find(|host| self.leads(*host));
        let (ttl, size) = (self.plan.ttl(), self.hosts.len());
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let pause = rng.between(6 * SECOND, 20 * SECOND);
        self.queue.after(pause, Ev::LeaseSiege);
        let Some(leader) = leader else { return };
        let others: Vec<_> = (0..size).filter(|host| *host != leader).collect();
        match rng.between(0, 2) {
            0 => self.links_end_one_by_one(leader, &others, ttl),
            1 => self.answers_come_late(leader, &others),
            _ => self.witness_starts_again(leader, &others),
        }
    }

    fn links_end_one_by_one(&mut self, leader: usize, others: &[usize], ttl: u64) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let lasts = rng.between(2 * SECOND, ttl + 4 * SECOND);
        for other in others {
            if rng.chance(700) {
                let start = rng.between(0, lasts);
                self.queue.after(start, Ev::Cut { a: leader, b: *other, duration: lasts - start });
            }
        }
        let (candidate, asks_from) = (rng.pick(others), rng.between(0, lasts));
        let (lost, revoked) = (rng.chance(700), rng.chance(500));
        self.operator_wants(candidate, asks_from, lasts);
        self.leader_loses_store(leader, if lost { lasts } else { 0 }, revoked);
    }

    /// What the others answered is on its way until another leads.
    fn answers_come_late(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let lasts = readers.detection + rng.between(800 * MS, 1900 * MS);
        let whole = rng.between(100 * MS, 500 * MS);
        for other in others {
            self.net.block(*other, leader);
            self.queue.after(lasts, Ev::Heals(Healing::Links(vec![(*other, leader)])));
            self.queue.after(whole, Ev::Cut { a: leader, b: *other, duration: lasts - whole });
        }
        self.leader_loses_store(leader, lasts + SECOND, false);
        self.topology_changed();
    }

    /// Who heard the leader last does not hear it any more, and has forgotten that it did; others have been waiting.
    fn witness_starts_again(&mut self, leader: usize, others: &[usize]) {
        let Some(readers) = &mut self.readers else { return };
        let rng = &mut readers.rng;
        let witness = rng.pick(others);
        let at = readers.detection + rng.between(500 * MS, 2 * SECOND);
        let lasts = at + rng.between(3 * SECOND, 5 * SECOND);
        for other in others.iter().filter(|other| **other != witness) {
            self.queue.after(0, Ev::Cut { a: leader, b: *other, duration: lasts });
        }
        self.queue.after(at, Ev::Cut { a: leader, b: witness, duration: lasts - at });
        if let Some(agent) = &self.hosts[witness].agent {
            let agent = agent.number;
            self.queue.after(at, Ev::AgentDies { host: witness, agent });
        }
        let candidate = others.iter().copied().find(|other| *other != witness).unwrap_or(witness);
        self.operator_wants(candidate, at, lasts);
        self.leader_loses_store(leader, lasts, true);
    }

    /// An operator without patience, who accepts no loss.
    fn operator_wants(&mut self, candidate: usize, from: u64, until: u64) {
        for at in (from..until).step_by(usize::try_from(OPERATOR_ASKS_EVERY).unwrap_or(1)) {
            self.queue.after(at, Ev::OperatorAsks { host: candidate });
        }
    }

    fn leader_loses_store(&mut self, leader: usize, lasts: u64, revoked: bool) {
        if lasts > 0 {
            self.net.block_store(leader);
            self.queue.after(lasts, Ev::Heals(Healing::Store(leader)));
        }
        if revoked {
            self.revoke_lease();
        }
    }

    /// A failover, without accepting loss.
    pub(crate) fn operator_asks(&mut self, host: usize) {
        if self.healed_at.is_none() && self.hosts[host].agent.is_some() {
            self.request(host, Request::Failover { accept_data_loss: false });
        }
    }

    /// A server told a client that its commit is safe.
    pub(crate) fn reader_notes_commit(&mut self, lsn: usize, record: u64) {
        let now = self.now();
        if let Some(readers) = &mut self.readers {
            readers.acked.push_back((now, lsn, record));
            if readers.acked.len() > 8 * LOOKED_FOR {
                readers.acked.pop_front();
            }
        }
    }

    pub(crate) fn lease_wanted(&mut self, host: usize) {
        self.queue.after(ASK_EVERY, Ev::LeaseWanted { host });
        let asked = self.now();
        let Some(readers) = &mut self.readers else { return };
        let delay = readers.delay();
        if self.hosts[host].agent.as_ref().is_some_and(|agent| agent.decider.beats_for().is_some()) {
            self.queue.after(delay, Ev::LeaseAsked { host, asked });
        }
    }

    /// The question is at the agent.
    pub(crate) fn lease_asked(&mut self, host: usize, asked: u64) {
        let now = self.now();
        let h = &self.hosts[host];
        if h.frozen_until > now {
            self.queue.at(h.frozen_until, Ev::LeaseAsked { host, asked });
            return;
        }
        let Some(ReadLease { epoch, until }) = h.agent.as_ref().and_then(|agent| agent.decider.read_lease())
        else {
            return;
        };
        let lasts = until.since(h.time(now));
        let Some(readers) = &mut self.readers else { return };
        let delay = readers.delay();
        self.queue.after(delay, Ev::LeaseTold { host, asked, epoch, lasts });
    }

    pub(crate) fn lease_told(&mut self, host: usize, asked: u64, epoch: Epoch, lasts: Duration) {
        let from = if self.mutant == Mutant::LeaseFromProxyAnswer { self.now() } else { asked };
        let Some(readers) = &mut self.readers else { return };
        let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(0);
        let lease = (epoch, from + lasts / 100 * 99);
        readers.leases[host] = readers.leases[host].max(Some(lease));
    }

    fn lease_holds(&self, host: usize, epoch: Epoch) -> bool {
        let lease = self.readers.as_ref().and_then(|readers| readers.leases[host]);
        lease.is_some_and(|(of, until)| of == epoch && self.now() < until)
    }

    /// Somebody reads in a session that is there, or opens one first.
    pub(crate) fn read_begins(&mut self) {
        let opens = self.opens_session();
        let begun = self.now();
        let Some(readers) = &mut self.readers else { return };
        let pause = readers.rng.between(readers.pause.0, readers.pause.1);
        self.queue.after(pause, Ev::ReadBegins);
        readers.sessions.extend(opens);
        if readers.sessions.is_empty() {
            return;
        }
        let session = readers.rng.pick(&readers.sessions);
        let delay = readers.delay();
        self.queue.after(delay, Ev::ReadRuns(Read { session, begun, lacks: None }));
    }

    /// A new session goes to any server that lets clients in and for which there is a lease.
    fn opens_session(&mut self) -> Option<Session> {
        let now = self.now();
        let open: Vec<Session> = (0..self.hosts.len())
            .filter(|host| self.server_runs(*host))
            .filter_map(|host| {
                let server = self.hosts[host].server.as_ref().filter(|server| server.takes_commits())?;
                let (epoch, until) = self.readers.as_ref()?.leases[host]?;
                (now < until).then_some(Session { host, life: server.life, epoch })
            })
            .collect();
        let readers = self.readers.as_mut()?;
        let wanted = !open.is_empty() && readers.sessions.len() < SESSIONS && readers.rng.chance(600);
        wanted.then(|| readers.rng.pick(&open))
    }

    /// The server reads. That it has been closed to clients since does not stop a session that is there.
    pub(crate) fn read_runs(&mut self, mut read: Read) {
        let Some(readers) = &mut self.readers else { return };
        let h = &self.hosts[read.session.host];
        let server = h.server.as_ref().filter(|server| {
            server.life == read.session.life && server.phase == Phase::Up && !server.in_recovery
        });
        let (Some(server), Some(directory)) = (server, h.disk.data.present()) else {
            readers.sessions.retain(|session| *session != read.session);
            return;
        };
        let before = readers.acked.iter().rev().filter(|(at, ..)| *at < read.begun).take(LOOKED_FOR);
        let shows = |lsn, id| directory.wal.holds(lsn, id) && !server.waiters.contains_key(&lsn);
        read.lacks = before.map(|(_, lsn, id)| (*lsn, *id)).find(|(lsn, id)| !shows(*lsn, *id));
        let delay = readers.delay();
        self.queue.after(delay, Ev::ReadArrives(read));
    }

    /// The answer is at the proxy.
    pub(crate) fn read_arrives(&mut self, read: &Read) {
        let Session { host, epoch, .. } = read.session;
        let passes = self.lease_holds(host, epoch) || self.mutant == Mutant::LeaseCheckedAtLogin;
        if !passes {
            self.tally.reads_withheld += 1;
            if let Some(readers) = &mut self.readers {
                readers.sessions.retain(|session| *session != read.session);
            }
            return;
        }
        self.tally.reads += 1;
        let Some((lsn, record)) = read.lacks else { return };
        if self.checker.must_be_seen(lsn, record, epoch) {
            let name = self.host_name(host).to_owned();
            let begun = read.begun / MS;
            self.fail(
                "S5 reads are linearizable",
                format!(
                    "{name}, led to for epoch {epoch}, showed a state without record {record} at {lsn}, which was acknowledged before the read began at {begun} ms"
                ),
            );
        }
    }
}
