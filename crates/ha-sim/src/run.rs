//! One run from a seed to its verdict.

use crate::checker::Violation;
use crate::clock::SECOND;
use crate::fault::FaultKind;
use crate::host::Host;
use crate::mutant::Mutant;
use crate::plan::Tag;
use crate::report::Tally;
use crate::world::World;

/// After everything works again, writes must be acknowledged and every member must be back within so long.
const RECOVERY_LIMIT: u64 = 45 * SECOND;
/// So many commits show that writes work.
const COMMITS_WANTED: u64 = 10;
/// A run that takes more steps than this is a storm.
const EVENT_LIMIT: u64 = 5_000_000;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Members.
    pub size: usize,
    /// What happened.
    pub tally: Tally,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// The story, when it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed; with readers if the mutant is one of theirs.
pub fn run(seed: u64, size: usize, mutant: Mutant) -> Outcome {
    play(seed, size, mutant, mutant.is_of_reads(), false)
}

/// Runs one seed and keeps its story.
pub fn story(seed: u64, size: usize, mutant: Mutant) -> Outcome {
    play(seed, size, mutant, mutant.is_of_reads(), true)
}

/// Runs one seed in which leaders give out read leases and clients read. Another history than that of [`run`].
pub fn run_with_reads(seed: u64, size: usize, mutant: Mutant) -> Outcome {
    play(seed, size, mutant, true, false)
}

/// The same, and keeps its story.
pub fn story_with_reads(seed: u64, size: usize, mutant: Mutant) -> Outcome {
    play(seed, size, mutant, true, true)
}

/// Nothing breaks: what a cluster did until it was whole, and in the quiet minute after that.
pub fn calm(seed: u64, size: usize) -> (Tally, Tally) {
    let mut world = World::new(seed, size, Mutant::None, false, false);
    world.plan.calm_down();
    while world.now() < 40 * SECOND && world.step() {}
    let until_whole = world.tally.clone();
    while world.failure.is_none() && world.now() < 100 * SECOND && world.step() {}
    assert!(world.failure.is_none() && world.is_whole(), "seed {seed} is not calm: {:?}", world.failure);
    let quiet = world.tally.since(&until_whole);
    (until_whole, quiet)
}

/// What one fault in an otherwise calm cluster did.
#[derive(Debug, Clone)]
pub struct Outage {
    /// How long no client was answered, virtual milliseconds; none when nobody was answered again within a minute.
    pub milliseconds: Option<u64>,
    /// A broken rule.
    pub violation: Option<Violation>,
    /// The story, when it was asked for.
    pub trace: Vec<String>,
}

/// One fault in a calm cluster.
pub fn outage(seed: u64, size: usize, fault: FaultKind, tracing: bool) -> Outage {
    let mut world = World::new(seed, size, Mutant::None, false, tracing);
    world.plan.calm_down();
    while world.now() < 40 * SECOND && world.step() {}
    world.longest_pause = 0;
    world.play(fault);
    let begun = world.last_answer;
    while world.failure.is_none() && world.now() < 100 * SECOND && world.step() {}
    let silent = world.now() - world.last_answer > 5 * SECOND || world.last_answer == begun;
    Outage {
        milliseconds: (!silent).then_some(world.longest_pause / 1_000_000),
        violation: world.failure,
        trace: world.trace.into_lines(),
    }
}

fn play(seed: u64, size: usize, mutant: Mutant, reads: bool, tracing: bool) -> Outcome {
    let mut world = World::new(seed, size, mutant, reads, tracing);
    while world.failure.is_none() && world.step() {
        if world.tally.events > EVENT_LIMIT {
            world.fail("storm", "too many events".to_owned());
        }
        if let Some(healed) = world.healed_at
            && world.tally.events.is_multiple_of(256)
        {
            if world.tally.confirmed_after_healing >= COMMITS_WANTED && world.is_whole() {
                break;
            }
            if world.now() > healed + RECOVERY_LIMIT {
                world.judge_recovery();
                break;
            }
        }
    }
    world.tally.virtual_ms = world.now() / 1_000_000;
    world.tally.runs = 1;
    world.count_cancelled();
    world.tally.given_up_by_operators = world.checker.given_up_by_operators;
    world.tally.promises = world.checker.promises;
    world.tally.lost_asynchronously = world.checker.lost_asynchronously;
    world.tally.listed_replaced = world.checker.listed_replaced;
    world.tally.late_but_safe = world.checker.late_but_safe;
    Outcome { seed, size, violation: world.failure, tally: world.tally, trace: world.trace.into_lines() }
}

impl World {
    /// Whether every member streams from the leader, and is listed where the mode lists members.
    fn is_whole(&self) -> bool {
        let Some(sync) = &self.store.sync else { return false };
        let Some(leader) = self.index_of(&sync.record.leader.member) else { return false };
        let listed = !self.wanted.mode.waits_for_standbys()
            || sync.record.policy.members.len() == self.may_be_listed(leader);
        let streaming = self.hosts[leader].server.as_ref().is_some_and(|s| {
            !s.in_recovery && s.senders.values().filter(|x| x.streaming).count() + 1 == self.hosts.len()
        });
        listed && streaming && sync.record.is_established()
    }

    /// How many members a leader may list.
    fn may_be_listed(&self, leader: usize) -> usize {
        let tagged = self
            .plan
            .tagged
            .as_ref()
            .filter(|(name, tag)| *tag == Tag::NoSync && *name != self.hosts[leader].name);
        self.hosts.len() - 1 - usize::from(tagged.is_some())
    }

    /// Nothing is broken any more and still it does not work: a member must at least say why.
    fn judge_recovery(&mut self) {
        let mut words = Vec::new();
        let mut blocked = Vec::new();
        for host in &self.hosts {
            let Some(agent) = &host.agent else { continue };
            let status = agent.decider.status();
            words.push(format!("{}: {}; {}", host.name, status.doing, condition(host)));
            blocked.extend(status.blocked);
        }
        let writes = self.tally.confirmed_after_healing >= COMMITS_WANTED;
        // Without an operator nothing is decided any more on a store that went back; writes may go on by the old list.
        if !blocked.is_empty() && (!writes || self.store.never_mended) {
            // A store that was put back stays so in some runs: what is said then is what people must see.
            let unmended = if self.store.never_mended { "(the store was never mended) " } else { "" };
            for why in blocked {
                *self.tally.blocked.entry(format!("{unmended}{why}")).or_insert(0) += 1;
            }
            return;
        }
        let rule = if writes { "L3 every member comes back" } else { "L1 writes work again" };
        self.fail(rule, words.join("; "));
    }
}

/// What a host's PostgreSQL really is like.
fn condition(host: &Host) -> String {
    let Some(directory) = host.disk.data.present() else { return "no data".to_owned() };
    let (end, timeline) = (directory.wal.end(), directory.wal.timeline());
    let wal = format!("WAL to {end} of timeline {timeline}");
    match &host.server {
        None => format!("{wal}, stopped"),
        Some(s) => {
            let receiver = s.receiver.as_ref().map(|r| (r.upstream.member.as_str(), r.phase));
            let senders: Vec<_> =
                s.senders.values().map(|x| (x.name.to_string(), x.streaming, x.listed, x.flush)).collect();
            format!(
                "{wal}, {:?}, standby {}, {:?}, {} wait, receiver {receiver:?}, senders {senders:?}",
                s.phase,
                s.in_recovery,
                s.postmaster.access,
                s.waiters.len()
            )
        }
    }
}
