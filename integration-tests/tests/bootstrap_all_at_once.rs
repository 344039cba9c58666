//! Three empty hosts start at the same moment: one initialises, the others clone it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use integration_tests::proof::{prove, writing};
use integration_tests::{SETTLE, reference, scenario};

#[test]
fn bootstrap_all_at_once() {
    scenario("bootstrap_all_at_once", reference, &[], |lab| {
        let leader = lab.wait_healthy(SETTLE)?;
        let identifiers: BTreeSet<String> =
            lab.databases().iter().map(|host| system_identifier(lab, host)).collect::<Result<_>>()?;
        ensure!(identifiers.len() == 1, "more than one system identifier: {identifiers:?}");
        ensure!(lab.sql(&leader, "SHOW data_checksums")? == "on", "data checksums are off");
        ensure!(lab.sql(&leader, "SHOW password_encryption")? == "scram-sha-256", "passwords are not SCRAM");
        let list = lab.hactl(&["list", "--format", "json"])?;
        ensure!(list.code == Some(0), "hactl list: {}", list.stderr);
        for host in lab.databases() {
            ensure!(list.stdout.contains(host), "hactl list does not name {host}: {}", list.stdout);
        }
        answers_health_checks(lab, &leader)?;
        let load = writing(lab, &leader)?;
        load.wait_for_acks(500, Duration::from_secs(30))?;
        prove(lab, load).map(drop)
    });
}

fn system_identifier(lab: &Lab, host: &str) -> Result<String> {
    let status = lab.rest(host, "/patroni")?.json()?;
    let id = &status["database_system_identifier"];
    id.as_str().map(str::to_owned).with_context(|| format!("{host} reports no system identifier: {status}"))
}

/// The status codes that existing health checks rely on.
fn answers_health_checks(lab: &Lab, leader: &str) -> Result<()> {
    for host in lab.databases() {
        let leads = host == leader;
        let checks = [
            ("/", leads),
            ("/primary", leads),
            ("/leader", leads),
            ("/read-write", leads),
            ("/replica", !leads),
            ("/sync", !leads),
            ("/async", false),
            ("/read-only", true),
            ("/health", true),
        ];
        for (path, good) in checks {
            for method in ["GET", "HEAD", "OPTIONS"] {
                answers(lab, method, host, path, good)?;
            }
        }
        // Pages of their own answer GET only; to the other methods they are no health check, as users of HAProxy know.
        for path in ["/liveness", "/readiness", "/patroni", "/cluster", "/history", "/config", "/metrics"] {
            answers(lab, "GET", host, path, true)?;
            answers(lab, "HEAD", host, path, false)?;
        }
    }
    Ok(())
}

fn answers(lab: &Lab, method: &str, host: &str, path: &str, good: bool) -> Result<()> {
    let answer = lab.rest_method(method, host, path)?;
    let expected = if good { 200 } else { 503 };
    ensure!(answer.status == expected, "{method} {path} on {host}: {} instead of {expected}", answer.status);
    ensure!(
        method == "GET" || answer.body.is_empty(),
        "{method} {path} on {host} has a body: {}",
        answer.body
    );
    Ok(())
}
