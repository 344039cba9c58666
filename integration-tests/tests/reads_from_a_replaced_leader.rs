//! The leader and both proxies are cut off from the other database hosts, and so from etcd. Another leads soon and counts
//! registers on, while clients of the proxies keep asking the old one, which its guard has not ended yet. The proxy with
//! `routing.reads = "linearizable"` passes nothing on that was old when it was asked for; the other one, with the default, does,
//! which shows that there was something to withhold.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::client_load::LoadOptions;
use ha_lab::registers::{self, Read, Readers, RegisterVerdict, Registers, stale_reads};
use ha_lab::{CLIENT, Cut, Lab, LabOptions};
use integration_tests::front::{Front, OPEN, own_front_scenario};
use integration_tests::proof::{SOME_ROWS, note, note_text};
use integration_tests::{SETTLE, TAKEOVER};

/// Passes on only what nobody else can have made old.
const SAFE: &str = "ha1";
/// As by default.
const USUAL: &str = "ha2";
const LINEARIZABLE: &str = "reads = \"linearizable\"";
const FRESH: &str = "reads = \"fresh\"";
/// Answers of one proxy that show that reads work.
const SOME_READS: u64 = 300;

#[test]
fn reads_from_a_replaced_leader() {
    own_front_scenario("reads_from_a_replaced_leader", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        run(lab)
    });
}

fn configure(mut options: LabOptions) -> LabOptions {
    options.appendix.push_str(&format!("\n[routing]\n{LINEARIZABLE}\n"));
    options.edit_on(USUAL, LINEARIZABLE, FRESH)
}

fn run(lab: &Lab) -> Result<()> {
    let leader = Front::of(lab)?.leader;
    Registers::prepare(lab, &leader)?;
    let others = lab.databases_except(&[&leader]);
    // Past the proxies, so that the new leader is written to though no proxy reaches it.
    let counting = LoadOptions { workers: 4, ..LoadOptions::all_hosts(lab)? };
    let writers = Registers::start(lab, counting)?;
    let reading = |proxy: &str| -> Result<Readers> {
        let through = LoadOptions::through(proxy, lab.address(proxy)?);
        Readers::start(lab, LoadOptions { workers: 4, pause: Duration::from_millis(5), ..through })
    };
    let (safe_readers, usual_readers) = (reading(SAFE)?, reading(USUAL)?);
    for readers in [&safe_readers, &usual_readers] {
        readers.wait_for_answers(SOME_READS, OPEN).context("before the fault")?;
    }

    let mut cuts = Cut::between(&[&leader, SAFE, USUAL], &others);
    cuts.extend(Cut::between(&[&leader], &[CLIENT]));
    let fault = lab.cut(cuts)?;
    lab.wait_leader_among(&others, TAKEOVER)?;
    writers.wait_for_acks(SOME_ROWS, TAKEOVER).context("by the new leader")?;
    usual_readers.wait_for_answers(SOME_READS, TAKEOVER).context("of the old leader, by the default")?;
    lab.heal()?;
    lab.wait_healthy(SETTLE)?;
    for readers in [&safe_readers, &usual_readers] {
        readers.wait_for_answers(SOME_READS, OPEN).context("after the fault")?;
    }

    let (safe_reads, usual_reads) = (safe_readers.finish()?, usual_readers.finish()?);
    let steps = writers.finish()?;
    let now = lab.wait_healthy(SETTLE)?;
    RegisterVerdict::new(&steps, &registers::read(lab, &now)?).check()?;
    let (stale, usually) = (stale_reads(&steps, &safe_reads), stale_reads(&steps, &usual_reads));
    std::fs::write(lab.dir().path().join("registers.json"), serde_json::to_vec(&(&steps, &safe_reads))?)
        .context("write registers.json")?;
    ensure!(
        stale.is_empty(),
        "{} answers were old when they were asked for: {:?}",
        stale.len(),
        stale.first()
    );
    ensure!(!usually.is_empty(), "by the default no answer was old either: this run proves nothing");
    let last = usually.iter().map(|read| read.invoked.saturating_sub(fault)).max().unwrap_or_default();
    note("replaced leader: last stale answer by the default, asked for after the fault", last)?;
    note_text("replaced leader: stale answers by the default", &usually.len().to_string())?;
    note("replaced leader: pause of linearizable reads", pause(&safe_reads, fault)?)
}

/// The longest time without an answer since the fault.
fn pause(reads: &[Read], fault: Duration) -> Result<Duration> {
    let mut ends: Vec<Duration> =
        reads.iter().map(|read| read.ended).filter(|ended| *ended >= fault).collect();
    ends.sort_unstable();
    ends.windows(2).map(|pair| pair[1] - pair[0]).max().context("no answers after the fault")
}
