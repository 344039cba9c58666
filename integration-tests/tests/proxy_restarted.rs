//! A proxy starts again while all is well: from its first moment no session for writes is answered by a standby. (HAProxy takes
//! every server for usable until its first check has failed.)

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::{Sample, SampleOptions, Sampler, write_samples};
use ha_lab::wait::{holds_for, wait_for};
use integration_tests::front::{OPEN, front_scenario};

const SAMPLE: Duration = Duration::from_millis(10);
const RESTARTS: usize = 5;
/// Between two of them, from open ports on.
const SERVES: Duration = Duration::from_millis(500);

#[test]
fn proxy_restarted() {
    front_scenario("proxy_restarted", &[], |front| {
        let (lab, proxy) = (front.lab, front.other.as_str());
        let address = lab.address(proxy)?;
        let through = [("writes", WRITE_PORT), ("reads", READ_PORT)]
            .map(|(name, port)| (name.to_owned(), SocketAddrV4::new(address, port)));
        let options =
            SampleOptions { through: through.to_vec(), interval: SAMPLE, limit: Duration::from_secs(12) };
        let sampler = Sampler::start(lab, options)?;
        for _ in 0..RESTARTS {
            let before = process(lab, proxy)?;
            lab.signal(proxy, "pg-proxy", "SIGKILL")?;
            wait_for("another process by the supervisor", OPEN, || match process(lab, proxy) {
                Ok(Some(now)) if Some(now) != before => Ok(()),
                other => Err(format!("{other:?} after {before:?}")),
            })?;
            for port in [WRITE_PORT, READ_PORT] {
                lab.wait_route_open(address, port, OPEN)?;
            }
            holds_for("it runs", SERVES, || {
                let now = process(lab, proxy).map_err(|error| format!("{error:#}"))?;
                now.map(drop).ok_or_else(|| "no process".to_owned())
            })?;
        }
        let samples = sampler.finish()?;
        write_samples(&samples, &lab.dir().path().join("samples-restart.log"))?;
        judge(&samples)
    });
}

fn process(lab: &Lab, proxy: &str) -> Result<Option<i32>> {
    let status = lab.host_status(proxy)?;
    Ok(status.units.iter().find(|unit| unit.name == "pg-proxy").and_then(|unit| unit.pid))
}

fn judge(samples: &[Sample]) -> Result<()> {
    let mut answered = [0, 0];
    for sample in samples {
        let Ok(answer) = &sample.answer else { continue };
        let reads = sample.through == "reads";
        ensure!(answer.in_recovery == reads, "the wrong kind of server: {sample:?}");
        answered[usize::from(reads)] += 1;
    }
    let least = answered.iter().min().context("two ways")?;
    ensure!(*least > 50, "only {answered:?} samples of writes and reads were answered");
    Ok(())
}
