//! Whatever comes in whatever order: the write route never points to two members, to an epoch that is over, or to
//! anybody without evidence; and every table that is put in force makes sense.

mod samples;

use std::collections::BTreeMap;
use std::time::Duration;

use ha_core::{Epoch, MemberName, MonoTime, Revision};
use ha_routing::{
    Action, Check, Claim, ClaimedRole, Event, Route, RouteState, Router, Sessions, Setup, Table,
};
use proptest::prelude::*;
use samples::{leader, name, none, setup, standby};

const MEMBERS: [&str; 3] = ["pg1", "pg2", "pg3"];

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Happens(Event),
    /// Milliseconds, in which the router is woken whenever it wants to be.
    Passes(u64),
}

fn member() -> impl Strategy<Value = &'static str> {
    // Sometimes a stranger.
    prop_oneof![12 => prop::sample::select(MEMBERS.to_vec()), 1 => Just("pg9")]
}

fn claims() -> impl Strategy<Value = Claim> {
    let flags = (any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.2), any::<bool>());
    (member(), 0..4_usize, 0..6_u64, member(), flags).prop_map(|(who, kind, epoch, by, flags)| {
        let (known, takes, holding, running) = flags;
        let mut claim = match kind {
            0 => Claim { takes_writes: takes, holding, ..leader(who, epoch) },
            1 | 2 => Claim { takes_reads: takes, ..standby(who, epoch, by) },
            _ => none(who, epoch, "stopped"),
        };
        if kind == 3 && !known {
            claim.epoch = Epoch(0);
            claim.revision = Revision(0);
        }
        if kind == 3 && !running {
            claim.timeline = None;
            claim.position = None;
        }
        claim
    })
}

fn checks() -> impl Strategy<Value = Check> {
    prop_oneof![
        3 => Just(Check::Primary),
        3 => Just(Check::Standby),
        1 => Just(Check::Neither),
        2 => Just(Check::NoAnswer { why: "timed out".to_owned() }),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let why = || "connection refused".to_owned();
    prop_oneof![
        6 => claims().prop_map(|claim| Step::Happens(Event::Claimed(claim))),
        2 => member().prop_map(move |who| Step::Happens(Event::StreamLost { member: name(who), why: why() })),
        8 => (member(), checks())
            .prop_map(|(who, check)| Step::Happens(Event::Checked { member: name(who), check })),
        1 => member().prop_map(move |who| Step::Happens(Event::ConnectFailed { member: name(who), why: why() })),
        1 => member().prop_map(|who| Step::Happens(Event::Connected { member: name(who) })),
        1 => Just(Step::Happens(Event::StoodStill)),
        4 => prop_oneof![1..50_u64, 400..2_000_u64, 9_000..12_000_u64].prop_map(Step::Passes),
    ]
}

/// What an observer who knows the rules, but not the router, remembers.
#[derive(Default)]
struct Observer {
    highest: Epoch,
    /// Epoch of each member's last claim to lead, until it denies that.
    led: BTreeMap<MemberName, Epoch>,
    /// Whose word, or answered check, ever vouched for its leadership or reads.
    heard: BTreeMap<MemberName, bool>,
    /// Whom fresh claims of the newest epoch name.
    named: Option<MemberName>,
    generation: u64,
    in_force: Option<std::sync::Arc<Table>>,
    /// Members with write sessions that were not cut.
    may_hold: Vec<MemberName>,
}

impl Observer {
    fn hears(&mut self, event: &Event) {
        match event {
            Event::Claimed(claim) if MEMBERS.contains(&claim.member.as_str()) => {
                let known = claim.is_informed();
                let first = !self.heard.contains_key(&claim.member);
                self.heard.insert(claim.member.clone(), true);
                if !known && !first {
                    return;
                }
                if claim.epoch > self.highest {
                    self.highest = claim.epoch;
                    self.named = None;
                }
                if claim.epoch == self.highest && claim.leader.is_some() {
                    self.named.clone_from(&claim.leader);
                }
                if claim.role == ClaimedRole::Leader {
                    self.led.insert(claim.member.clone(), claim.epoch);
                } else {
                    self.led.remove(&claim.member);
                }
            }
            Event::Checked { member, check } if MEMBERS.contains(&member.as_str()) => match check {
                Check::NoAnswer { .. } => {}
                Check::Primary => {
                    self.heard.insert(member.clone(), true);
                }
                // Ignored while claims are fresh, so this forgets more than the router does: the check is weaker.
                Check::Standby | Check::Neither => {
                    self.heard.insert(member.clone(), true);
                    self.led.remove(member);
                }
            },
            _ => {}
        }
    }

    fn sees(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::PutInForce(table) => {
                prop_assert!(table.generation > self.generation, "generations grow");
                self.generation = table.generation;
                self.judge(&table)?;
                if let Some(&index) = table.writes.upstreams.first() {
                    let member = table.upstreams[index].member.clone();
                    if !self.may_hold.contains(&member) {
                        self.may_hold.push(member);
                    }
                }
                self.in_force = Some(table);
            }
            Action::Cut { member, which, .. } => {
                if which != Sessions::Reads {
                    let now = self.in_force.as_ref().map(|table| writers(table)).unwrap_or_default();
                    prop_assert!(!now.contains(&member), "the one who is cut gets no new sessions");
                    self.may_hold.retain(|other| *other != member);
                }
            }
            Action::Check { member } | Action::Confirm { member, .. } => {
                prop_assert!(MEMBERS.contains(&member.as_str()));
            }
            Action::Note(_) => {}
        }
        Ok(())
    }

    fn judge(&self, table: &Table) -> Result<(), TestCaseError> {
        prop_assert_eq!(table.upstreams.len(), MEMBERS.len());
        for route in [&table.writes, &table.reads] {
            judge_route(route, table.upstreams.len())?;
        }
        prop_assert!(table.writes.upstreams.len() <= 1, "at most one write upstream");
        let Some(&index) = table.writes.upstreams.first() else { return Ok(()) };
        let upstream = &table.upstreams[index];
        prop_assert_eq!(self.heard.get(&upstream.member), Some(&true), "nobody without evidence");
        prop_assert!(
            table.writes.epoch == Epoch(0) || table.writes.epoch == self.highest,
            "epoch {} while {} was seen",
            table.writes.epoch,
            self.highest
        );
        let over = self.led.get(&upstream.member).is_some_and(|&epoch| epoch < self.highest);
        prop_assert!(
            !over || self.named.as_ref() == Some(&upstream.member),
            "{} leads an epoch that is over",
            upstream.member
        );
        Ok(())
    }
}

