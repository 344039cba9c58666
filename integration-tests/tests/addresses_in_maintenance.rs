//! Maintenance mode keeps floating addresses where they are: a preferred host that comes back waits for its end, and a holder
//! that fails is replaced all the same.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::front::WRITE_PORT;
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::front::{Front, OPEN, own_front_scenario, stays_on};
use serde_json::Value;

const ADDRESS: &str = "address = \"10.0.1.10/24\"";
/// How long a preferred host waits outside of maintenance mode.
const PREEMPT_DELAY: Duration = Duration::from_secs(1);
/// Agents tell proxies, and they vrrpd, within a moment; a busy machine needs longer.
const TOLD: Duration = Duration::from_secs(15);
const MOVES: Duration = Duration::from_secs(5);

#[test]
fn addresses_in_maintenance() {
    let delay = format!("{ADDRESS}\npreempt_delay = \"{}ms\"", PREEMPT_DELAY.as_millis());
    let configure = |mut options: ha_lab::LabOptions| {
        options.edits.push((ADDRESS.to_owned(), delay));
        options
    };
    own_front_scenario("addresses_in_maintenance", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        run(lab, &Front::of(lab)?)
    });
}

fn run(lab: &Lab, front: &Front<'_>) -> Result<()> {
    told(lab, &["pause", "--for", "10m"], true)?;
    lab.mask(&front.holder, "pg-proxy")?;
    lab.signal(&front.holder, "pg-proxy", "SIGKILL")?;
    lab.wait_vip_on(&front.other, MOVES).context("the holder failed")?;
    lab.start_unit(&front.holder, "pg-proxy")?;
    lab.wait_route_open(lab.address(&front.holder)?, WRITE_PORT, OPEN)?;
    holds_for("the address stays", PREEMPT_DELAY * 4, || stays_on(lab, &front.other))?;
    told(lab, &["resume"], false)?;
    lab.wait_vip_on(&front.holder, PREEMPT_DELAY + MOVES).context("after maintenance mode")
}

/// Asks for maintenance mode or its end, and waits until every vrrpd knows.
fn told(lab: &Lab, arguments: &[&str], on: bool) -> Result<()> {
    let output = lab.hactl(arguments)?;
    ensure!(output.code == Some(0), "hactl {arguments:?}: {output:?}");
    wait_for(&format!("vrrpd to know: maintenance {on}"), TOLD, || {
        let output = lab.hactl(&["vip", "--format", "json"]).map_err(|error| format!("{error:#}"))?;
        let shown: Value = serde_json::from_str(&output.stdout).map_err(|error| error.to_string())?;
        let hosts = shown[0]["hosts"].as_array().cloned().unwrap_or_default();
        let know = hosts.len() == 2 && hosts.iter().all(|host| host["maintenance"].as_bool() == Some(on));
        if know { Ok(()) } else { Err(output.stdout) }
    })
}
