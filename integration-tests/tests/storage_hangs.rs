//! The primary's data disk stops taking writes and says nothing: PostgreSQL answers on, its heartbeats come, no commit ends.
//! Its agent notices, another member leads, and the old primary is ended and comes back when its disk does.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::load_report::outage;
use ha_lab::{DataDisk, Lab, LabOptions};
use integration_tests::proof::{SOME_ROWS, note, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, scenario};

/// How long a write may take here.
const TIMEOUT: Duration = Duration::from_secs(3);
/// From the freeze to acknowledged writes of another member.
const BOUND: Duration = Duration::from_secs(25);

/// Processes that hang in a frozen file system cannot be ended, so it is thawed whatever happens.
struct Thaw<'a>(&'a Lab, &'a str);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        drop(self.0.thaw_disk(self.1)); // an error: it is thawed already
    }
}

#[test]
fn storage_hangs() {
    let freezable = |mut options: LabOptions| {
        options.appendix.push_str(&format!("\n[failover]\nstorage_timeout = \"{}s\"\n", TIMEOUT.as_secs()));
        LabOptions { data_disk: Some(DataDisk::Freezable), ..options }
    };
    // What was killed cannot leave the kernel before the disk answers; the guard says so.
    let expected = ["the group is not empty"];
    scenario("storage_hangs", freezable, &expected, run);
}

fn run(lab: &Lab) -> Result<()> {
    let primary = lab.wait_healthy(SETTLE)?;
    let load = writing(lab, &primary)?;
    let thaw = Thaw(lab, &primary);
    let at = lab.freeze_disk(&primary)?;
    let others = lab.databases_except(&[&primary]);
    let next = lab.wait_leader_among(&others, TAKEOVER)?;
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    let log = std::fs::read_to_string(lab.dir().host(&primary).join("log/pg-agent.log")).unwrap_or_default();
    ensure!(log.contains("storage does not answer"), "the agent of {primary} did not say why it hands over");
    drop(thaw);
    // It comes back behind the one that leads now, and does not take leadership back.
    ensure!(lab.wait_healthy(SETTLE)? == next, "leadership moved once more");
    let attempts = prove(lab, load)?;
    let found = outage(&attempts, at).map_or(Duration::ZERO, |outage| outage.length());
    note("storage of the primary hangs", found)?;
    ensure!(found < BOUND, "writes stood still for {found:.2?}, at most {BOUND:?} expected");
    ensure!(found > TIMEOUT / 2, "writes went on for {found:.2?}: the disk did not hang");
    Ok(())
}
