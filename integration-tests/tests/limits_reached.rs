//! More sessions than a server, and than the proxy, may have: clients wait for a place, are told when there is none, and
//! everything is as before when there are places again.

use std::time::Duration;

use anyhow::{Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::stand_in::stand_in;
use ha_lab::wait::wait_for;
use ha_lab::wire::WireSession;
use ha_lab::{Lab, LabOptions, clock};
use integration_tests::front::{OPEN, own_front_scenario};

/// Sessions per server; all sessions; how long a client waits for a place.
const LIMITS: &str = "\n[routing]\nupstream_connections = 4\nmax_connections = 6\nqueue_timeout = \"1s\"\n";
const QUEUE: Duration = Duration::from_secs(1);
/// Refused at once, on a loaded machine.
const AT_ONCE: Duration = Duration::from_millis(700);

#[test]
fn limits_reached() {
    own_front_scenario("limits_reached", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let proxy = lab.address("ha1")?;
        let open = |port| WireSession::open(lab, proxy, port);
        let first =
            wait_for("an open route", OPEN, || open(WRITE_PORT).map_err(|error| format!("{error:#}")))?;
        wait_for("reads", OPEN, || open(READ_PORT).map(drop).map_err(|error| format!("{error:#}")))?;
        let mut writes = vec![first, open(WRITE_PORT)?, open(WRITE_PORT)?, open(WRITE_PORT)?];

        // One too many for the server: it waits, and is told so; with a place in time it goes on.
        let (took, error) = refused(|| open(WRITE_PORT))?;
        ensure!(error.contains("53300"), "refused with {error}");
        ensure!(took >= QUEUE && took < QUEUE * 3, "refused after {took:.2?}");
        let leaving = writes.pop();
        std::thread::scope(|scope| -> Result<()> {
            let waiting = scope.spawn(|| open(WRITE_PORT));
            waits(lab, 1)?;
            drop(leaving);
            writes.push(waiting.join().map_err(|_| anyhow::anyhow!("a session panicked"))??);
            Ok(())
        })?;

        // One too many for the proxy: told at once, by the code that makes libpq try the other proxy.
        let reads = [open(READ_PORT)?, open(READ_PORT)?];
        let (took, error) = refused(|| open(READ_PORT))?;
        ensure!(error.contains("57P03") && took < AT_ONCE, "refused with {error} after {took:.2?}");
        for session in writes.iter_mut() {
            session.ping()?;
        }
        drop((writes, reads));
        wait_for("places again", Duration::from_secs(3), || {
            let all: Result<Vec<_>> = (0..4).map(|_| open(WRITE_PORT)).collect();
            all.map(drop).map_err(|error| format!("{error:#}"))
        })
    });
}

fn configure(mut options: LabOptions) -> LabOptions {
    let (primary, replica) = (stand_in("primary"), stand_in("replica"));
    options.appendix.push_str(LIMITS);
    options = options.units_of("pg1", &[&primary.0]).units_of("pg2", &[&replica.0]).units_of("pg3", &[]);
    options.unit_files.extend([primary, replica]);
    options
}

fn refused(open: impl FnOnce() -> Result<WireSession>) -> Result<(Duration, String)> {
    let asked = clock::now();
    match open() {
        Ok(_) => anyhow::bail!("a session beyond the limit"),
        Err(error) => Ok((clock::now().saturating_sub(asked), format!("{error:#}"))),
    }
}

/// Waits until so many clients wait for a place.
fn waits(lab: &Lab, count: u64) -> Result<()> {
    wait_for("a waiting client", QUEUE, || {
        let status = lab.proxy_status("ha1").map_err(|error| format!("{error:#}"))?;
        let waiting = status["waiting"].as_u64();
        if waiting == Some(count) { Ok(()) } else { Err(format!("{waiting:?} wait")) }
    })
}
