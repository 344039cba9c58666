//! What client libraries do by themselves works through the proxies: every kind of session that libpq can ask for, lists of
//! hosts, and psycopg, each with TLS and without.

use anyhow::{Result, ensure};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::SAMPLER;
use ha_lab::{CLIENT, Lab, Output};
use integration_tests::front::front_scenario;

/// `target_session_attrs`, and whether the port for writes and the one for reads give such a session.
const ATTRIBUTES: [(&str, bool, bool); 6] = [
    ("any", true, true),
    ("read-write", true, false),
    ("read-only", false, true),
    ("primary", true, false),
    ("standby", false, true),
    ("prefer-standby", true, true),
];
const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";
/// psycopg of the distribution, whatever other Python there is.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = "
import psycopg2, sys
with psycopg2.connect(sys.argv[1]) as session:
    with session.cursor() as cursor:
        cursor.execute('SELECT pg_is_in_recovery(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')
        print(*cursor.fetchone())
";

#[test]
fn libpq_and_psycopg_on_both_ports() {
    front_scenario("libpq_and_psycopg_on_both_ports", &[], |front| {
        let (lab, vip) = (front.lab, front.vip.to_string());
        for encryption in ["disable", "require"] {
            for (port, standby) in [(WRITE_PORT, false), (READ_PORT, true)] {
                let base =
                    format!("host={vip} port={port} user={SAMPLER} dbname=postgres sslmode={encryption}");
                for (wanted, on_writes, on_reads) in ATTRIBUTES {
                    let asked = format!("{base} target_session_attrs={wanted}");
                    let output = psql(lab, &asked)?;
                    let given = if standby { on_reads } else { on_writes };
                    let word = if standby { "t" } else { "f" };
                    ensure!(
                        if given { output.stdout.trim() == word } else { output.code != Some(0) },
                        "{asked}: {output:?}"
                    );
                }
                let output = lab.exec_as(CLIENT, "nobody", &[PYTHON, "-c", SCRIPT, &base])?;
                let words = |yes: bool| if yes { "True" } else { "False" };
                let expected = format!("{} {}", words(standby), words(encryption == "require"));
                ensure!(output.stdout.trim() == expected, "psycopg, {base}: {output:?}");
            }
        }
        // Whoever lists the proxies needs no floating address.
        let proxies = lab.proxies();
        let hosts = proxies.iter().map(|proxy| Ok(lab.address(proxy)?.to_string()));
        let hosts = hosts.collect::<Result<Vec<_>>>()?.join(",");
        let listed =
            format!("host={hosts} port={WRITE_PORT} user={SAMPLER} dbname=postgres connect_timeout=5");
        for proxy in proxies {
            lab.stop_unit(proxy, "pg-proxy")?;
            let output = psql(lab, &listed)?;
            ensure!(output.stdout.trim() == "f", "without {proxy}: {output:?}");
            lab.start_unit(proxy, "pg-proxy")?;
            lab.wait_route_open(lab.address(proxy)?, WRITE_PORT, integration_tests::front::OPEN)?;
        }
        Ok(())
    });
}

fn psql(lab: &Lab, conninfo: &str) -> Result<Output> {
    lab.exec_as(CLIENT, "nobody", &["psql", "-X", "-qAtc", IN_RECOVERY, conninfo])
}
