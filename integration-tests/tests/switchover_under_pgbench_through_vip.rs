//! pgbench connects anew for every transaction through the floating address while the leader changes twice: no session is
//! refused, because the proxies hold new ones until the successor is there.

use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::sessions::SAMPLER;
use ha_lab::{CLIENT, Output};
use integration_tests::SETTLE;
use integration_tests::front::{Front, front_scenario};

#[test]
fn switchover_under_pgbench_through_vip() {
    front_scenario("switchover_under_pgbench_through_vip", &[], |front| {
        let lab = front.lab;
        let script = lab.dir().host(CLIENT).join("work/insert.sql");
        fs::write(&script, "INSERT INTO sampled DEFAULT VALUES;\n").context("write pgbench's script")?;
        let mut leader = front.leader.clone();
        for _ in 0..2 {
            // One for each change: a client of pgbench whose transaction was under way at the stop does not go on.
            let bench = start(front, 8)?;
            lab.wait_sql(
                &leader,
                "SELECT count(*) > 5 FROM sampled WHERE written > now() - interval '1 second'",
                "t",
            )?;
            let candidate = lab.databases_except(&[&leader])[0].to_owned();
            let output = lab.hactl(&["switchover", "--candidate", &candidate, "--yes"])?;
            ensure!(output.code == Some(0), "switchover: {}{}", output.stdout, output.stderr);
            leader = lab.wait_healthy(SETTLE)?;
            let output = bench.wait_with_output().context("end of pgbench")?;
            no_session_refused(&Output {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })?;
        }
        Ok(())
    });
}

fn start(front: &Front<'_>, seconds: u32) -> Result<std::process::Child> {
    let (vip, port, seconds) = (front.vip.to_string(), WRITE_PORT.to_string(), seconds.to_string());
    front
        .lab
        .command(
            CLIENT,
            "nobody",
            &[
                "pgbench",
                "-n",
                "-C",
                "-c",
                "8",
                "-j",
                "1",
                "-T",
                &seconds,
                "-f",
                "/lab/insert.sql",
                "-h",
                &vip,
                "-p",
                &port,
                "-U",
                SAMPLER,
                "postgres",
            ],
        )?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start pgbench")
}

fn no_session_refused(output: &Output) -> Result<()> {
    let refused: Vec<&str> = output
        .stderr
        .lines()
        // A transaction that was under way when PostgreSQL stopped is another matter.
        .filter(|line| !line.contains("aborted in command"))
        .filter(|line| {
            line.contains("connection to server")
                || line.contains("could not connect")
                || line.contains("FATAL")
        })
        .collect();
    ensure!(refused.is_empty(), "new sessions failed: {refused:?}\n{}", output.stdout);
    let done = output
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    let done: u64 = done
        .and_then(|text| text.split('/').next())
        .and_then(|text| text.trim().parse().ok())
        .with_context(|| format!("pgbench's count in {output:?}"))?;
    ensure!(done > 20, "only {done} transactions: {output:?}");
    Ok(())
}
