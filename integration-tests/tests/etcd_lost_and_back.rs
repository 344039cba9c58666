//! All of etcd is lost for two leases and comes back. Synchronous and strict clusters go on writing with their list frozen;
//! an asynchronous primary ends itself before its lease could be somebody else's. Nobody is promoted.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::wait::{holds_for, wait_for};
use ha_lab::{Lab, LabOptions, clock};
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{NO_OUTAGE, SETTLE, TAKEOVER, etcd, reference, scenario};

/// Two leases long.
const GONE: Duration = Duration::from_secs(22);

#[test]
fn etcd_lost_and_back_synchronous() {
    scenario("etcd_lost_and_back_synchronous", reference, &[], writes_go_on);
}

#[test]
fn etcd_lost_and_back_strict() {
    scenario("etcd_lost_and_back_strict", |options| options.mode("strict"), &[], writes_go_on);
}

fn writes_go_on(lab: &Lab) -> Result<()> {
    let primary = lab.wait_healthy(SETTLE)?;
    let load = writing(lab, &primary)?;
    let fault = etcd::kill(lab, &lab.databases())?;
    while clock::now() < fault + GONE {
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    }
    etcd::start(lab, &lab.databases())?;
    ensure!(lab.wait_healthy(SETTLE)? == primary, "the leader changed while etcd was away");
    load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
    let attempts = prove(lab, load)?;
    outage_below(&attempts, "etcd lost and back", fault, NO_OUTAGE).map(drop)
}

#[test]
fn etcd_lost_and_back_asynchronous() {
    let asynchronous = |options: LabOptions| options.mode("asynchronous");
    scenario("etcd_lost_and_back_asynchronous", asynchronous, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let fault = etcd::kill(lab, &lab.databases())?;
        wait_for("the primary to end before its lease does", Duration::from_secs(15), || {
            match lab.host_status(&primary).map_err(|error| format!("{error:#}"))?.postmaster {
                Some(pid) if lab.rest(&primary, "/primary").is_ok_and(|answer| answer.status == 200) => {
                    Err(format!("postmaster {pid} leads"))
                }
                _ => Ok(()),
            }
        })?;
        let left = (fault + GONE).saturating_sub(clock::now());
        holds_for("nobody is promoted without etcd", left, || {
            for host in lab.databases() {
                if lab.rest(host, "/primary").is_ok_and(|answer| answer.status == 200) {
                    return Err(format!("{host} says that it leads"));
                }
            }
            Ok(())
        })?;
        etcd::start(lab, &lab.databases())?;
        lab.wait_healthy(SETTLE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        prove(lab, load).map(drop)
    });
}
