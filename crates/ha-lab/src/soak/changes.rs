//! What happens to the cluster while the proxies stay.
#![allow(clippy::print_stdout, reason = "the report is its output")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::nemesis::Dice;

/// Between the beginnings of two changes; every second one is a switchover.
const EVERY: Duration = Duration::from_secs(30);
/// From a change to a whole cluster.
const WHOLE: Duration = Duration::from_secs(120);
/// How long a member gets no new sessions.
const DRAINED: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy)]
enum Change {
    Switchover,
    PostmasterKilled,
    AgentKilled,
    MemberDrained,
    AddressMoved,
    Nothing,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::PostmasterKilled => "postmaster killed",
            Self::AgentKilled => "agent killed",
            Self::MemberDrained => "member drained at the proxies and back",
            Self::AddressMoved => "floating address moved",
            Self::Nothing => "nothing",
        }
    }
}

/// Changes by chance, one after the other.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    lab: &'a Lab,
    dice: Dice,
    number: u32,
}

impl<'a> Changes<'a> {
    pub(super) fn new(lab: &'a Lab, seed: u64) -> Self {
        Self { lab, dice: Dice::new(seed), number: 0 }
    }

    /// Changes until then; what was changed. The cluster is whole after each.
    ///
    /// # Errors
    /// It did not become whole, or a command was refused.
    pub(super) fn run(&mut self, until: Instant) -> Result<Vec<&'static str>> {
        let mut changed = Vec::new();
        loop {
            let begin = Instant::now();
            // The last one must have time to end within the load.
            if begin + EVERY / 2 > until {
                pause(until.saturating_duration_since(begin));
                return Ok(changed);
            }
            let change = self.choose();
            let leader = self.lab.wait_healthy(WHOLE)?;
            let what = self.make(change, &leader)?;
            println!("           {what}");
            if !matches!(change, Change::Nothing) {
                changed.push(change.name());
            }
            self.lab.wait_healthy(WHOLE)?;
            pause(EVERY.saturating_sub(begin.elapsed()).min(until.saturating_duration_since(Instant::now())));
        }
    }

    fn choose(&mut self) -> Change {
        self.number += 1;
        if self.number % 2 == 1 {
            return Change::Switchover;
        }
        // In the warm-up each proxy must have had the most clients that it will have: those of the address are half of all.
        if self.number == 2 {
            return Change::AddressMoved;
        }
        self.dice.weighted(&[
            (3, Change::MemberDrained),
            (2, Change::PostmasterKilled),
            (2, Change::AgentKilled),
            (2, Change::AddressMoved),
            (1, Change::Nothing),
        ])
    }

    /// Makes it, and says to whom.
    fn make(&mut self, change: Change, leader: &str) -> Result<String> {
        let (lab, databases) = (self.lab, self.lab.databases());
        let any = self.dice.one_of(&databases);
        match change {
            Change::Switchover => {
                let candidate = self.dice.one_of(&lab.databases_except(&[leader]));
                self.hactl(&["switchover", "--leader", leader, "--candidate", candidate, "--yes"])?;
                Ok(format!("switchover from {leader} to {candidate}"))
            }
            Change::PostmasterKilled => {
                lab.signal(leader, "postgres", "SIGKILL")?;
                Ok(format!("postmaster of {leader}, which leads, killed"))
            }
            Change::AgentKilled => {
                lab.signal(any, "pg-agent", "SIGKILL")?;
                Ok(format!("agent of {any} killed"))
            }
            Change::MemberDrained => {
                self.hactl(&["proxy", "drain", any, "--yes"])?;
                // As long as somebody works there.
                pause(DRAINED);
                self.hactl(&["proxy", "ready", any, "--yes"])?;
                Ok(format!("{any} drained at the proxies, and back"))
            }
            Change::AddressMoved => {
                self.hactl(&["vip", "move", "--yes"])?;
                Ok("floating address moved".to_owned())
            }
            Change::Nothing => Ok("nothing".to_owned()),
        }
    }

    fn hactl(&self, arguments: &[&str]) -> Result<()> {
        let output = self.lab.hactl(arguments)?;
        let (out, error) = (output.stdout.trim(), output.stderr.trim());
        ensure!(output.code == Some(0), "hactl {}: {out} {error}", arguments.join(" "));
        Ok(())
    }
}

/// The schedule's own times, not a wait for a condition.
fn pause(length: Duration) {
    thread::sleep(length);
}
