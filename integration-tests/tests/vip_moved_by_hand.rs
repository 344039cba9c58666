//! `hactl vip move`: the address goes to the other proxy host and stays there, writes go on, and a host that cannot take it
//! leaves it where it is.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::{Lab, clock};
use integration_tests::front::front_scenario;
use integration_tests::proof::{SOME_ROWS, outage_below};

/// Writes through the address stand still for a skew time and a reconnect; a busy machine needs longer.
const PAUSE: Duration = Duration::from_secs(3);

#[test]
fn vip_moved_by_hand() {
    front_scenario("vip_moved_by_hand", &[], |front| {
        let lab = front.lab;
        let load = front.writing()?;
        let mut moves = Vec::new();
        for _ in 0..2 {
            let from = lab.wait_vip_holder(PAUSE)?;
            let at = clock::now();
            let said = moved(lab, 0)?;
            let to = other(lab, &from)?;
            ensure!(said.contains(&format!("from {from} to {to};")), "{said}");
            lab.wait_vip_on(&to, PAUSE)?;
            load.wait_for_acks(SOME_ROWS, PAUSE)?;
            moves.push((from, at));
        }
        // Nobody is there who could take it.
        let holder = lab.wait_vip_holder(PAUSE)?;
        let idle = other(lab, &holder)?;
        lab.stop_unit(&idle, "vrrpd")?;
        let said = moved(lab, 1)?;
        ensure!(said.contains("no other host took"), "{said}");
        ensure!(lab.vip_holders()? == [holder], "the address left a host that nobody relieves");
        lab.start_unit(&idle, "vrrpd")?;
        load.wait_for_acks(SOME_ROWS, PAUSE)?;

        let attempts = integration_tests::proof::prove(lab, load)?;
        for (from, at) in moves {
            outage_below(&attempts, &format!("address moved from {from}"), at, PAUSE)?;
        }
        Ok(())
    });
}

/// What the command said; it must end with this code.
fn moved(lab: &Lab, code: i32) -> Result<String> {
    let output = lab.hactl(&["vip", "move", "--yes"])?;
    ensure!(output.code == Some(code), "hactl vip move: {output:?}");
    Ok(output.stdout + &output.stderr)
}

fn other(lab: &Lab, host: &str) -> Result<String> {
    let others: Vec<&str> = lab.proxies().into_iter().filter(|proxy| *proxy != host).collect();
    ensure!(others.len() == 1, "two proxy hosts, not {others:?} and {host}");
    Ok(others[0].to_owned())
}
