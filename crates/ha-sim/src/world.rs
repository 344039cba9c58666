//! The world of one run: hosts, network, store, clients, and the queue of things to come.
//!
//! Everything that happens is an [`Ev`] taken from the queue; it changes the world and schedules more. Nothing is called
//! back synchronously, so the order of the queue is the order of the history. After each event the checker looks.

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::record::ClusterSettings;
use ha_core::{MemberName, SystemId};
use ha_decision::{Event, OpId, RequestId};

use crate::checker::{Checker, Violation};
use crate::clock::{HostClock, MS, Queue, SECOND};
use crate::fault::Healing;
use crate::guard::Guard;
use crate::heartbeat::HeartbeatLinks;
use crate::host::{Disk, Host};
use crate::lease_siege::{Sieges, Sign};
use crate::mutant::Mutant;
use crate::network::Network;
use crate::peer_link::PeerLink;
use crate::plan::Plan;
use crate::postgres_model::{Data, Record};
use crate::readers::{Read, Readers};
use crate::report::Tally;
use crate::rng::Rng;
use crate::store_link::{Answer, StoreSide};
use crate::trace::Trace;
use crate::workload::Client;

/// How often slow watchers look (link timeouts, lease expiry, watch repair).
const TICK: u64 = 250 * MS;

/// Something to come. Numbers of agents and lives of servers make an event void when its target is gone.
#[derive(Debug)]
pub(crate) enum Ev {
    Tick,
    Heartbeats,
    AgentDies { host: usize, agent: u64 },
    AgentStarts { host: usize, boot: u64 },
    Wake { host: usize, agent: u64, at: u64 },
    ToAgent { host: usize, agent: u64, news: Box<Event> },
    Observe { host: usize, agent: u64, again: bool },
    JobStep { host: usize, agent: u64, op: OpId },
    PeerPump { from: usize, to: usize },
    StoreArrives { call: u64 },
    StoreAnswers { call: u64, answer: Answer },
    StoreTimeout { call: u64 },
    StoreElects,
    Reload { host: usize, life: u64, process: Process },
    ServerUp { host: usize, life: u64 },
    StopEnds { host: usize, life: u64 },
    ReceiverTry { host: usize, life: u64 },
    ReceiverConnects { host: usize, life: u64, pid: u32 },
    ReceiverEnds { host: usize, life: u64, pid: u32 },
    Pump { host: usize, life: u64, sender: u32 },
    WalArrives { host: usize, life: u64, pid: u32, from: usize, records: Vec<Record> },
    Flush { host: usize, life: u64, pid: u32 },
    Confirm { host: usize, life: u64, sender: u32, standby: usize, flush: usize },
    SenderEnds { host: usize, life: u64, sender: u32 },
    Replay { host: usize, life: u64, to: usize },
    GuardDue { host: usize, boot: u64 },
    FenceNoted { host: usize, agent: u64, epoch: ha_core::Epoch },
    Client { client: usize, token: u64 },
    Cut { a: usize, b: usize, duration: u64 },
    HostResumes { host: usize },
    StoreMended,
    SettingsChange,
    LossAccepted { host: usize },
    Cancels { client: usize, host: usize, record: u64 },
    LeaseSiege,
    LeaseWatched { leader: usize, sign: Sign, until: u64 },
    OperatorClones { host: usize },
    OperatorAsks { host: usize },
    LeaseWanted { host: usize },
    LeaseAsked { host: usize, asked: u64 },
    LeaseTold { host: usize, asked: u64, epoch: ha_core::Epoch, lasts: Duration },
    ReadBegins,
    ReadRuns(Read),
    ReadArrives(Read),
    Fault,
    Heals(Healing),
    HealAll,
}

/// An operator accepts loss.
#[derive(Debug)]
pub(crate) struct Forced {
    pub(crate) request: RequestId,
    pub(crate) host: usize,
    pub(crate) agent: u64,
}

