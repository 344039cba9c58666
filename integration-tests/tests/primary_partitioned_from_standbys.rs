//! The primary loses its standbys and their agents, but not etcd and not its clients.

use ha_lab::Cut;
use integration_tests::proof::{SOME_ROWS, outage_below, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

/// PostgreSQL, the agents' REST, gRPC and heartbeats.
const PORTS: [u16; 4] = [5432, 8008, 8009, 8010];

#[test]
fn primary_partitioned_from_standbys() {
    scenario("primary_partitioned_from_standbys", reference, &[], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let load = writing(lab, &primary)?;
        let fault = lab.cut(Cut::ports_between(&[&primary], &lab.databases_except(&[&primary]), &PORTS))?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        lab.heal()?;
        lab.wait_healthy(SETTLE)?;
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;
        let attempts = prove(lab, load)?;
        outage_below(&attempts, "primary partitioned from its standbys", fault, TAKEOVER).map(drop)
    });
}
