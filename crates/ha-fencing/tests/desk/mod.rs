//! A decider on the desk: requests in, answers out, with a clock that only moves when told.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use ha_core::guard_link::{Degraded, FenceMethod, Layers, NoPrimary, RefusalCode, Reply, Request};
use ha_core::{BootId, Epoch, Generation, MonoTime};
use ha_fencing::{
    Action, Event, KillCause, Leadership, Limits, Look, PeerId, SimulatedWatchdog, State, Watch,
    WatchdogAction, WatchdogEvent, WatchdogFacts, WatchdogRules, WatchdogSight, WatchdogTrouble, errno,
};

pub(crate) const LIMITS: Limits = Limits {
    kill_lead: Duration::from_secs(1),
    max_ahead: Duration::from_secs(11),
    stop_patience: Duration::from_secs(60),
    straggler_grace: Duration::from_secs(1),
    unprotected_grace: Duration::from_secs(1),
};

pub(crate) fn boot() -> BootId {
    BootId("this-boot".into())
}

pub(crate) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

pub(crate) struct Desk {
    pub(crate) watch: Watch,
    pub(crate) now: MonoTime,
    pub(crate) populated: bool,
    /// Everything the decider asked for since the last [`Desk::take`].
    pub(crate) actions: Vec<Action>,
    pub(crate) saved: Option<State>,
    pub(crate) recorded: Option<Leadership>,
    /// Kills leave something behind (a process that hangs in the kernel).
    pub(crate) undead: bool,
    /// What the fuse was told last.
    pub(crate) fuse: Option<MonoTime>,
    /// The watchdog device, and what the guard is to make of it.
    pub(crate) device: Option<(WatchdogRules, SimulatedWatchdog)>,
    /// Opening it fails so.
    pub(crate) device_trouble: Option<WatchdogTrouble>,
    /// Each call to it takes so long.
    pub(crate) device_takes: Duration,
    /// The guard has it open.
    pub(crate) device_open: bool,
    seq: u64,
}