/// A process that reads the settings file at its own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Postmaster,
    Checkpointer,
    Startup,
    Session,
    Sender(u32),
}

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutant: Mutant,
    pub(crate) queue: Queue<Ev>,
    pub(crate) rng: Rng,
    pub(crate) net: Network,
    pub(crate) store: StoreSide,
    pub(crate) hosts: Vec<Host>,
    pub(crate) peers: BTreeMap<(usize, usize), PeerLink>,
    pub(crate) heartbeats: HeartbeatLinks,
    pub(crate) clients: Vec<Client>,
    /// Clients that read; none in most runs.
    pub(crate) readers: Option<Readers>,
    pub(crate) checker: Checker,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) failure: Option<Violation>,
    /// When a client was last answered, and the longest pause before an answer since that was reset.
    pub(crate) last_answer: u64,
    pub(crate) longest_pause: u64,
    /// When the last fault ended.
    pub(crate) healed_at: Option<u64>,
    /// Changes of leader since then.
    pub(crate) changes_after_healing: u32,
    /// What the operators want of the cluster now.
    pub(crate) wanted: ClusterSettings,
    /// Commits whose clients cancelled the wait: LSN and record.
    pub(crate) cancelled: Vec<(usize, u64)>,
    /// Failovers for which an operator accepts loss, and that are under way.
    pub(crate) forced: Vec<Forced>,
    numbers: u64,
    pub(crate) system_ids: u64,
}

impl World {
    pub(crate) fn new(seed: u64, size: usize, mutant: Mutant, reads: bool, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut plan = Plan::draw(&mut rng, size);
        let readers = reads.then(|| Readers::new(seed, size));
        if let Some(readers) = &readers {
            plan.timings.detection = readers.detection();
            if readers.sieges == Sieges::Watched {
                plan.leave_to_sieges();
            }
        }
        let mut queue = Queue::default();
        // Every host has been up for a while, each for another time.
        let hosts: Vec<Host> = (0..size)
            .map(|i| Host {
                name: member_name(i),
                clock: HostClock::booted(0, i64::try_from(rng.between(0, 2000)).unwrap_or(0) - 1000),
                boot: 1,
                powered: true,
                disk: Disk {
                    node_state: Default::default(),
                    before_promise: None,
                    data: Data::Empty,
                    passfiles: Default::default(),
                },
                server: None,
                guard: Guard::default(),
                agent: None,
                agents: 0,
                frozen_until: 0,
                paused_until: 0,
                storage_broken_until: 0,
                state_broken_until: 0,
                slow_until: 0,
            })
            .collect();
        for host in 0..size {
            queue.at(rng.between(10, 3000) * MS, Ev::AgentStarts { host, boot: 1 });
        }
        queue.at(TICK, Ev::Tick);
        let mut world = Self {
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            queue,
            rng,
            net: Network::default(),
            store: StoreSide::new(),
            hosts,
            peers: BTreeMap::new(),
            heartbeats: HeartbeatLinks::default(),
            readers,
            checker: Checker::default(),
            tally: Tally::default(),
            trace: Trace::new(tracing),
            failure: None,
            last_answer: 0,
            longest_pause: 0,
            healed_at: None,
            changes_after_healing: 0,
            wanted: plan.settings(),
            forced: Vec::new(),
            cancelled: Vec::new(),
            numbers: 0,
            system_ids: 0,
            mutant,
            plan,
        };
        for client in 0..world.clients.len() {
            world.client_rests(client, 500 * MS);
        }
        world.heartbeats_begin();
        world.readers_begin();
        let first = world.rng.between(6, 15) * SECOND;
        world.queue.at(first, Ev::Fault);
        let words = format!("{:?}", world.plan);
        world.say(|| words);
        world
    }

    pub(crate) fn now(&self) -> u64 {
        self.queue.now()
    }

    /// A number that is given out once per run.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The number that is given out next.
    pub(crate) fn peek_number(&self) -> u64 {
        self.numbers + 1
    }

    pub(crate) fn pid(&mut self) -> u32 {
        u32::try_from(1000 + self.number()).unwrap_or(u32::MAX)
    }

    pub(crate) fn new_system_id(&mut self) -> SystemId {
        self.system_ids += 1;
        SystemId(7_000_000_000_000_000_000 + self.system_ids)
    }

    pub(crate) fn say(&mut self, words: impl FnOnce() -> String) {
        self.trace.say(self.queue.now(), words);
    }

    /// Names a host in the trace.
    pub(crate) fn host_name(&self, host: usize) -> &str {
        self.hosts[host].name.as_str()
    }

    pub(crate) fn index_of(&self, name: &MemberName) -> Option<usize> {
        self.hosts.iter().position(|h| h.name == *name)
    }

