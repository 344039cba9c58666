//! A host comes back with the data directory of another cluster: it is refused and left as it is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::wait::holds_for;
use ha_lab::{CLIENT, Lab};
use integration_tests::proof::{SOME_ROWS, prove, writing};
use integration_tests::{SETTLE, TAKEOVER, reference, scenario};

/// Long enough for an agent that does not look closely to clone over it.
const LEFT_ALONE: Duration = Duration::from_secs(15);

#[test]
fn foreign_data_directory() {
    scenario("foreign_data_directory", reference, &["belongs to system"], |lab| {
        let primary = lab.wait_healthy(SETTLE)?;
        let host = lab.databases_except(&[&primary])[0];
        let load = writing(lab, &primary)?;
        let foreign = make_foreign(lab)?;
        lab.power_off(&[host])?;
        let data = data_directory(lab, host)?;
        fs::remove_dir_all(&data).context("remove the data directory")?;
        let copied = Command::new("cp").arg("-a").arg(&foreign).arg(&data).status().context("copy")?;
        ensure!(copied.success(), "copy {}: {copied}", foreign.display());
        let before = fs::read(data.join("global/pg_control")).context("read pg_control")?;
        lab.power_on(&[host])?;
        holds_for("the foreign directory is left as it is", LEFT_ALONE, || {
            let now = fs::read(data.join("global/pg_control")).map_err(|error| error.to_string())?;
            if now == before { Ok(()) } else { Err("pg_control changed".to_owned()) }
        })?;
        let log = fs::read_to_string(lab.dir().log(host, "pg-agent"))?;
        ensure!(log.contains("belongs to system"), "the agent's log does not say why it does nothing");
        load.wait_for_acks(SOME_ROWS, TAKEOVER)?;

        // What it says to do: move it away.
        lab.power_off(&[host])?;
        fs::rename(&data, data.with_extension("foreign")).context("move the foreign directory away")?;
        lab.power_on(&[host])?;
        lab.wait_healthy(SETTLE)?;
        prove(lab, load).map(drop)
    });
}

/// Where a host's only data directory lies, seen from outside.
fn data_directory(lab: &Lab, host: &str) -> Result<PathBuf> {
    let disk = lab.dir().host(host).join("lib/postgresql");
    let major = fs::read_dir(&disk)?.next().context("no version directory")??.path();
    Ok(fs::read_dir(&major)?.next().context("no data directory")??.path())
}

/// A data directory of nobody's cluster.
fn make_foreign(lab: &Lab) -> Result<PathBuf> {
    let script = "set -e; install -d -o postgres /lab/other; \
                  initdb=$(ls -d /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb 2>/dev/null | sort -V | tail -1); \
                  setpriv --reuid postgres --regid postgres --clear-groups $initdb -D /lab/other/data >/dev/null";
    let output = lab.exec(CLIENT, &["sh", "-c", script])?;
    ensure!(output.code == Some(0), "initdb: {}", output.stderr);
    Ok(lab.dir().host(CLIENT).join("work/other/data"))
}
