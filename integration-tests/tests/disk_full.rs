//! The data disk of the primary is full. Writes fail or move; when there is room again all is well and nothing is lost.

use std::thread;
use std::time::Duration;

use ha_lab::{DataDisk, LabOptions};
use integration_tests::proof::{SOME_ROWS, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, scenario};

/// Long enough for PostgreSQL to run into the wall, and for a takeover.
const FULL: Duration = Duration::from_secs(20);

#[test]
fn disk_full() {
    let small_disks =
        |options: LabOptions| LabOptions { data_disk: Some(DataDisk::Small { mebibytes: 512 }), ..options };
    scenario("disk_full", small_disks, &["No space left on device"], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        lab.fill_disk(&primary)?;
        // No condition to wait for: whether writes go on depends on who fails first, PostgreSQL or its patience.
        thread::sleep(FULL);
        lab.free_disk(&primary)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.wait_healthy(SETTLE)?;
        prove(lab, load).map(drop)
    });
}