    pub(crate) fn fail(&mut self, rule: &'static str, story: String) {
        if self.failure.is_none() {
            let words = format!("VIOLATED {rule}: {story}");
            self.say(|| words);
            self.failure = Some(Violation { rule, story });
        }
    }

    /// Takes one step; false when there is nothing left to do.
    pub(crate) fn step(&mut self) -> bool {
        let Some(event) = self.queue.take() else { return false };
        self.tally.events += 1;
        if let Some(until) = self.sleeps_until(&event) {
            self.queue.at(until, event);
            return true;
        }
        match event {
            Ev::Tick => {
                self.tick();
                self.queue.after(TICK, Ev::Tick);
            }
            Ev::Heartbeats => self.heartbeat_round(),
            Ev::AgentDies { host, agent } => self.agent_dies_soon(host, agent),
            Ev::AgentStarts { host, boot } => self.agent_starts(host, boot),
            Ev::Wake { host, agent, at } => self.wake(host, agent, at),
            Ev::ToAgent { host, agent, news } => self.tell(host, agent, news),
            Ev::Observe { host, agent, again } => self.observe(host, agent, again),
            Ev::JobStep { host, agent, op } => self.job_step(host, agent, op),
            Ev::PeerPump { from, to } => self.peer_pump(from, to),
            Ev::StoreArrives { call } => self.store_arrives(call),
            Ev::StoreAnswers { call, answer } => self.store_answers(call, answer),
            Ev::StoreTimeout { call } => self.store_timeout(call),
            Ev::StoreElects => self.store_elects(),
            Ev::Reload { host, life, process } => self.reload(host, life, process),
            Ev::StopEnds { host, life } => self.stop_ends(host, life),
            Ev::ServerUp { host, life } => self.server_up(host, life),
            Ev::ReceiverTry { host, life } => self.receiver_try(host, life),
            Ev::ReceiverConnects { host, life, pid } => self.receiver_connects(host, life, pid),
            Ev::ReceiverEnds { host, life, pid } => self.receiver_ends(host, life, pid),
            Ev::Pump { host, life, sender } => self.pump(host, life, sender),
            Ev::WalArrives { host, life, pid, from, records } => {
                self.wal_arrives(host, life, pid, from, &records);
            }
            Ev::Flush { host, life, pid } => self.flush(host, life, pid),
            Ev::Confirm { host, life, sender, standby, flush } => {
                self.confirm(host, life, sender, standby, flush);
            }
            Ev::SenderEnds { host, life, sender } => self.sender_ends(host, life, sender),
            Ev::Replay { host, life, to } => self.replay(host, life, to),
            Ev::GuardDue { host, boot } => self.guard_due(host, boot),
            Ev::FenceNoted { host, agent, epoch } => self.fence_noted(host, agent, epoch),
            Ev::Client { client, token } => self.client(client, token),
            Ev::Cut { a, b, duration } => self.cut(a, b, duration),
            Ev::HostResumes { host } => self.host_resumes(host),
            Ev::StoreMended => self.mend_store(),
            Ev::SettingsChange => self.change_settings(),
            Ev::LossAccepted { host } => self.accept_loss(host),
            Ev::Cancels { client, host, record } => self.client_cancels(client, host, record),
            Ev::LeaseSiege => self.lease_siege(),
            Ev::LeaseWatched { leader, sign, until } => self.lease_watched(leader, sign, until),
            Ev::OperatorClones { host } => self.operator_clones(host),
            Ev::OperatorAsks { host } => self.operator_asks(host),
            Ev::LeaseWanted { host } => self.lease_wanted(host),
            Ev::LeaseAsked { host, asked } => self.lease_asked(host, asked),
            Ev::LeaseTold { host, asked, epoch, lasts } => self.lease_told(host, asked, epoch, lasts),
            Ev::ReadBegins => self.read_begins(),
            Ev::ReadRuns(read) => self.read_runs(read),
            Ev::ReadArrives(read) => self.read_arrives(&read),
            Ev::Fault => self.next_fault(),
            Ev::Heals(healing) => self.heals(&healing),
            Ev::HealAll => self.heal_all(),
        }
        self.check();
        true
    }

    fn tick(&mut self) {
        self.store_tick();
        self.peer_tick();
        self.replication_tick();
    }
}

/// Name of the host with this index.
pub(crate) fn member_name(index: usize) -> MemberName {
    format!("pg{}", index + 1).parse().expect("pg and a number is a legal name")
}
