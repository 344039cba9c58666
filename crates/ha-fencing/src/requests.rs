//! Answers to requests.

use ha_core::guard_link::{NoPrimary, RefusalCode, Reply, Request};
use ha_core::{BootId, Epoch, MonoTime};

use crate::action::{Action, KillCause};
use crate::event::PeerId;
use crate::fuse;
use crate::lease::Leadership;
use crate::reason::{Reason, Refusal};
use crate::watch::{Launching, Watch, next_start};

/// What becomes of a request that was carried out.
pub(crate) enum Done {
    /// Acknowledge it with what is armed now.
    Ack,
    /// The answer is on its way.
    Answered,
}

impl Watch {
    pub(crate) fn handle_request(&mut self, now: MonoTime, peer: PeerId, request: Request) {
        let (seq, name) = (request.seq(), name(&request));
        let outcome = self.check_seq(peer, seq).and_then(|()| self.carry_out(now, peer, request));
        self.answer((peer, seq), name, outcome);
    }

    /// Acknowledges or refuses.
    pub(crate) fn answer(
        &mut self,
        (peer, seq): (PeerId, u64),
        request: &'static str,
        outcome: Result<Done, Refusal>,
    ) {
        match outcome {
            Ok(Done::Answered) => {}
            Ok(Done::Ack) => {
                let reply = Reply::Ack { seq, armed: self.armed(), layers: self.present_layers() };
                self.push(Action::Reply { peer, reply });
            }
            Err(Refusal { code, text }) => {
                self.push(Action::Reply { peer, reply: Reply::Refused { seq, code, text: text.clone() } });
                self.note(Reason::Refused { request, text });
            }
        }
    }

    fn check_seq(&mut self, peer: PeerId, seq: u64) -> Result<(), Refusal> {
        let last = self.last_seq.entry(peer).or_default();
        if seq <= *last {
            let text = format!("request {seq} is not above {last}");
            return Err(Refusal::new(RefusalCode::StaleSequence, text));
        }
        *last = seq;
        Ok(())
    }

    fn carry_out(&mut self, now: MonoTime, peer: PeerId, request: Request) -> Result<Done, Refusal> {
        match request {
            Request::Hello { seq, boot_id } => {
                self.check_boot(&boot_id)?;
                self.push(Action::Report { peer, seq });
                return Ok(Done::Answered);
            }
            Request::Status { seq } => {
                self.push(Action::Report { peer, seq });
                return Ok(Done::Answered);
            }
            Request::Start { seq, settings } => {
                self.start(now, peer, seq, settings)?;
                return Ok(Done::Answered);
            }
            Request::Arm { seq, epoch, generation, deadline, boot_id } => {
                self.check_boot(&boot_id)?;
                let leadership = Leadership { epoch, generation };
                if self.await_watchdog(now, (peer, seq), leadership, deadline)? {
                    return Ok(Done::Answered);
                }
                return self.arm(now, (peer, seq), leadership, deadline);
            }
            Request::Renew { epoch, deadline, .. } => {
                self.check_watchdog()?;
                self.state.lease.renew(now, &self.limits, epoch, deadline)?;
                self.save();
            }
            Request::Release { epoch, proof, .. } => self.release_on(epoch, proof)?,
            Request::Hold { epoch, until, .. } => {
                self.state.lease.hold(now, epoch, until)?;
                self.save();
                self.note(match self.state.lease.hold_until {
                    Some(until) => Reason::Held { epoch, until },
                    None => Reason::HoldEnded { epoch },
                });
            }
            Request::KillAll { reason, .. } => {
                if self.populated || self.launching.is_some() {
                    self.end_all(now, KillCause::Asked(reason));
                }
            }
            Request::AcknowledgeFenced { epoch, .. } => self.acknowledge(epoch)?,
        }
        Ok(Done::Ack)
    }

    fn check_boot(&self, boot_id: &BootId) -> Result<(), Refusal> {
        if *boot_id == self.boot_id {
            return Ok(());
        }
        let text = format!("times of boot {} mean nothing in boot {}", boot_id.0, self.boot_id.0);
        Err(Refusal::new(RefusalCode::WrongBoot, text))
    }