fn writers(table: &Table) -> Vec<MemberName> {
    table.writes.upstreams.iter().map(|&index| table.upstreams[index].member.clone()).collect()
}

fn judge_route(route: &Route, members: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(route.state == RouteState::Open, !route.upstreams.is_empty(), "open means somewhere");
    prop_assert!(route.upstreams.iter().all(|&index| index < members));
    prop_assert!(route.upstreams.windows(2).all(|pair| pair[0] < pair[1]), "nobody twice");
    prop_assert!(!route.reason.is_empty(), "everything has a reason");
    Ok(())
}

fn quick() -> Setup {
    Setup { read_from_leader: true, ..setup(&MEMBERS) }
}

fn at(ms: u64) -> MonoTime {
    MonoTime(ms * 1_000_000)
}

/// Plays a history; returns all actions as text, for comparison.
fn play(steps: &[Step]) -> Result<Vec<String>, TestCaseError> {
    let mut now = 5_000;
    let mut router = Router::new(quick(), at(now));
    let mut observer = Observer::default();
    let mut seen = Vec::new();
    let mut drain = |router: &mut Router, observer: &mut Observer| {
        while let Some(action) = router.poll_action() {
            seen.push(format!("{action:?}"));
            observer.sees(action)?;
        }
        // Sessions to two members at once are possible only while nobody can say who leads.
        let table = router.table();
        if table.writes.state == RouteState::Open {
            prop_assert_eq!(&observer.may_hold, &writers(&table), "others' write sessions are cut");
        }
        Ok(())
    };
    drain(&mut router, &mut observer)?;
    for step in steps {
        match step {
            Step::Happens(event) => {
                observer.hears(event);
                router.handle_event(at(now), event.clone());
                drain(&mut router, &mut observer)?;
            }
            Step::Passes(ms) => {
                let end = now + ms;
                while let Some(wanted) = router.poll_timeout().filter(|&wanted| wanted <= at(end)) {
                    prop_assert!(wanted > at(now) || wanted.0 % 1_000_000 != 0, "it asks for the past");
                    now = wanted.0.div_ceil(1_000_000);
                    router.handle_timeout(at(now));
                    drain(&mut router, &mut observer)?;
                }
                now = end;
            }
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_keeps_the_rules(steps in prop::collection::vec(steps(), 1..120)) {
        play(&steps)?;
    }

    #[test]
    fn the_same_history_gives_the_same_actions(steps in prop::collection::vec(steps(), 1..40)) {
        prop_assert_eq!(play(&steps)?, play(&steps)?);
    }

    #[test]
    fn an_untroubled_leader_is_found_after_any_history(steps in prop::collection::vec(steps(), 1..60)) {
        let mut now = 5_000;
        let mut router = Router::new(quick(), at(now));
        for step in &steps {
            match step {
                Step::Happens(event) => router.handle_event(at(now), event.clone()),
                Step::Passes(ms) => now += ms,
            }
        }
        // Epochs in histories end at 5.
        router.handle_event(at(now), Event::Claimed(leader("pg2", 6)));
        let table = router.table();
        prop_assert_eq!(&table.writes.upstreams, &[1_usize]);
        prop_assert_eq!(table.writes.epoch, Epoch(6));
    }

    #[test]
    fn a_router_that_is_woken_late_or_often_decides_alike(steps in prop::collection::vec(steps(), 1..60)) {
        let mut now = 5_000;
        let (mut lazy, mut busy) = (Router::new(quick(), at(now)), Router::new(quick(), at(now)));
        for step in &steps {
            match step {
                Step::Happens(event) => {
                    lazy.handle_event(at(now), event.clone());
                    busy.handle_event(at(now), event.clone());
                    busy.handle_timeout(at(now));
                }
                Step::Passes(ms) => {
                    now += ms;
                    lazy.handle_timeout(at(now));
                    busy.handle_timeout(at(now));
                    busy.handle_timeout(at(now) + Duration::ZERO);
                }
            }
            let (lazy, busy) = (lazy.table(), busy.table());
            prop_assert_eq!(&lazy.writes.upstreams, &busy.writes.upstreams);
            prop_assert_eq!(&lazy.reads.upstreams, &busy.reads.upstreams);
        }
    }
}
