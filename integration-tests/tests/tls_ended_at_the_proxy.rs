//! TLS that ends at the proxies: psql and psycopg verify the proxies' certificate by the address that they connect to, logins by
//! password work, channel binding cannot, and Ctrl-C finds its session. PostgreSQL sees behind each `application_name` where
//! the client is.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::{SAMPLER, sampling_rules};
use ha_lab::wait::wait_for;
use ha_lab::{CLIENT, Lab, LabOptions, Output};
use integration_tests::front::{Front, own_front_scenario};

const AUTHORITY: &str = "/etc/matriarch/tls/ca.crt";
const ENDS_HERE: &str = "\n[routing]\ntls = \"terminate\"\ntls_certificate = \"/etc/matriarch/tls/host.crt\"\n\
                         tls_key = \"/etc/matriarch/tls/host.key\"\nname_clients = true\n";
/// Goes on in the `[postgres]` of [`sampling_rules`].
const LOG_NAMES: &str = "parameters.log_line_prefix = \"%p <%a> \"\n";
/// Whom the server sees, and what it calls the session; a mistake, which its log tells of.
const WHO: &str =
    "SELECT host(client_addr), application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()";
const MISTAKE: &str = "SELECT 1 / 0 AS whose_mistake";
/// Which kind of server answered, and whether it was reached in TLS.
const SERVER: &str = "SELECT pg_is_in_recovery(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
const SLEEPERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(%'";
/// PostgreSQL writes its log at once; a loaded machine does not.
const LOGGED: Duration = Duration::from_secs(10);
/// psycopg of the distribution, whatever other Python there is.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = "
import psycopg2, sys
with psycopg2.connect(sys.argv[1]) as session:
    with session.cursor() as cursor:
        cursor.execute('SELECT pg_is_in_recovery()')
        print(*cursor.fetchone(), bool(session.info.ssl_in_use))
";

#[test]
fn tls_ended_at_the_proxy() {
    own_front_scenario("tls_ended_at_the_proxy", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let front = Front::of(lab)?;
        every_mode_on_both_ports(&front)?;
        names_and_addresses(&front)?;
        passwords(&front)?;
        ctrl_c(&front)?;
        named_clients(&front)?;
        load(&front)
    });
}

fn configure(mut options: LabOptions) -> LabOptions {
    options.appendix.push_str(&sampling_rules());
    options.appendix.push_str(LOG_NAMES);
    options.appendix.push_str(ENDS_HERE);
    options
}

fn every_mode_on_both_ports(front: &Front<'_>) -> Result<()> {
    let (lab, vip) = (front.lab, front.vip);
    for (port, standby, attributes) in [(WRITE_PORT, "f", "read-write"), (READ_PORT, "t", "standby")] {
        let base = format!(
            "host={vip} port={port} user={SAMPLER} dbname=postgres target_session_attrs={attributes}"
        );
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            let asked = format!("{base} sslmode={mode} sslrootcert={AUTHORITY}");
            let output = psql(lab, &asked, SERVER)?;
            ensure!(output.stdout.trim() == format!("{standby}|f"), "{asked}: {output:?}");
            let info = psql(lab, &asked, "\\conninfo")?;
            let encrypted = info.stdout.contains("SSL connection (protocol: TLSv1.3");
            ensure!(encrypted == (mode != "disable"), "{asked}: {info:?}");

            let output = lab.exec_as(CLIENT, "nobody", &[PYTHON, "-c", SCRIPT, &asked])?;
            let words = |yes: bool| if yes { "True" } else { "False" };
            let expected = format!("{} {}", words(standby == "t"), words(mode != "disable"));
            ensure!(output.stdout.trim() == expected, "psycopg, {asked}: {output:?}");
        }
    }
    Ok(())
}

/// The certificate is the proxies': it holds for their names and for every address that they listen on, and no other.
fn names_and_addresses(front: &Front<'_>) -> Result<()> {
    let lab = front.lab;
    let verified = format!(
        "port={WRITE_PORT} user={SAMPLER} dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY}"
    );
    for proxy in lab.proxies() {
        let address = lab.address(proxy)?;
        for host in [format!("host={address}"), format!("host={proxy} hostaddr={address}")] {
            let output = psql(lab, &format!("{verified} {host}"), SERVER)?;
            ensure!(output.stdout.trim() == "f|f", "{host}: {output:?}");
        }
    }
    let older =
        psql(lab, &format!("{verified} host={} ssl_max_protocol_version=TLSv1.2", front.vip), "\\conninfo")?;
    ensure!(older.stdout.contains("protocol: TLSv1.2"), "an older client: {older:?}");
    let wrong = psql(lab, &format!("{verified} host={} hostaddr={}", front.leader, front.vip), SERVER)?;
    ensure!(wrong.code != Some(0) && wrong.stderr.contains("does not match"), "a server's name: {wrong:?}");
    Ok(())
}

