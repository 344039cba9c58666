//! One event under load, once: the fault, how long writes stood still, and the cluster whole again.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::event::{Ends, Event};
use super::phases::{self, Phases};
use super::report::Sample;
use super::stack::Stack;
use crate::client_load::{Attempt, Load, LoadOptions};
use crate::lab::Lab;
use crate::load_report::{Verdict, outage, rows};
use crate::wait::wait_for;
use crate::{clock, etcd};

/// From a fault to another leader. The usual stack needs a minute when a lease has to run out twice.
const TAKEOVER: Duration = Duration::from_secs(120);
/// From the end of a fault to a whole cluster.
const REJOIN: Duration = Duration::from_secs(120);
/// From a fault to the end of a PostgreSQL that has no agent.
const FENCE: Duration = Duration::from_secs(60);
/// Writes that must flow before a fault, and after it.
const SOME_ROWS: u64 = 200;
/// How long a cluster is watched that a fault may not have moved.
const WATCHED: Duration = Duration::from_secs(3);

/// Runs it on a healthy cluster, and leaves a healthy one.
pub(super) fn run(stack: Stack, lab: &Lab, event: Event, round: u32) -> Result<Sample> {
    let what = || format!("{}, round {round}", event.name());
    let leader = stack.wait_healthy(lab, REJOIN).with_context(|| format!("before {}", what()))?;
    place_etcd_leader(lab, event, &leader)?;
    lab.sql(&leader, "TRUNCATE appload")?;
    let load = Load::start(lab, LoadOptions::through_vip(lab)?)?;
    load.wait_for_acks(SOME_ROWS, REJOIN).with_context(|| format!("before {}", what()))?;

    let fault = strike(stack, lab, event, &leader).with_context(what)?;
    let fenced = if event.leaves_postgres_alone() && stack == Stack::Ours {
        Some(lab.wait_postgres_ended(&leader, FENCE).with_context(what)?)
    } else {
        None
    };
    wait_end(stack, lab, event, &leader).with_context(what)?;
    load.wait_for_acks(SOME_ROWS, TAKEOVER).with_context(what)?;
    let end = clock::now();
    let phases = if stack == Stack::Ours { phases::of_newest_leadership(lab) } else { Phases::new() };

    undo(stack, lab, event, &leader).with_context(|| format!("undo {}", what()))?;
    let (now, incomplete) = match stack.wait_healthy(lab, REJOIN) {
        Ok(now) => (now, None),
        // What the usual stack does not mend by itself is worth knowing, and no reason to measure nothing more of it.
        Err(error) if stack == Stack::Classic => {
            (lab.wait_leader_among(&lab.databases(), REJOIN)?, Some(format!("{error:#}")))
        }
        Err(error) => return Err(error.context(format!("after {}", what()))),
    };
    let attempts = load.finish()?;
    let verdict = Verdict::new(&attempts, &rows(lab, &now)?);
    let found = sample(stack, event, round, (fault, fenced, end), &attempts, verdict, phases)?;
    Ok(Sample { incomplete, ..found })
}

/// Where etcd's leader is belongs to the event: elsewhere unless it says so.
fn place_etcd_leader(lab: &Lab, event: Event, leader: &str) -> Result<()> {
    let place = match event {
        Event::PowerLossWithEtcdLeader => leader.to_owned(),
        _ => lab.databases_except(&[leader])[0].to_owned(),
    };
    wait_for("etcd's leader in its place", REJOIN, || {
        etcd::move_leader(lab, &place).map_err(|error| format!("{error:#}"))
    })
}

/// Returns when it hit.
fn strike(stack: Stack, lab: &Lab, event: Event, leader: &str) -> Result<Duration> {
    match event {
        Event::PowerLoss | Event::PowerLossWithEtcdLeader => lab.power_off(&[leader]),
        Event::Partition => lab.isolate(&[leader]),
        Event::PostmasterKilled => lab.signal(leader, "postgres", "SIGKILL"),
        Event::Switchover | Event::SwitchoverWithoutStop => {
            let candidate = stack.candidate(lab, leader)?;
            let options: &[&str] =
                if event == Event::SwitchoverWithoutStop { &["--without-stop"] } else { &[] };
            let at = clock::now();
            stack.switch_over(lab, leader, &candidate, options)?;
            Ok(at)
        }
        Event::AgentKilled => lab.signal(leader, stack.agent(), "SIGKILL"),
        Event::AgentKilledForGood => {
            lab.mask(leader, stack.agent())?;
            lab.signal(leader, stack.agent(), "SIGKILL")
        }
        Event::AgentStopped => {
            lab.mask(leader, stack.agent())?;
            lab.signal(leader, stack.agent(), "SIGSTOP")
        }
    }
}

fn wait_end(stack: Stack, lab: &Lab, event: Event, leader: &str) -> Result<()> {
    match event.ends() {
        Ends::OtherLeads => lab.wait_leader_among(&lab.databases_except(&[leader]), TAKEOVER).map(drop),
        Ends::Healthy => {
            // Not a wait for something: a fault that nobody notices must be watched for a while.
            thread::sleep(WATCHED);
            match stack {
                Stack::Ours => stack.wait_healthy(lab, REJOIN).map(drop),
                // Whether all of it comes back is looked at afterwards.
                Stack::Classic => lab.wait_leader_among(&lab.databases(), TAKEOVER).map(drop),
            }
        }
    }
}

/// Ends the fault. An agent that was stopped is replaced by a new process, as an operator would do it.
fn undo(stack: Stack, lab: &Lab, event: Event, leader: &str) -> Result<()> {
    match event {
        Event::PowerLoss | Event::PowerLossWithEtcdLeader => lab.power_on(&[leader]),
        Event::Partition => lab.heal().map(drop),
        Event::PostmasterKilled | Event::Switchover | Event::SwitchoverWithoutStop | Event::AgentKilled => {
            Ok(())
        }
        Event::AgentKilledForGood => lab.start_unit(leader, stack.agent()),
        Event::AgentStopped => {
            lab.signal(leader, stack.agent(), "SIGKILL")?;
            wait_for("end of the stopped agent", Duration::from_secs(10), || {
                let status = lab.host_status(leader).map_err(|error| format!("{error:#}"))?;
                let agent = status.units.iter().find(|unit| unit.name == stack.agent());
                agent.and_then(|unit| unit.pid).map_or(Ok(()), |pid| Err(format!("process {pid}")))
            })?;
            lab.start_unit(leader, stack.agent())
        }
    }
}

fn sample(
    stack: Stack,
    event: Event,
    round: u32,
    (fault, fenced, end): (Duration, Option<Duration>, Duration),
    attempts: &[Attempt],
    verdict: Verdict,
    phases: Phases,
) -> Result<Sample> {
    // What the return of the old primary costs is another event.
    let until_end: Vec<Attempt> = attempts.iter().filter(|attempt| attempt.ended < end).cloned().collect();
    let found = outage(&until_end, fault).context("no row acknowledged after the fault")?;
    let seconds = |time: Duration| time.as_secs_f64();
    Ok(Sample {
        stack,
        event,
        round,
        outage: seconds(found.length()),
        fenced_after: fenced.map(|fenced| seconds(fenced.saturating_sub(fault))),
        outage_from_fence: fenced.map(|fenced| seconds(found.first_after.saturating_sub(fenced))),
        acknowledged: verdict.acked,
        lost: verdict.lost.into_iter().collect::<BTreeSet<_>>(),
        double_acks: verdict.double_acks,
        incomplete: None,
        phases,
    })
}
