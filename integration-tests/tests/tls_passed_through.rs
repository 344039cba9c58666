//! TLS between a client and PostgreSQL goes through the proxy untouched: psql and pgbench, required and verified.

use anyhow::{Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::SAMPLER;
use ha_lab::{CLIENT, Lab, Output};
use integration_tests::front::front_scenario;

const AUTHORITY: &str = "/etc/matriarch/tls/ca.crt";
const ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

#[test]
fn tls_passed_through() {
    front_scenario("tls_passed_through", &[], |front| {
        let (lab, vip) = (front.lab, front.vip.to_string());
        for port in [WRITE_PORT, READ_PORT] {
            let base = format!("host={vip} port={port} user={SAMPLER} dbname=postgres");
            for mode in ["sslmode=require".to_owned(), format!("sslmode=verify-ca sslrootcert={AUTHORITY}")] {
                let output = psql(lab, &format!("{base} {mode}"), ENCRYPTED)?;
                ensure!(output.stdout.trim() == "t", "{mode} on {port}: {output:?}");
            }
            let plain = psql(lab, &format!("{base} sslmode=disable"), ENCRYPTED)?;
            ensure!(plain.stdout.trim() == "f", "without TLS on {port}: {plain:?}");
        }
        // The certificate is the server's own: its name is checked, the way there is not part of it.
        let named = format!(
            "hostaddr={vip} port={WRITE_PORT} user={SAMPLER} dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY}"
        );
        let right = psql(lab, &format!("{named} host={}", front.leader), ENCRYPTED)?;
        ensure!(right.stdout.trim() == "t", "verified by the leader's name: {right:?}");
        let wrong = lab.databases_except(&[&front.leader])[0];
        let wrong = psql(lab, &format!("{named} host={wrong}"), ENCRYPTED)?;
        ensure!(
            wrong.code != Some(0) && wrong.stderr.contains("does not match"),
            "another's name: {wrong:?}"
        );

        let (port, rows) = (WRITE_PORT.to_string(), "500");
        let conninfo = format!("dbname=postgres sslmode=verify-ca sslrootcert={AUTHORITY}");
        let output = lab.exec_as(
            CLIENT,
            "nobody",
            &["sh", "-c", &format!("echo 'INSERT INTO sampled DEFAULT VALUES;' | pgbench -n -c 2 -t {rows} -f /dev/stdin -h {vip} -p {port} -U {SAMPLER} \"{conninfo}\"")],
        )?;
        let wanted = format!("processed: {}", 1000);
        ensure!(output.code == Some(0) && output.stdout.contains(&wanted), "pgbench with TLS: {output:?}");
        Ok(())
    });
}

fn psql(lab: &Lab, conninfo: &str, sql: &str) -> Result<Output> {
    lab.exec_as(CLIENT, "nobody", &["psql", "-X", "-qAtc", sql, conninfo])
}
