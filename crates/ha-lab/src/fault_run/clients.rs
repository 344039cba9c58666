//! The clients of a fault run, and what they prove.
#![allow(clippy::print_stdout, reason = "the report is its output")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client_load::{Attempt, Load, LoadOptions};
use crate::lab::Lab;
use crate::load_report::{Verdict, same_rows_everywhere, write_log};
use crate::local_commits::{LocalVerdict, first_answers};
use crate::registers::{self, RegisterVerdict, Registers, Step};

/// Each client has numbers of its own, so many.
const RANGE: u64 = 1_000_000_000;
/// From here on numbers are of sessions whose commits are local.
const LOCAL: u64 = 100 * RANGE;
/// How long a member may take to have what its leader has.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Everybody who writes.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) through_vip: Load,
    /// On each database host, by its own address.
    direct: Vec<Load>,
    /// The same with commits that wait for nobody.
    local: Vec<Load>,
    registers: Registers,
}

impl Clients {
    /// Makes their tables and lets them begin.
    pub(super) fn start(lab: &Lab, leader: &str) -> Result<Self> {
        Load::prepare(lab, leader)?;
        Registers::prepare(lab, leader)?;
        let through_vip = LoadOptions { pause: Duration::from_millis(40), ..LoadOptions::through_vip(lab)? };
        let counting = LoadOptions { workers: 4, pause: Duration::from_millis(50), ..through_vip.clone() };
        let mut direct = Vec::new();
        let mut local = Vec::new();
        for (number, host) in (1..).zip(lab.databases()) {
            let options = LoadOptions {
                workers: 2,
                pause: Duration::from_millis(60),
                // Two hosts of three refuse: not so often that logins are all that the machine does.
                between_rounds: Duration::from_millis(500),
                first_id: number * RANGE,
                ..LoadOptions::hosts(lab, &[host])?
            };
            let careless = LoadOptions {
                workers: 1,
                local_commits: true,
                first_id: LOCAL + number * RANGE,
                ..options.clone()
            };
            direct.push(Load::start(lab, options)?);
            local.push(Load::start(lab, careless)?);
        }
        Ok(Self {
            through_vip: Load::start(lab, through_vip)?,
            direct,
            local,
            registers: Registers::start(lab, counting)?,
        })
    }

    /// Ends them all.
    pub(super) fn finish(self) -> Result<Tried> {
        let all = |loads: Vec<Load>| -> Result<Vec<Attempt>> {
            let attempts: Vec<Vec<Attempt>> = loads.into_iter().map(Load::finish).collect::<Result<_>>()?;
            Ok(attempts.concat())
        };
        Ok(Tried {
            through_vip: self.through_vip.finish()?,
            direct: all(self.direct)?,
            local: all(self.local)?,
            steps: self.registers.finish()?,
        })
    }
}

/// What all of them tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) through_vip: Vec<Attempt>,
    direct: Vec<Attempt>,
    local: Vec<Attempt>,
    steps: Vec<Step>,
}

impl Tried {
    /// Writes it beside the logs.
    pub(super) fn write(&self, lab: &Lab) -> Result<()> {
        let path = lab.dir().path();
        write_log(&[self.through_vip.as_slice(), &self.direct].concat(), &path.join("load.jsonl"))?;
        write_log(&self.local, &path.join("load-local.jsonl"))?;
        let steps = serde_json::to_vec(&self.steps)?;
        std::fs::write(path.join("registers.json"), steps).context("write registers.json")
    }

    /// Holds it against what is there in the end, on every member.
    pub(super) fn prove(&self, lab: &Lab, whole: Duration) -> Result<()> {
        let leader = lab.wait_healthy(whole)?;
        let rows = same_rows_everywhere(lab, &leader, CATCH_UP)?;
        let (local_rows, rows): (BTreeSet<u64>, BTreeSet<u64>) =
            rows.into_iter().partition(|id| *id >= LOCAL);
        let attempts = [self.through_vip.as_slice(), &self.direct].concat();
        let verdict = Verdict::new(&attempts, &rows);
        println!("{verdict}, two primaries acknowledged: {}", verdict.double_acks.len());

        let lease = lab.lease_ttl()?;
        let first = first_answers(attempts.iter().chain(&self.local));
        let local = LocalVerdict::new(&self.local, &local_rows, &first, lease);
        println!(
            "local commits: acknowledged {}, lost {} (legal at a change of leader); latest answer of an old primary {:.2} s \
             after the first of the new one, allowed {:.0} s",
            local.acked,
            local.lost,
            local.latest.as_secs_f64(),
            lease.as_secs_f64()
        );
        let counted = RegisterVerdict::new(&self.steps, &registers::read(lab, &leader)?);
        println!("{counted}");
        ensure!(verdict.acked > 0 && counted.acked > 0, "nothing was acknowledged: this run proves nothing");
        verdict.check()?;
        counted.check()?;
        local.check()
    }
}
