//! What libpq can do from version 17 on: TLS from the first byte on without asking (`sslnegotiation=direct`), cancel requests that are
//! encrypted as their session is, and a newer minor version of the protocol, of which PostgreSQL says that it has not got it.
//!
//! With TLS that is passed through the proxies cannot read such a request: on the port for reads it may reach another standby than
//! its session's (N20).
//!
//! Run by `make newer-libpq`, which gets psycopg with such a libpq inside; the distribution's is older.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::{SAMPLER, sampling_rules};
use ha_lab::{CLIENT, LabOptions};
use integration_tests::front::{Front, front_scenario, own_front_scenario};

/// Where the Makefile put psycopg.
const PLACE: &str = "MATRIARCH_NEWER_LIBPQ";
const AUTHORITY: &str = "/etc/matriarch/tls/ca.crt";
const ENDS_HERE: &str = "\n[routing]\ntls = \"terminate\"\ntls_certificate = \"/etc/matriarch/tls/host.crt\"\n\
                         tls_key = \"/etc/matriarch/tls/host.key\"\n";
/// Of the distribution, for which the Makefile chose the package.
const PYTHON: &str = "/usr/bin/python3";
/// One session, whose statement is cancelled as its connection was made.
const SCRIPT: &str = "
import sys, threading, time
sys.path.insert(0, '/lab/newer-libpq')
import psycopg
from psycopg import errors, pq
assert pq.version() >= 170000, pq.version()
with psycopg.connect(sys.argv[1], autocommit=True) as session:
    standby, = session.execute('SELECT pg_is_in_recovery()').fetchone()
    sleeps = threading.Event()
    def cancel():
        sleeps.wait()
        time.sleep(0.3)
        session.cancel_safe(timeout=5)
    other = threading.Thread(target=cancel)
    other.start()
    sleeps.set()
    try:
        session.execute('SELECT pg_sleep(10)')
        end = 'not cancelled'
    except errors.QueryCanceled:
        end = 'cancelled'
    other.join()
    print(standby, bool(session.pgconn.ssl_in_use), end)
";

#[test]
#[ignore = "needs libpq 17: make newer-libpq"]
fn newer_libpq_with_tls_ended_at_the_proxy() {
    let configure = |mut options: LabOptions| {
        options.appendix.push_str(&sampling_rules());
        options.appendix.push_str(ENDS_HERE);
        options
    };
    own_front_scenario("newer_libpq_with_tls_ended_at_the_proxy", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let front = Front::of(lab)?;
        let ways = ["sslmode=require", "sslmode=verify-full"].iter().flat_map(|mode| {
            ["postgres", "direct"].map(|asks| format!("{mode} sslnegotiation={asks} sslrootcert={AUTHORITY}"))
        });
        let ways: Vec<String> = ways.chain(["sslmode=disable".to_owned()]).collect();
        let before = tls_sessions(&front)?;
        let asked = on_both_ports(&front, &ways, &[])?;
        // Each session, and each request that cancelled one, came in TLS of its own.
        let (encrypted, came) = (asked - asked / ways.len(), tls_sessions(&front)? - before);
        ensure!(came == 2 * encrypted as u64, "{came} connections in TLS for {encrypted} sessions");
        Ok(())
    });
}

#[test]
#[ignore = "needs libpq 17: make newer-libpq"]
fn newer_libpq_with_tls_passed_through() {
    front_scenario("newer_libpq_with_tls_passed_through", &[], |front| {
        let hidden = "sslmode=require sslnegotiation=postgres".to_owned();
        let ways = ["sslmode=disable".to_owned(), hidden.clone()];
        on_both_ports(front, &ways, &[(READ_PORT, hidden)]).map(drop)
    });
}

fn tls_sessions(front: &Front<'_>) -> Result<u64> {
    front.lab.proxy_status(&front.holder)?["tls_sessions_total"].as_u64().context("sessions in TLS")
}

/// Returns how many sessions there were. Of some ways it is not known which server a request to cancel reaches.
fn on_both_ports(front: &Front<'_>, ways: &[String], not_led: &[(u16, String)]) -> Result<usize> {
    let lab = front.lab;
    let from = std::env::var(PLACE).with_context(|| format!("{PLACE} is not set: make newer-libpq"))?;
    let to = lab.dir().host(CLIENT).join("work/newer-libpq");
    copy(Path::new(&from), &to)?;
    let mut count = 0;
    for way in ways {
        for protocol in ["3.0", "latest"] {
            for (port, standby, attributes) in
                [(WRITE_PORT, "False", "read-write"), (READ_PORT, "True", "standby")]
            {
                let asked = format!(
                    "host={} port={port} user={SAMPLER} dbname=postgres target_session_attrs={attributes} \
                     max_protocol_version={protocol} {way}",
                    front.vip
                );
                let output = lab.exec_as(CLIENT, "nobody", &[PYTHON, "-c", SCRIPT, &asked])?;
                let encrypted = if way.contains("disable") { "False" } else { "True" };
                let led = !not_led.iter().any(|of| (of.0, of.1.as_str()) == (port, way));
                let expected = format!("{standby} {encrypted} {}", if led { "cancelled" } else { "" });
                ensure!(output.stdout.starts_with(&expected), "{asked}: {output:?}");
                count += 1;
            }
        }
    }
    Ok(count)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let done = std::process::Command::new("cp").arg("-rT").args([from, to]).status().context("start cp")?;
    ensure!(done.success(), "copy {}: {done}", from.display());
    Ok(())
}
