//! Any order of requests, delays, deaths and restarts keeps the rules.

mod desk;

use std::time::Duration;

use desk::{Desk, boot, ms};
use ha_core::guard_link::{ExitOutcome, HOLD_MAX, Layers, NoPrimary, Reply, Request};
use ha_core::{Epoch, Generation, MonoTime};
use ha_fencing::{Action, Event, Holding, KillCause, PeerId};

/// A small generator (xorshift), so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

struct Story {
    desk: Desk,
    dice: Dice,
    seq: u64,
    /// The truth about what runs.
    is_primary: bool,
    postmaster: bool,
    /// Messages that are on their way.
    delayed: Vec<Request>,
}

impl Story {
    fn step(&mut self) {
        self.desk.actions.clear();
        let before = self.desk.saved.as_ref().and_then(|state| state.lease.armed);
        let was_populated = self.desk.populated;
        match self.dice.roll(16) {
            0..=5 => self.request(),
            6 => self.delay(),
            7 => self.deliver(),
            8..=10 => {
                let span = ms(self.dice.roll(3_000));
                self.desk.pass(span);
            }
            11 => self.desk.event(Event::PeerGone(PeerId(self.dice.roll(3)))),
            12 => self.postmaster_ends(),
            13 => self.is_primary |= self.postmaster && self.desk.deadline().is_some(), // promoted
            14 => self.desk.restart(true, self.postmaster.then_some(4711)),
            _ => {
                let span = ms(self.dice.roll(30_000));
                self.desk.pass(span);
            }
        }
        self.follow_launch();
        self.check(before, was_populated);
        self.reap();
    }

    fn any_request(&mut self) -> Request {
        self.seq += self.dice.roll(3); // sometimes a stale number
        let (seq, epoch) = (self.seq, Epoch(1 + self.dice.roll(6)));
        let ahead = ms(self.dice.roll(14_000));
        let near = self.desk.now + ahead;
        match self.dice.roll(12) {
            0 | 1 => Request::Start { seq, settings: vec![] },
            2 | 3 => {
                let generation = Generation(self.dice.roll(5));
                Request::Arm { seq, epoch, generation, deadline: near, boot_id: boot() }
            }
            4..=6 => {
                let epoch = self.desk.watch.status(self.desk.now).armed.map_or(epoch, |armed| armed.epoch);
                Request::Renew { seq, epoch, deadline: near }
            }
            7 => Request::Release { seq, epoch, proof: NoPrimary::Empty },
            8 if !self.is_primary => {
                let start = self.desk.watch.status(self.desk.now).start;
                Request::Release { seq, epoch, proof: NoPrimary::Standby { start } }
            }
            9 => Request::Hold { seq, epoch, until: self.desk.now + ahead * 400 },
            10 => Request::AcknowledgeFenced { seq, epoch },
            _ => Request::KillAll { seq, reason: "test".into() },
        }
    }

    fn request(&mut self) {
        let (request, peer) = (self.any_request(), PeerId(self.dice.roll(3)));
        self.desk.ask_as(peer, request);
    }

    fn delay(&mut self) {
        let request = self.any_request();
        // What was true of a standby may have ceased to be when it arrives: the agent does not promote meanwhile.
        if !matches!(request, Request::Release { proof: NoPrimary::Standby { .. }, .. }) {
            self.delayed.push(request);
        }
    }

    fn deliver(&mut self) {
        if !self.delayed.is_empty() {
            let at = usize::try_from(self.dice.roll(self.delayed.len() as u64)).expect("an index");
            let request = self.delayed.swap_remove(at);
            self.desk.ask_as(PeerId(self.dice.roll(3)), request);
        }
    }

    fn follow_launch(&mut self) {
        if self.desk.actions.iter().any(|action| matches!(action, Action::Launch { .. })) {
            if self.dice.roll(4) == 0 {
                self.desk.event(Event::LaunchFailed { text: "no".into(), populated: false });
            } else {
                (self.desk.populated, self.postmaster, self.is_primary) = (true, true, false);
                self.desk.event(Event::Launched { pid: 4711, system_id: Some(7) });
            }
        }
    }

    fn postmaster_ends(&mut self) {
        if std::mem::take(&mut self.postmaster) {
            let left = self.dice.roll(2) == 0;
            self.desk.populated = left;
            let outcome = if left { ExitOutcome::Signal(9) } else { ExitOutcome::Code(0) };
            self.desk.event(Event::PostmasterExited { outcome, populated: left });
        }
    }