fn passwords(front: &Front<'_>) -> Result<()> {
    let lab = front.lab;
    lab.sql(&front.leader, "CREATE ROLE teller LOGIN PASSWORD 'open sesame'")?;
    let base = format!(
        "host={} port={WRITE_PORT} user=teller password='open sesame' dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY}",
        front.vip
    );
    for binding in ["prefer", "disable"] {
        let output = psql(lab, &format!("{base} channel_binding={binding}"), SERVER)?;
        ensure!(output.stdout.trim() == "f|f", "channel_binding={binding}: {output:?}");
    }
    let bound = psql(lab, &format!("{base} channel_binding=require"), SERVER)?;
    ensure!(
        bound.code != Some(0) && bound.stderr.contains("channel binding"),
        "bound to the proxy's TLS: {bound:?}"
    );
    let wrong = psql(lab, &base.replace("open sesame", "open barley"), SERVER)?;
    ensure!(wrong.stderr.contains("password authentication failed"), "PostgreSQL's own words: {wrong:?}");
    Ok(())
}

fn ctrl_c(front: &Front<'_>) -> Result<()> {
    let lab = front.lab;
    let asked = format!(
        "host={} port={WRITE_PORT} user={SAMPLER} dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY}",
        front.vip
    );
    // psql takes its signal when a line comes in.
    let script = "psql -X -qAtc 'SELECT pg_sleep(60)' \"$1\" & read line; kill -INT $!; wait $!";
    let mut child = lab
        .command(CLIENT, "nobody", &["sh", "-c", script, "sh", &asked])?
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start psql")?;
    let running = lab.wait_sql(&front.leader, SLEEPERS, "1");
    let mut input = child.stdin.take().context("standard input of psql")?;
    input.write_all(b"now\n").context("let it be cancelled")?;
    let output = child.wait_with_output().context("end of psql")?;
    running?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(error.contains("canceling statement due to user request"), "after Ctrl-C: {error}");
    lab.wait_sql(&front.leader, SLEEPERS, "0")
}

/// In PostgreSQL's view of sessions and in its log, with and without TLS up to the proxy.
fn named_clients(front: &Front<'_>) -> Result<()> {
    let lab = front.lab;
    let (client, proxy) = (lab.address(CLIENT)?, lab.address(&front.holder)?);
    let log = lab.dir().host(&front.leader).join("log/postgresql/matriarch-pg-cluster.log");
    for mode in ["disable", "require"] {
        let name = format!("teller-{mode}");
        let asked = format!(
            "host={} port={WRITE_PORT} user={SAMPLER} dbname=postgres sslmode={mode} application_name={name}",
            front.vip
        );
        let is_right = |seen: &str| {
            seen.strip_prefix(&format!("{name} {client}:")).is_some_and(|port| port.parse::<u16>().is_ok())
        };
        let output = psql(lab, &asked, WHO)?;
        let seen = output.stdout.trim().split_once('|');
        let right = seen.is_some_and(|(from, seen)| from == proxy.to_string() && is_right(seen));
        ensure!(right, "{asked}: {output:?}");
        let output = psql(lab, &asked, MISTAKE)?;
        ensure!(output.stderr.contains("division by zero"), "{asked}: {output:?}");
        wait_for("the mistake in PostgreSQL's log", LOGGED, || {
            let log = std::fs::read_to_string(&log).map_err(|error| error.to_string())?;
            let names = log
                .lines()
                .filter(|line| line.contains("division by zero"))
                .filter_map(|line| Some(line.split_once('<')?.1.split_once('>')?.0));
            let names: Vec<&str> = names.filter(|seen| seen.starts_with(&name)).collect();
            if names.len() == 1 && is_right(names[0]) { Ok(()) } else { Err(format!("names: {names:?}")) }
        })?;
    }
    Ok(())
}

fn load(front: &Front<'_>) -> Result<()> {
    let (lab, vip, port) = (front.lab, front.vip.to_string(), WRITE_PORT.to_string());
    let conninfo = format!("dbname=postgres sslmode=verify-full sslrootcert={AUTHORITY}");
    let script = format!(
        "echo 'INSERT INTO sampled DEFAULT VALUES;' | pgbench -n -c 2 -t 500 -f /dev/stdin -h {vip} -p {port} -U {SAMPLER} \"{conninfo}\""
    );
    let output = lab.exec_as(CLIENT, "nobody", &["sh", "-c", &script])?;
    ensure!(
        output.code == Some(0) && output.stdout.contains("processed: 1000"),
        "pgbench with TLS: {output:?}"
    );
    let proxy = lab.proxy_status(&front.holder)?;
    let sessions = proxy["tls_sessions_total"].as_u64().unwrap_or_default();
    ensure!(sessions >= 20, "{sessions} connections in TLS were counted");
    Ok(())
}

fn psql(lab: &Lab, conninfo: &str, sql: &str) -> Result<Output> {
    lab.exec_as(CLIENT, "nobody", &["psql", "-X", "-qAtc", sql, conninfo])
}
