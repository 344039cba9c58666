//! Clients that read the leader through a proxy which passes answers on only while the leader has a read lease.
//!
//! They are in a run only when it asks for them, and draw from a generator of their own. The proxy always reaches every
//! host: the worst case is a leader that is cut off from everybody but the clients. What is read is the newest commits that
//! were acknowledged before the read began, by whomever: a state that lacks one of them is stale (S5).

use std::collections::VecDeque;
use std::time::Duration;

use ha_core::Epoch;
use ha_decision::ReadLease;

use crate::clock::{MS, SECOND};
use crate::lease_siege::Sieges;
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

/// The proxy and its readers.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) rng: Rng,
    /// What is done to leaders in this run.
    pub(crate) sieges: Sieges,
    /// What each host's agent said last, by the proxy's clock, which is the global one.
    leases: Vec<Option<(Epoch, u64)>>,
    /// Newest acknowledged commits: when, at which LSN, which record.
    acked: VecDeque<(u64, usize, u64)>,
    /// Open sessions. Who has one goes on reading, whatever has become of its leader meanwhile.
    sessions: Vec<Session>,
    /// Pause between two reads, from and to.
    pause: (u64, u64),
    /// Detection time of such a run: the longer, the longer are leases.
    pub(crate) detection: u64,
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
        let sieges = Sieges::of(seed);
        let drawn = rng.pick(&[SECOND, 2500 * MS]);
        let detection = if sieges == Sieges::Watched { 2500 * MS } else { drawn };
        let (leases, acked, sessions) = (vec![None; size], VecDeque::new(), Vec::new());
        Self { detection, rng, sieges, leases, acked, sessions, pause }
    }

    /// How long members are silent before they are replaced.
    pub(crate) fn detection(&self) -> Duration {
        Duration::from_nanos(self.detection)
    }

    /// When who hears nothing from now on is bound by nothing any more.
    pub(crate) fn deaf_after(&mut self) -> u64 {
        self.detection + self.rng.between(200 * MS, 800 * MS)
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
