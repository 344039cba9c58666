//! Lets the faults of an episode happen in a lab, and ends them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::fault::{Fault, Place};
use super::schedule::Episode;
use crate::clock;
use crate::etcd::PORTS as ETCD;
use crate::lab::Lab;
use crate::switch::Cut;

/// What came of one fault of the schedule.
#[derive(Debug, Clone)]
pub(crate) struct Struck {
    /// When it hit, on the monotonic clock.
    pub(crate) at: Duration,
    /// What happened to whom, or why nothing did.
    pub(crate) what: String,
}

/// A fault that is in force, with what ends it.
#[derive(Debug)]
struct InForce {
    until: Duration,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    PowerOn(String),
    Uncut(Vec<Cut>),
    Start(String, &'static str),
    Continue(String, &'static str),
}

/// Carries faults out, one episode at a time.
#[derive(Debug)]
pub(crate) struct Nemesis<'a> {
    lab: &'a Lab,
    /// The last known primary: faults hit it even while nobody leads.
    primary: String,
    in_force: Vec<InForce>,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(lab: &'a Lab, primary: &str) -> Self {
        Self { lab, primary: primary.to_owned(), in_force: Vec::new() }
    }

    /// Runs an episode; when it returns, everything has ended. A fault that cannot be (its host is off) is noted and left out.
    ///
    /// # Errors
    /// A fault could not be ended.
    pub(crate) fn run(&mut self, episode: &Episode) -> Result<Vec<Struck>> {
        let start = Instant::now();
        let mut struck = Vec::new();
        let mut left = episode.faults.iter().peekable();
        loop {
            let now = start.elapsed();
            self.end_due(now)?;
            while let Some(timed) = left.next_if(|timed| timed.after <= now) {
                let at = clock::now();
                let what = match self.strike(timed.fault) {
                    Ok((what, end)) => {
                        self.in_force
                            .extend(end.map(|end| InForce { until: timed.after + timed.lasts, end }));
                        what
                    }
                    Err(error) => format!("left out: {}: {error:#}", timed.fault),
                };
                struck.push(Struck { at, what });
            }
            let next = left.peek().map(|timed| timed.after);
            let Some(next) = self.in_force.iter().map(|fault| fault.until).chain(next).min() else { break };
            // The schedule's own times, not a wait for a condition.
            thread::sleep(next.saturating_sub(start.elapsed()));
        }
        Ok(struck)
    }

    /// Ends what has lasted long enough.
    fn end_due(&mut self, now: Duration) -> Result<()> {
        let mut due: Vec<InForce> = self.in_force.extract_if(.., |fault| fault.until <= now).collect();
        due.sort_by_key(|fault| fault.until);
        due.into_iter().try_for_each(|fault| self.end(fault.end))
    }

    fn end(&self, end: End) -> Result<()> {
        match end {
            End::PowerOn(host) => self.lab.power_on(&[&host]),
            End::Uncut(cuts) => {
                let mut left = self.lab.status()?.cuts;
                for cut in cuts {
                    // Another fault may have made the same cut: only one of them ends.
                    if let Some(index) = left.iter().position(|other| *other == cut) {
                        left.remove(index);
                    }
                }
                self.lab.set_cuts(left).map(drop)
            }
            End::Start(host, unit) if self.is_on(&host) => self.lab.start_unit(&host, unit),
            // It may have ended or been replaced meanwhile: then there is nothing to wake.
            End::Continue(host, unit) if self.is_on(&host) => {
                self.lab.signal(&host, unit, "SIGCONT").ok();
                Ok(())
            }
            // With the host's power went what was frozen or masked.
            End::Start(..) | End::Continue(..) => Ok(()),
        }
    }

    fn is_on(&self, host: &str) -> bool {
        self.lab.init_of(host).is_ok()
    }

    fn resolve(&mut self, place: Place) -> Result<String> {
        match place {
            Place::Primary => {
                self.look_for_primary();
                Ok(self.primary.clone())
            }
            Place::Standby(index) => {
                self.look_for_primary();
                let others = self.lab.databases_except(&[&self.primary]);
                Ok(others[usize::from(index) % others.len()].to_owned())
            }
            Place::Active | Place::Backup => {
                let holders = self.lab.vip_holders()?;
                let proxies = self.lab.proxies();
                let active = holders.first().map_or(proxies[0], String::as_str);
                let backup = proxies.iter().find(|name| **name != active).copied().unwrap_or(active);
                Ok(if place == Place::Active { active } else { backup }.to_owned())
            }
        }
    }

    fn look_for_primary(&mut self) {
        let leads = |host: &&str| self.lab.rest(host, "/primary").is_ok_and(|answer| answer.status == 200);
        if let Some(host) = self.lab.databases().into_iter().find(leads) {
            host.clone_into(&mut self.primary);
        }
    }

    /// Lets it happen. Returns what happened, and what ends it.
    fn strike(&mut self, fault: Fault) -> Result<(String, Option<End>)> {
        let host = self.resolve(fault.place())?;
        anyhow::ensure!(self.is_on(&host), "{host} is off");
        let what = format!("{fault}: {host}");
        let lab = self.lab;
        let end = match fault {
            Fault::PowerLoss(_) => {
                lab.power_off(&[&host])?;
                Some(End::PowerOn(host))
            }
            Fault::Isolated(_) => Some(self.cut(Cut::between(&[&host], &self.others(&host)))?),
            Fault::Partition(_, other) => {
                let other = self.resolve(other)?;
                Some(self.cut(Cut::between(&[&host], &[&other]))?)
            }
            Fault::OneWay(_, other) => {
                let other = self.resolve(other)?;
                Some(self.cut(vec![Cut::one_way(&[&host], &[&other], &[])])?)
            }
            Fault::NoEtcd(_) => {
                Some(self.cut(Cut::ports_between(&[&host], &lab.databases_except(&[&host]), &ETCD))?)
            }
            Fault::Killed(_, unit) => {
                lab.signal(&host, unit, "SIGKILL")?;
                None
            }
            Fault::Down(_, unit) => {
                lab.mask(&host, unit)?;
                // It may have ended a moment ago: it stays down all the same.
                lab.signal(&host, unit, "SIGKILL").ok();
                Some(End::Start(host, unit))
            }
            Fault::Frozen(_, unit) => {
                lab.signal(&host, unit, "SIGSTOP")?;
                Some(End::Continue(host, unit))
            }
        };
        Ok((what, end))
    }

    fn cut(&self, cuts: Vec<Cut>) -> Result<End> {
        self.lab.cut(cuts.clone())?;
        Ok(End::Uncut(cuts))
    }

    fn others(&self, host: &str) -> Vec<&str> {
        self.lab.hosts().iter().map(|other| other.name.as_str()).filter(|name| *name != host).collect()
    }
}
