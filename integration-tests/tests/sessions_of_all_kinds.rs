//! What sessions do besides asking for a row works through a proxy: a thousand of them, much data in both directions, messages
//! between sessions, large objects, pipelines, a large field, and replication.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::{SAMPLER, WAL_READER};
use ha_lab::wait::wait_for;
use ha_lab::{CLIENT, Output};
use integration_tests::front::{Front, front_scenario};

/// psycopg of the distribution, whatever other Python there is.
const PYTHON: &str = "/usr/bin/python3";

/// Of the role that replicates.
const PASSWORD: &str = "reads-along";
/// Sixteen megabytes, on a loaded machine.
const SEGMENT_LIMIT: Duration = Duration::from_secs(30);

/// Divides by zero on a server of the wrong role.
const RIGHT_ROLE: &str = "SELECT 1 / (pg_is_in_recovery() = :standby)::int;\n";

/// Ten statements on their way before the first answer is read.
const PIPELINE: &str = "\\startpipeline\nSELECT 1;\nSELECT 2;\nSELECT 3;\nSELECT 4;\nSELECT 5;\n\
                        SELECT 6;\nSELECT 7;\nSELECT 8;\nSELECT 9;\nSELECT 10;\n\\endpipeline\n";

/// Copies much in and out and compares, waits for a message of another session, writes and reads a large object.
const SCRIPT: &str = r#"
import hashlib, io, os, select, sys
import psycopg2
conninfo = sys.argv[1]
one, other = psycopg2.connect(conninfo), psycopg2.connect(conninfo)
one.autocommit = other.autocommit = True
cursor = one.cursor()
cursor.execute("CREATE TEMPORARY TABLE much (number int, text text)")
rows = "".join(f"{n}\t{hashlib.sha256(str(n).encode()).hexdigest() * 12}\n" for n in range(60000))
cursor.copy_from(io.StringIO(rows), "much")
copied = io.StringIO()
cursor.copy_expert("COPY (SELECT * FROM much ORDER BY number) TO STDOUT", copied)
assert copied.getvalue() == rows, "what came back is not what went in"

cursor.execute("SELECT repeat('0123456789abcdef', 4 << 20)")
field = cursor.fetchone()[0]
assert len(field) == 64 << 20 and set(field[:16]) == set("0123456789abcdef"), "a field of 64 MB"

cursor.execute("LISTEN news")
other.cursor().execute("NOTIFY news, 'it rains'")
while not one.notifies:
    assert select.select([one], [], [], 10)[0], "no message within 10 s"
    one.poll()
assert one.notifies[0].payload == "it rains"

other.autocommit = False
data = os.urandom(3 << 20)
large = other.lobject(0, "wb")
large.write(data)
number = large.oid
large.close()
assert other.lobject(number, "rb").read() == data, "a large object"
other.lobject(number).unlink()
other.commit()
print("all well")
"#;

#[test]
fn sessions_of_all_kinds() {
    front_scenario("sessions_of_all_kinds", &[], |front| {
        let lab = front.lab;
        let work = lab.dir().host(CLIENT).join("work");
        for (name, text) in [("role.sql", RIGHT_ROLE), ("pipeline.sql", PIPELINE), ("kinds.py", SCRIPT)] {
            std::fs::write(work.join(name), text).with_context(|| format!("write {name}"))?;
        }
        for (port, standby) in [(WRITE_PORT, "false"), (READ_PORT, "true")] {
            let expected = format!("standby={standby}");
            let output = pgbench(
                front,
                port,
                &["-C", "-c", "4", "-t", "125", "-D", &expected, "-f", "/lab/role.sql"],
            )?;
            ensure!(processed(&output, 500), "five hundred sessions on port {port}: {output:?}");
            let output =
                pgbench(front, port, &["-M", "extended", "-c", "4", "-t", "50", "-f", "/lab/pipeline.sql"])?;
            ensure!(processed(&output, 200), "pipelines on port {port}: {output:?}");
        }
        let conninfo = format!("host={} port={WRITE_PORT} user={SAMPLER} dbname=postgres", front.vip);
        let output = lab.exec_as(CLIENT, "nobody", &[PYTHON, "/lab/kinds.py", &conninfo])?;
        ensure!(output.stdout.trim() == "all well", "{output:?}");
        replicated(front)
    });
}

fn pgbench(front: &Front<'_>, port: u16, options: &[&str]) -> Result<Output> {
    let (host, port) = (front.vip.to_string(), port.to_string());
    let mut argv = vec!["pgbench", "-n", "-h", &host, "-p", &port, "-U", SAMPLER];
    argv.extend(options);
    argv.push("postgres");
    front.lab.exec_as(CLIENT, "nobody", &argv)
}

fn processed(output: &Output, count: u32) -> bool {
    let line = format!("number of transactions actually processed: {count}/{count}");
    output.code == Some(0) && output.stdout.contains(&line)
}

/// A segment of WAL, streamed through the proxy, is the one that the leader has.
fn replicated(front: &Front<'_>) -> Result<()> {
    let (lab, leader) = (front.lab, front.leader.as_str());
    lab.sql(leader, &format!("CREATE ROLE {WAL_READER} LOGIN REPLICATION PASSWORD '{PASSWORD}'"))?;
    let passwords = lab.dir().host(CLIENT).join("work/passwords");
    std::fs::write(&passwords, format!("*:*:*:*:{PASSWORD}\n")).context("write the passwords")?;
    std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600))
        .context("its permissions")?;
    let segment = lab.sql(leader, "SELECT pg_walfile_name(pg_current_wal_lsn())")?.trim().to_owned();
    let end = "SELECT pg_current_wal_lsn() - pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') % (16 << 20) + (16 << 20)";
    let end = lab.sql(leader, end)?.trim().to_owned();
    let conninfo = format!("host={} port={WRITE_PORT} user={WAL_READER} passfile=/lab/passwords", front.vip);
    let argv = ["pg_receivewal", "-D", "/lab", "-d", &conninfo, "--no-loop", "-E", &end];
    let mut receiver = lab.command(CLIENT, "root", &argv)?;
    let mut receiver =
        receiver.stderr(std::process::Stdio::piped()).spawn().context("start pg_receivewal")?;
    lab.wait_sql(
        leader,
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'",
        "1",
    )?;
    lab.sql(leader, "SELECT pg_switch_wal()")?;
    let ended = wait_for("the end of pg_receivewal", SEGMENT_LIMIT, || match receiver.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    if ended.is_err() {
        receiver.kill().context("end pg_receivewal")?;
    }
    let output = receiver.wait_with_output().context("pg_receivewal")?;
    ensure!(ended?.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sum = |host: &str, path: &str| -> Result<String> {
        let output = lab.exec(host, &["sha256sum", path])?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(output.stdout.split(' ').next().unwrap_or_default().to_owned())
    };
    let here = sum(CLIENT, &format!("/lab/{segment}"))?;
    let data = lab.sql(leader, "SHOW data_directory")?;
    let there = sum(leader, &format!("{}/pg_wal/{segment}", data.trim()))?;
    ensure!(here == there, "segment {segment} came as {here}, and is {there}");
    Ok(())
}