    pub(crate) fn arm(
        &mut self,
        now: MonoTime,
        asked: (PeerId, u64),
        leadership: Leadership,
        deadline: MonoTime,
    ) -> Result<Done, Refusal> {
        self.check_watchdog()?;
        let before = self.state.lease;
        let new = fuse::is_new(&before, leadership);
        if new {
            self.check_layers()?;
        }
        self.state.lease.arm(now, &self.limits, leadership, deadline)?;
        self.unprotected_until = None;
        self.save();
        if before.armed.map(|held| held.leadership) != Some(leadership) {
            self.note(Reason::Armed { epoch: leadership.epoch, deadline });
        }
        let waits = new && self.await_fuse(now, asked, leadership, before);
        Ok(if waits { Done::Answered } else { Done::Ack })
    }

    fn release_on(&mut self, epoch: Epoch, proof: NoPrimary) -> Result<(), Refusal> {
        self.state.lease.held_for(epoch)?;
        let may_run = |text: String| Err(Refusal::new(RefusalCode::PrimaryMayRun, text));
        match proof {
            NoPrimary::Empty if self.populated || self.launching.is_some() => {
                may_run("processes are in the group".to_owned())
            }
            NoPrimary::Standby { start } if start != self.state.start => {
                may_run(format!("the standby was start {start}, this is start {}", self.state.start))
            }
            NoPrimary::Standby { .. } if self.launching.is_some() => {
                may_run("another postmaster is being started".to_owned())
            }
            NoPrimary::Standby { .. } if self.state.postmaster.is_none() && self.populated => {
                may_run("that postmaster has ended and others are left".to_owned())
            }
            NoPrimary::Empty => {
                self.release("nothing runs");
                Ok(())
            }
            NoPrimary::Standby { .. } => {
                self.release("the agent has seen a standby");
                Ok(())
            }
        }
    }

    fn start(
        &mut self,
        now: MonoTime,
        peer: PeerId,
        seq: u64,
        settings: Vec<(String, String)>,
    ) -> Result<(), Refusal> {
        if self.stopping || self.ending.is_some() {
            return Err(Refusal::new(RefusalCode::Stopping, "the guard is ending PostgreSQL"));
        }
        if let Some(fence) = self.state.fence {
            let text = format!("the fence of epoch {} has not been acknowledged", fence.epoch);
            return Err(Refusal::new(RefusalCode::FenceNotAcknowledged, text));
        }
        if self.populated || self.launching.is_some() || self.state.postmaster.is_some() {
            return Err(Refusal::new(RefusalCode::Populated, "processes are in the group"));
        }
        if let Some((name, _)) = settings.iter().find(|(name, value)| !well_formed(name, value)) {
            let text = format!("setting {name:?} may not be given on the command line");
            return Err(Refusal::new(RefusalCode::BadSetting, text));
        }
        self.state.start = next_start(self.state.start, now);
        self.occupied = true;
        self.launching = Some(Launching { peer, seq });
        self.save();
        self.note(Reason::Starting { start: self.state.start });
        let fused = self.fuse.begin_start();
        self.push(Action::Launch { settings, fused });
        Ok(())
    }

    fn acknowledge(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        match self.state.fence {
            Some(fence) if !fence.empty => {
                Err(Refusal::new(RefusalCode::Populated, "the group is not empty yet"))
            }
            Some(fence) if fence.epoch != epoch => Err(Refusal::new(
                RefusalCode::OtherEpoch,
                format!("epoch {} was fenced, not {epoch}", fence.epoch),
            )),
            _ => {
                self.forget_fence();
                Ok(())
            }
        }
    }
}

/// The directory is the guard's own configuration; NUL cannot be passed to a program.
fn well_formed(name: &str, value: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins_well && name.chars().all(good) && name != "data_directory" && !value.contains('\0')
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "hello",
        Request::Start { .. } => "start",
        Request::Arm { .. } => "arm",
        Request::Renew { .. } => "renew",
        Request::Release { .. } => "release",
        Request::Hold { .. } => "hold",
        Request::KillAll { .. } => "kill",
        Request::Status { .. } => "status",
        Request::AcknowledgeFenced { .. } => "acknowledgement of a fence",
    }
}
