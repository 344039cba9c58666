//! Clients that talk to the primary's own address, past every proxy, while it loses its agent or its network: what it still
//! acknowledges, and for how long. With `synchronous_commit = on` nothing that the new primary lacks; with `local` nothing
//! after the guard's deadline; in asynchronous mode nothing once another member has answered.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::client_load::{Attempt, Load, LoadOptions, Outcome};
use ha_lab::load_report::{Verdict, same_rows_everywhere, write_log};
use ha_lab::local_commits::{LocalVerdict, first_answers};
use ha_lab::wait::wait_for;
use ha_lab::{CLIENT, Cut, Lab};
use integration_tests::proof::{SOME_ROWS, note, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

/// Numbers of the direct clients.
const DIRECT: u64 = 1_000_000_000;
/// From here on numbers are of sessions with local commits.
const LOCAL: u64 = 100 * DIRECT;
/// From a fault to the end of the old primary's PostgreSQL: a lease, and a loaded machine.
const FENCE: Duration = Duration::from_secs(30);

/// What happens to the primary.
#[derive(Debug, Clone, Copy)]
enum Fault {
    AgentKilled,
    AgentStopped,
    /// Nobody but the client host reaches it.
    Partitioned,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::AgentKilled => "agent killed for good",
            Self::AgentStopped => "agent stopped",
            Self::Partitioned => "primary cut off from all but its clients",
        }
    }

    fn strike(self, lab: &Lab, primary: &str) -> Result<Duration> {
        match self {
            Self::AgentKilled => {
                lab.mask(primary, "pg-agent")?;
                lab.signal(primary, "pg-agent", "SIGKILL")
            }
            Self::AgentStopped => {
                lab.mask(primary, "pg-agent")?;
                lab.signal(primary, "pg-agent", "SIGSTOP")
            }
            Self::Partitioned => {
                let hosts = lab.hosts().iter().map(|host| host.name.as_str());
                let others: Vec<&str> = hosts.filter(|name| *name != primary && *name != CLIENT).collect();
                lab.cut(Cut::between(&[primary], &others))
            }
        }
    }
}

/// What three kinds of clients tried.
struct Tried {
    fault: Duration,
    primary: String,
    /// Commits as the cluster has them by default.
    usual: Vec<Attempt>,
    /// Those that wait for nobody.
    local: Vec<Attempt>,
}

impl Tried {
    /// The old primary's last acknowledgement to these, after the fault.
    fn last_answer(&self, attempts: &[Attempt]) -> Duration {
        let old = attempts.iter().filter(|attempt| attempt.host == self.primary);
        let answered = old.filter(|attempt| attempt.outcome == Outcome::Acked && attempt.id >= DIRECT);
        // A new primary on the same host is none that was replaced.
        let timeline = answered.clone().map(|attempt| attempt.timeline).min();
        let last =
            answered.filter(|attempt| Some(attempt.timeline) == timeline).map(|attempt| attempt.ended).max();
        last.unwrap_or_default().saturating_sub(self.fault)
    }
}

/// One fault under all three kinds of clients, to its end and back to a healthy cluster.
fn through(lab: &Lab, fault: Fault) -> Result<Tried> {
    let primary = lab.wait_healthy(SETTLE)?;
    lab.sql(&primary, "DROP TABLE IF EXISTS appload")?;
    let load = writing(lab, &primary)?;
    let direct = LoadOptions { workers: 2, first_id: DIRECT, ..LoadOptions::hosts(lab, &[&primary])? };
    let local = LoadOptions { local_commits: true, first_id: LOCAL, ..direct.clone() };
    let (direct, local) = (Load::start(lab, direct)?, Load::start(lab, local)?);
    direct.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    local.wait_for_acks(SOME_ROWS, TAKEOVER)?;

    let at = fault.strike(lab, &primary)?;
    lab.wait_leader_among(&lab.databases_except(&[&primary]), TAKEOVER)?;
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    wait_for("the end of the old primary's PostgreSQL", FENCE, || {
        match lab.host_status(&primary).map_err(|error| format!("{error:#}"))?.postmaster {
            Some(pid) => Err(format!("postmaster {pid} lives")),
            None => Ok(()),
        }
    })?;
    let (local, direct) = (local.finish()?, direct.finish()?);
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    lab.restore()?;
    lab.wait_healthy(SETTLE)?;
    let usual = [load.finish()?, direct].concat();
    write_log(&usual, &lab.dir().path().join("load.jsonl"))?;
    write_log(&local, &lab.dir().path().join("load-local.jsonl"))?;
    Ok(Tried { fault: at, primary, usual, local })
}

#[test]
fn direct_clients_of_an_old_primary() {
    scenario("direct_clients_of_an_old_primary", reference, &[], |lab| {
        for fault in [Fault::AgentKilled, Fault::AgentStopped, Fault::Partitioned] {
            synchronous(lab, fault).with_context(|| fault.name())?;
        }
        Ok(())
    });
}

fn synchronous(lab: &Lab, fault: Fault) -> Result<()> {
    let tried = through(lab, fault)?;
    let leader = lab.wait_healthy(SETTLE)?;
    let rows = same_rows_everywhere(lab, &leader, SETTLE)?;
    let (local_rows, rows): (BTreeSet<u64>, BTreeSet<u64>) = rows.into_iter().partition(|id| *id >= LOCAL);
    Verdict::new(&tried.usual, &rows).check()?;

    let lease = lab.lease_ttl()?;
    let first = first_answers(tried.usual.iter().chain(&tried.local));
    LocalVerdict::new(&tried.local, &local_rows, &first, lease).check()?;
    let (on, local) = (tried.last_answer(&tried.usual), tried.last_answer(&tried.local));
    note(&format!("{}: last direct acknowledgement at on, after the fault", fault.name()), on)?;
    note(&format!("{}: last direct acknowledgement at local, after the fault", fault.name()), local)?;
    ensure!(local > Duration::ZERO, "nothing was acknowledged after the fault: this proves nothing");
    ensure!(
        local <= lease,
        "a local commit was acknowledged {local:.2?} after the fault; the lease is {lease:?}"
    );
    Ok(())
}

#[test]
fn direct_clients_of_an_old_asynchronous_primary() {
    let asynchronous = |options: ha_lab::LabOptions| options.mode("asynchronous");
    scenario("direct_clients_of_an_old_asynchronous_primary", asynchronous, &[], |lab| {
        for fault in [Fault::AgentKilled, Fault::Partitioned] {
            without_waiting(lab, fault).with_context(|| fault.name())?;
        }
        Ok(())
    });
}

/// Commits may be lost here, but never are there two who take them.
fn without_waiting(lab: &Lab, fault: Fault) -> Result<()> {
    let tried = through(lab, fault)?;
    let leader = lab.wait_healthy(SETTLE)?;
    let rows = same_rows_everywhere(lab, &leader, SETTLE)?;
    let all = [tried.usual.as_slice(), &tried.local].concat();
    let first = first_answers(all.iter());
    LocalVerdict::new(&all, &rows, &first, Duration::ZERO).check()?;
    let last = tried.last_answer(&all);
    let newest = first.values().next_back().copied().unwrap_or_default().saturating_sub(tried.fault);
    note(
        &format!("asynchronous, {}: last acknowledgement of the old primary, after the fault", fault.name()),
        last,
    )?;
    note(
        &format!("asynchronous, {}: first acknowledgement of the new primary, after the fault", fault.name()),
        newest,
    )
}