    /// After a kill the postmaster is found dead.
    fn reap(&mut self) {
        if !self.desk.populated && std::mem::take(&mut self.postmaster) {
            let outcome = ExitOutcome::Signal(9);
            self.desk.event(Event::PostmasterExited { outcome, populated: false });
        }
        self.is_primary &= self.desk.populated;
    }

    fn check(&self, before: Option<Holding>, was_populated: bool) {
        let state = self.desk.saved.as_ref().expect("a state is always saved here");
        let status = self.desk.watch.status(self.desk.now);
        let after = state.lease.armed;
        assert_eq!(
            after.map(|held| held.deadline),
            status.armed.map(|armed| armed.deadline),
            "saved is held"
        );
        let hold = state.lease.hold_until.unwrap_or_default();

        // I1: past the time of the kill nothing runs that this deadline covered.
        if let Some(held) = after {
            let kill_at = held.deadline.minus(Duration::from_secs(1)).max(hold);
            assert!(self.desk.now < kill_at, "the deadline passed and is still held");
        }
        assert!(hold <= self.desk.now + HOLD_MAX);
        // I3: forward only.
        if let (Some(before), Some(after)) = (before, after)
            && before.leadership.epoch == after.leadership.epoch
        {
            assert!(after.deadline >= before.deadline);
        }
        // I5: a primary never runs on without a deadline that it had.
        assert!(!(self.is_primary && self.desk.populated && after.is_none()), "released with a primary");
        // I9: nothing is killed by a deadline that was not held, and a fence always follows from one.
        let fenced = self.desk.kills().iter().any(|cause| matches!(cause, KillCause::Deadline(_)));
        if fenced {
            assert!(before.is_some(), "fenced although nothing was armed");
        }
        if was_populated && !self.desk.populated && !fenced && self.postmaster {
            assert!(!self.desk.kills().is_empty(), "it ended by itself");
        }
        // I12: what is armed is above what was fenced.
        if let (Some(held), Some(fenced)) = (after, state.lease.fenced) {
            assert!(held.leadership > fenced, "{held:?} is armed although {fenced:?} was fenced");
        }
    }
}

#[test]
fn any_history_keeps_the_rules() {
    for seed in 1..=2_000 {
        let mut story = Story {
            desk: Desk::new(),
            dice: Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)),
            seq: 0,
            is_primary: false,
            postmaster: false,
            delayed: vec![],
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..200 {
                story.step();
            }
        }));
        assert!(outcome.is_ok(), "seed {seed} breaks a rule");
    }
}

#[test]
fn every_request_gets_exactly_one_answer() {
    let mut story = Story {
        desk: Desk::begin(MonoTime(5_000_000_000_000), None, None, false, None),
        dice: Dice(42),
        seq: 0,
        is_primary: false,
        postmaster: false,
        delayed: vec![],
    };
    for _ in 0..5_000 {
        let request = story.any_request();
        let seq = request.seq();
        story.desk.ask(request);
        story.follow_launch();
        let answers =
            |action: &&Action| matches!(action, Action::Reply { reply, .. } if reply.seq() == Some(seq));
        assert_eq!(story.desk.actions.iter().filter(answers).count(), 1, "{:?}", story.desk.actions);
        assert!(!story.desk.actions.iter().any(|action| matches!(action, Action::Notice(Reply::Ack { .. }))));
        story.desk.pass(ms(700));
        story.reap();
    }
}

#[test]
fn every_request_gets_exactly_one_answer_beside_a_fuse_that_answers_late_or_never() {
    for required in [Layers::default(), Layers::KERNEL_FUSE] {
        let mut story = Story {
            desk: Desk::fused(required),
            dice: Dice(43),
            seq: 0,
            is_primary: false,
            postmaster: false,
            delayed: vec![],
        };
        for _ in 0..5_000 {
            let request = story.any_request();
            let seq = request.seq();
            story.desk.ask(request);
            story.follow_launch();
            match story.dice.roll(4) {
                0 => story.desk.pass(ms(600)),
                1 => story.desk.event(Event::FuseLost),
                _ => {
                    let deadline = story.desk.fuse;
                    story.desk.event(Event::FuseSaid { deadline, tied: deadline.is_some() });
                    story.desk.pass(ms(600));
                }
            }
            let answers =
                |action: &&Action| matches!(action, Action::Reply { reply, .. } if reply.seq() == Some(seq));
            assert_eq!(story.desk.actions.iter().filter(answers).count(), 1, "{:?}", story.desk.actions);
            story.reap();
        }
    }
}
