//! The kernel fuse: a process beside the guard whose timer the kernel keeps. It ends PostgreSQL at the deadline itself,
//! whatever has become of the guard.
//!
//! The guard supplies it with each accepted deadline. Nobody waits for it with a renewal: a fuse that is late has an
//! earlier deadline. Only the first arming waits for its word, because a promotion follows.

use std::time::Duration;

use ha_core::guard_link::{Layers, RefusalCode, Reply};
use ha_core::{Generation, MonoTime};

use crate::action::Action;
use crate::event::PeerId;
use crate::lease::{Leadership, Lease};
use crate::reason::{Reason, Refusal};
use crate::watch::Watch;

/// How long an arming waits for the fuse. It answers within a millisecond or is being starved.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long before the deadline the kernel's timer expires, at most: ending a dozen processes takes 15 ms on a quiet machine.
const FUSE_LEAD: Duration = Duration::from_millis(250);

/// What is known of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fuse {
    /// A start gets one where it is possible.
    wanted: bool,
    /// Whether it is possible here; unknown until that was tried.
    possible: Option<bool>,
    /// That of the running start.
    live: Option<Live>,
    arming: Option<Arming>,
}

/// A connected fuse process.
#[derive(Debug, Clone, Copy)]
struct Live {
    /// What it was told last; unknown for one that an earlier guard has told.
    told: Option<Option<MonoTime>>,
    /// It has confirmed what it was told, and that its own end ends PostgreSQL.
    tied: bool,
}

/// An arming whose answer waits for the fuse.
#[derive(Debug, Clone)]
struct Arming {
    peer: PeerId,
    seq: u64,
    leadership: Leadership,
    before: Lease,
    until: MonoTime,
}

impl Fuse {
    pub(crate) fn new(wanted: bool, is_live: bool) -> Self {
        let live = is_live.then_some(Live { told: None, tied: false });
        Self { wanted, live, ..Self::default() }
    }

    /// Whether the next start gets one; from now on it counts as there.
    pub(crate) fn begin_start(&mut self) -> bool {
        let fused = self.wanted && self.possible != Some(false);
        self.live = fused.then_some(Live { told: None, tied: false });
        fused
    }

    /// Nothing is left that it could end.
    pub(crate) fn forget(&mut self) {
        self.live = None;
    }

    /// What runs could have one and has none, or none can be had.
    pub(crate) fn is_missing(&self, runs: bool) -> bool {
        self.wanted && (self.possible == Some(false) || (runs && self.live.is_none()))
    }

    /// Whether it stands behind a deadline that is armed now; with nothing running the next start will have one.
    fn stands(&self, runs: bool) -> bool {
        match self.live {
            Some(live) => live.tied,
            None => !runs && self.wanted && self.possible == Some(true),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<MonoTime> {
        self.arming.as_ref().map(|arming| arming.until)
    }
}

impl Watch {
    /// The layers that stand behind a deadline now.
    pub(crate) fn present_layers(&self) -> Layers {
        let runs = self.populated || self.launching.is_some();
        let layers = self.with_watchdog_layer(self.layers);
        if self.fuse.stands(runs) { layers.with(Layers::KERNEL_FUSE) } else { layers }
    }

    /// Refuses when a layer without which nobody may lead cannot come to stand behind the deadline.
    pub(crate) fn check_layers(&self) -> Result<(), Refusal> {
        let hoped = match self.fuse.live {
            Some(_) => self.present_layers().with(Layers::KERNEL_FUSE),
            None => self.present_layers(),
        };
        refuse_without(self.required.without(hoped))
    }

    /// Lets the answer to an arming wait for the fuse, if there is one that has not confirmed yet.
    pub(crate) fn await_fuse(
        &mut self,
        now: MonoTime,
        (peer, seq): (PeerId, u64),
        leadership: Leadership,
        before: Lease,
    ) -> bool {
        self.conclude_arming();
        let waits = self.fuse.live.is_some_and(|live| !live.tied);
        if waits {
            self.fuse.arming = Some(Arming { peer, seq, leadership, before, until: now + PATIENCE });
        }
        waits
    }

    /// Answers the arming that waits, by what is there now.
    pub(crate) fn conclude_arming(&mut self) {
        let Some(arming) = self.fuse.arming.take() else { return };
        let Arming { peer, seq, leadership, before, .. } = arming;
        let layers = self.present_layers();
        let reply = match refuse_without(self.required.without(layers)) {
            Ok(()) => Reply::Ack { seq, armed: self.armed(), layers },
            Err(Refusal { code, text }) => {
                if self.state.lease.armed.map(|held| held.leadership) == Some(leadership) {
                    // Nobody was promoted for it: a deadline that stayed would end a standby.
                    self.state.lease = before;
                    self.save();
                }
                self.note(Reason::Refused { request: "arm", text: text.clone() });
                Reply::Refused { seq, code, text }
            }
        };
        self.push(Action::Reply { peer, reply });
    }

    pub(crate) fn fuse_timeout(&mut self, now: MonoTime) {
        if self.fuse.arming.as_ref().is_some_and(|arming| arming.until <= now) {
            self.conclude_arming();
        }
    }

    pub(crate) fn fuse_probed(&mut self, failure: Option<String>) {
        self.fuse.possible = Some(failure.is_none());
        if let Some(text) = failure {
            self.note(Reason::NoFuse { text });
        }
    }

    /// It has carried out what it was told.
    pub(crate) fn fuse_said(&mut self, deadline: Option<MonoTime>, tied: bool) {
        if let Some(live) = self.fuse.live.as_mut().filter(|live| live.told == Some(deadline)) {
            live.tied = tied;
            if tied {
                self.conclude_arming();
            }
        }
    }

    /// Its connection has ended. If PostgreSQL was tied to it, that has ended too.
    pub(crate) fn fuse_lost(&mut self) {
        if self.fuse.live.take().is_some() && self.state.postmaster.is_some() && !self.stopping {
            self.note(Reason::FuseLost);
        }
        self.conclude_arming();
    }

    /// Tells it the deadline, if it does not know the present one. It stays as it is while everything is being killed: what
    /// does not end by that has to end by the fuse.
    pub(crate) fn supply_fuse(&mut self) {
        let settled = self.ending.is_none() && self.unprotected_until.is_none() && self.state.fence.is_none();
        let wanted = self.fuse_at();
        let Some(live) = self.fuse.live.as_mut().filter(|live| settled && live.told != Some(wanted)) else {
            return;
        };
        live.told = Some(wanted);
        live.tied &= wanted.is_some();
        self.push(Action::SetFuse(wanted));
    }

    /// When the kernel ends everything: a little before the deadline, so that what is on its way then has been answered; but
    /// well after the guard should have done it, and so not before the end of a hold.
    fn fuse_at(&self) -> Option<MonoTime> {
        let lead = self.limits.kill_lead;
        self.state.lease.kill_at(&self.limits).map(|at| at + (lead - FUSE_LEAD.min(lead / 2)))
    }
}

fn refuse_without(missing: Layers) -> Result<(), Refusal> {
    if missing == Layers::default() {
        return Ok(());
    }
    let text = format!("required here, but not there: {missing}");
    Err(Refusal::new(RefusalCode::LayerMissing, text))
}

/// The generation of a leadership says nothing about layers: an epoch that is armed already keeps what it has.
pub(crate) fn is_new(before: &Lease, Leadership { epoch, generation: Generation(_) }: Leadership) -> bool {
    before.armed.is_none_or(|held| held.leadership.epoch != epoch)
}
