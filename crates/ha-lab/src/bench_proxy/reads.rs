//! The reference cluster with read leases, and two proxies of which only one asks for them.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::LIMIT;
use super::setting::{SCALE, Setting, USER, done, wait_answered};
use super::way::Way;
use crate::lab::Lab;
use crate::options::LabOptions;
use crate::topology::CLIENT;

/// From power-on to a healthy cluster.
const BOOTSTRAP: Duration = Duration::from_secs(120);
const LINEARIZABLE: &str = "reads = \"linearizable\"";
const FRESH: &str = "reads = \"fresh\"";

/// Brings it up, with the data of the load in it.
pub(super) fn start(directory: &Path) -> Result<Setting> {
    let mut options = LabOptions::five_hosts(directory)?;
    options.appendix = format!(
        "\n[postgres]\nhba = [\"host all {USER} samenet trust\", \"host all all samenet scram-sha-256\", \
         \"local all all scram-sha-256\"]\n\n[routing]\n{LINEARIZABLE}\n"
    );
    if let Some((fresh, _)) = Way::Fresh.service() {
        options = options.edit_on(fresh, LINEARIZABLE, FRESH);
    }
    let lab = Lab::start(&options)?;
    let leader = lab.wait_healthy(BOOTSTRAP)?;
    lab.wait_sql(&leader, "SELECT 1", "1")?;
    lab.sql(&leader, &format!("CREATE ROLE {USER} LOGIN"))?;
    lab.sql(&leader, &format!("CREATE DATABASE {USER} OWNER {USER}"))?;
    for way in Way::READS {
        wait_answered(&lab, way)?;
    }
    let (address, port) = Way::Fresh.address(&lab)?;
    let (address, port) = (address.to_string(), port.to_string());
    let fill = ["pgbench", "-i", "-q", "-s", SCALE, "-h", &address, "-p", &port, "-U", USER, USER];
    done(&lab.exec(CLIENT, &fill)?, "pgbench -i")?;
    lab.wait_healthy(LIMIT)?;
    Ok(Setting { lab })
}
