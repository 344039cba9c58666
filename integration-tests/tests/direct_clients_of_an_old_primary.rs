//! Clients that talk to the primary's own address, past every proxy, while it loses its agent or its network: what it still
//! acknowledges, and for how long. The rules and the judgement are those of `make fence-run`, which does it many times.

use std::time::Duration;

use ha_lab::fence_run::{Fault, one};
use integration_tests::proof::note;
use integration_tests::{reference, scenario};

#[test]
fn direct_clients_of_an_old_primary() {
    scenario("direct_clients_of_an_old_primary", reference, &[], |lab| {
        for fault in Fault::ALL {
            let shown = one(lab, fault, Duration::ZERO)?;
            let name = fault.name();
            note(&format!("{name}: last direct acknowledgement at on, after the fault"), shown.last)?;
            note(
                &format!("{name}: last direct acknowledgement at local, after the fault"),
                shown.last_local,
            )?;
        }
        Ok(())
    });
}

#[test]
fn direct_clients_of_an_old_asynchronous_primary() {
    let asynchronous = |options: ha_lab::LabOptions| options.mode("asynchronous");
    scenario("direct_clients_of_an_old_asynchronous_primary", asynchronous, &[], |lab| {
        for fault in [Fault::AgentKilled, Fault::Partitioned] {
            let shown = one(lab, fault, Duration::ZERO)?;
            let name = format!("asynchronous, {}", fault.name());
            let last = shown.last.max(shown.last_local);
            note(&format!("{name}: last acknowledgement of the old primary, after the fault"), last)?;
            note(
                &format!("{name}: first acknowledgement of the new primary, after the fault"),
                shown.first_of_next,
            )?;
        }
        Ok(())
    });
}