/// What is found at the beginning, apart from what is given.
fn look() -> Look {
    Look {
        boot_id: boot(),
        layers: Layers::PROCESS,
        degraded: Degraded::default(),
        required: Layers::default(),
        fuse_wanted: false,
        fuse_live: false,
        state: None,
        fenced: None,
        populated: false,
        postmaster: None,
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::begin(MonoTime(1_000_000_000_000), None, None, false, None)
    }

    pub(crate) fn begin(
        now: MonoTime,
        state: Option<State>,
        fenced: Option<Leadership>,
        populated: bool,
        postmaster: Option<u32>,
    ) -> Self {
        let fenced = fenced.map(|leadership| (leadership, None));
        Self::on(now, Look { state, fenced, populated, postmaster, ..look() })
    }

    /// A host where a fuse is possible, and needed if `required` says so.
    pub(crate) fn fused(required: Layers) -> Self {
        let look = Look { required, fuse_wanted: true, ..look() };
        let mut desk = Self::on(MonoTime(1_000_000_000_000), look);
        desk.event(Event::FuseProbed { failure: None });
        desk
    }

    /// The guard dies and another begins beside a fuse that answers, or not.
    pub(crate) fn restart_fused(&mut self, fuse_live: bool) {
        let (state, populated) = (self.saved.clone(), self.populated);
        let look = Look { state, populated, postmaster: Some(4711), fuse_wanted: true, fuse_live, ..look() };
        *self = Self { fuse: self.fuse, ..Self::on(self.now, look) };
    }

    fn on(now: MonoTime, look: Look) -> Self {
        let (state, populated) = (look.state.clone(), look.populated);
        let recorded = look.fenced.map(|(leadership, _)| leadership);
        let watch = Watch::begin(now, LIMITS, look);
        let mut desk = Self {
            watch,
            now,
            populated,
            actions: vec![],
            saved: state,
            recorded,
            undead: false,
            fuse: None,
            device: None,
            device_trouble: None,
            device_takes: Duration::ZERO,
            device_open: false,
            seq: 0,
        };
        desk.work();
        desk
    }

    /// The guard dies and another begins; the rest of the world stays.
    pub(crate) fn restart(&mut self, state_kept: bool, postmaster: Option<u32>) {
        self.die();
        let state = self.saved.clone().filter(|_| state_kept);
        let (device, trouble) = (self.device.take(), self.device_trouble.take());
        *self = Self::begin(self.now, state, self.recorded, self.populated, postmaster);
        self.device_trouble = trouble;
        if let Some((rules, device)) = device {
            self.give_device(rules, device);
        }
    }

    /// The guard is killed: the kernel closes what it had open.
    pub(crate) fn die(&mut self) {
        if let Some((_, device)) = &mut self.device
            && std::mem::take(&mut self.device_open)
        {
            device.close(self.now);
        }
    }

    /// The guard begins with this device.
    pub(crate) fn give_device(&mut self, rules: WatchdogRules, device: SimulatedWatchdog) {
        let running = device.reset_at().is_some();
        self.device = Some((rules, device));
        let look = Look {
            state: self.saved.clone(),
            fenced: self.recorded.map(|leadership| (leadership, None)),
            populated: self.populated,
            postmaster: self.watch.status(self.now).postmaster,
            ..look()
        };
        self.watch = Watch::begin(self.now, LIMITS, look).with_watchdog(
            self.now,
            rules,
            "/dev/watchdog".into(),
            running,
        );
        self.work();
    }

    pub(crate) fn device(&mut self) -> &mut SimulatedWatchdog {
        &mut self.device.as_mut().expect("a device").1
    }

    fn use_device(&mut self, action: WatchdogAction) -> Option<WatchdogEvent> {
        let began = self.now;
        let trouble = self.device_trouble.clone();
        self.now = self.now + self.device_takes;
        let (now, (_, device)) = (self.now, self.device.as_mut()?);
        let failed = |code: i32| match code {
            errno::BUSY => WatchdogTrouble::Busy,
            other => WatchdogTrouble::Failed(format!("error {other}")),
        };
        Some(match action {
            WatchdogAction::Look => WatchdogEvent::Seen(Ok(WatchdogSight {
                identity: "simulated".into(),
                shortest: Some(Duration::from_secs(device.kind.shortest.into())),
                nowayout: Some(device.kind.nowayout),
                active: false,
            })),
            WatchdogAction::Open { timeout } => {
                let opened = trouble.map_or_else(|| device.open(now).map_err(failed), Err);
                let result = opened.map(|()| {
                    let seconds = u32::try_from(timeout.as_secs()).expect("a short timeout");
                    let _ = device.set_timeout(now, seconds);
                    self.device_open = true;
                    WatchdogFacts {
                        identity: "simulated".into(),
                        options: device.kind.options,
                        timeout: Some(Duration::from_secs(device.timeout().into())),
                        ..WatchdogFacts::default()
                    }
                });
                WatchdogEvent::Opened { began, result }
            }
            WatchdogAction::Ping => {
                let result = device.write(now, b"\0").map(drop).map_err(failed);
                WatchdogEvent::Pinged { began, result }
            }
            WatchdogAction::Close => {
                self.device_open = false;
                let _ = device.write(now, b"V");
                device.close(now);
                WatchdogEvent::Closed
            }
        })
    }

    /// The machine has not been reset so far.
    pub(crate) fn check_reset(&mut self) {
        let now = self.now;
        if let Some((_, device)) = &self.device
            && let Some(at) = device.reset_at()
        {
            assert!(at > now, "the machine was reset at {at}, it is {now}");
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.watch.handle_event(self.now, event);
        self.work();
    }

    fn work(&mut self) {
        while let Some(action) = self.watch.poll_action() {
            self.actions.push(action.clone());
            match action {
                Action::SaveState(state) => self.saved = Some(state),
                Action::SetFuse(deadline) => self.fuse = deadline,
                Action::RecordFence { leadership, .. } => self.recorded = Some(leadership),
                Action::Kill(_) => {
                    self.populated = self.undead;
                    let killed = Event::Killed { how: FenceMethod::CgroupKill, populated: self.populated };
                    self.watch.handle_event(self.now, killed);
                }
                Action::Watchdog(action) => {
                    if let Some(event) = self.use_device(action) {
                        self.watch.handle_event(self.now, Event::Watchdog(event));
                    }
                }
                _ => {}
            }
        }
    }

    /// Lets time pass, waking the decider whenever it asked for it.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.watch.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.watch.handle_timeout(self.now);
            self.work();
        }
        self.now = end;
    }

    pub(crate) fn ask_as(&mut self, peer: PeerId, request: Request) -> Option<Reply> {
        self.actions.clear();
        let populated = self.populated;
        self.event(Event::Requested { peer, request, populated });
        self.actions.iter().find_map(|action| match action {
            Action::Reply { reply, .. } => Some(reply.clone()),
            _ => None,
        })
    }

    pub(crate) fn ask(&mut self, request: Request) -> Option<Reply> {
        self.ask_as(PeerId(1), request)
    }

    pub(crate) fn seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    pub(crate) fn arm(&mut self, epoch: u64, generation: u64, ahead: Duration) -> Result<(), RefusalCode> {
        let (seq, deadline) = (self.seq(), self.now + ahead);
        let (epoch, generation) = (Epoch(epoch), Generation(generation));
        done(self.ask(Request::Arm { seq, epoch, generation, deadline, boot_id: boot() }))
    }

    pub(crate) fn renew(&mut self, epoch: u64, ahead: Duration) -> Result<(), RefusalCode> {
        let (seq, deadline) = (self.seq(), self.now + ahead);
        done(self.ask(Request::Renew { seq, epoch: Epoch(epoch), deadline }))
    }

    pub(crate) fn hold(&mut self, epoch: u64, ahead: Duration) -> Result<(), RefusalCode> {
        let (seq, until) = (self.seq(), self.now + ahead);
        done(self.ask(Request::Hold { seq, epoch: Epoch(epoch), until }))
    }

    pub(crate) fn release(&mut self, epoch: u64, proof: NoPrimary) -> Result<(), RefusalCode> {
        let seq = self.seq();
        done(self.ask(Request::Release { seq, epoch: Epoch(epoch), proof }))
    }

    pub(crate) fn acknowledge(&mut self, epoch: u64) -> Result<(), RefusalCode> {
        let seq = self.seq();
        done(self.ask(Request::AcknowledgeFenced { seq, epoch: Epoch(epoch) }))
    }

    /// Asks for a start and lets the launcher succeed; the number of the start.
    pub(crate) fn start(&mut self) -> Result<u64, RefusalCode> {
        let seq = self.seq();
        if let Some(Reply::Refused { code, .. }) = self.ask(Request::Start { seq, settings: vec![] }) {
            return Err(code);
        }
        assert!(self.actions.iter().any(|action| matches!(action, Action::Launch { .. })), "not launched");
        self.populated = true;
        self.event(Event::Launched { pid: 4711, system_id: Some(7) });
        Ok(self.watch.status(self.now).start)
    }

    pub(crate) fn kills(&self) -> Vec<KillCause> {
        let cause = |action: &Action| match action {
            Action::Kill(cause) => Some(cause.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(cause).collect()
    }

    pub(crate) fn notices(&self) -> Vec<Reply> {
        let notice = |action: &Action| match action {
            Action::Notice(reply) => Some(reply.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(notice).collect()
    }

    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        self.watch.status(self.now).armed.map(|armed| armed.deadline)
    }
}

fn done(reply: Option<Reply>) -> Result<(), RefusalCode> {
    match reply {
        Some(Reply::Ack { .. }) => Ok(()),
        Some(Reply::Refused { code, .. }) => Err(code),
        other => panic!("neither acknowledged nor refused: {other:?}"),
    }
}
