//! One PostgreSQL, and the three proxies in front of it.

use std::fs;

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::LIMIT;
use super::way::{SERVER, Way};
use crate::classic;
use crate::lab::{Lab, Output};
use crate::options::LabOptions;
use crate::stand_in::checks_of;
use crate::topology::CLIENT;
use crate::wait::wait_for;

/// Who loads.
pub(super) const USER: &str = "bench";
/// Rows of pgbench's smallest table; everything fits into memory.
pub(super) const SCALE: &str = "5";

/// PostgreSQL's own settings: all data in memory, and places for the largest load.
const SETTINGS: &str = "listen_addresses = '*'\nmax_connections = 300\nshared_buffers = 512MB\nfsync = off\n\
                        autovacuum = off\nlogging_collector = off\nunix_socket_directories = '/run/postgresql'\n\
                        log_min_messages = fatal\n";
/// Nothing of a login is to be measured but the proxy's part.
const HBA: &str = "local all all trust\nhost all all samenet trust\n";

/// A pooler that gives each client a server of its own, as the other two do.
const POOLER: &str = "[databases]\n* = host=10.0.1.11 port=5432\n[pgbouncer]\nlisten_addr = *\nlisten_port = 6432\n\
                      unix_socket_dir =\nauth_type = trust\nauth_file = /lab/pgbouncer.users\npool_mode = session\n\
                      max_client_conn = 20000\ndefault_pool_size = 200\nlog_connections = 0\nlog_disconnections = 0\n\
                      log_stats = 0\nserver_tls_sslmode = disable\nignore_startup_parameters = extra_float_digits\n";
const POOLER_USERS: &str = "\"bench\" \"\"\n\"sampler\" \"\"\n";

/// Where its host finds the program of the bare relays.
const RELAYS: &str = "/lab/relay-ways";

/// The lab with everything in it.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) lab: Lab,
}

/// The services of the two peers, for one host, and pg-proxy on the other.
pub(super) fn front(options: LabOptions) -> LabOptions {
    let mut options = options.classic_units("ha2", &["haproxy"]).units_of("ha1", &["pg-proxy"]);
    options.unit_files.push((
        "pgbouncer".to_owned(),
        "[Service]\nUser=postgres\nExecStart=/usr/sbin/pgbouncer /lab/pgbouncer.ini\nRestart=no\n\
         LimitNOFILE=65536\n"
            .to_owned(),
    ));
    if let Some((_, units)) = options.units.iter_mut().find(|(host, _)| host == "ha2") {
        units.push("pgbouncer".to_owned());
    }
    options
}

/// The services of the bare relays, on the peers' host.
fn beside(mut options: LabOptions) -> LabOptions {
    for way in [Way::Copy, Way::Splice, Way::Sockmap] {
        let Some((host, unit)) = way.service() else { continue };
        let command = format!("{RELAYS} {} 10.0.1.22:{} 10.0.1.11:5432", way.name(), way.port());
        let text = format!("[Service]\nUser=root\nExecStart={command}\nRestart=no\nLimitNOFILE=65536\n");
        options.unit_files.push((unit.to_owned(), text));
        if let Some((_, units)) = options.units.iter_mut().find(|(name, _)| name == host) {
            units.push(unit.to_owned());
        }
    }
    options
}

/// Writes the configuration of the two peers; `haproxy` is the whole file.
pub(super) fn configure_peers(lab: &Lab, haproxy: &str) -> Result<()> {
    write(lab, "ha2", "haproxy.cfg", haproxy)?;
    write(lab, "ha2", "pgbouncer.ini", POOLER)?;
    write(lab, "ha2", "pgbouncer.users", POOLER_USERS)
}

/// Waits until a way leads to a server.
pub(super) fn wait_open(lab: &Lab, way: Way, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    wait_for(&format!("an open way through {}", way.name()), LIMIT, || {
        let running = way.usage(lab);
        running.map_err(|error| format!("{error:#}"))?;
        attempt().map_err(|error| format!("{error:#}"))
    })
}

impl Setting {
    pub(super) fn start(directory: &Path, ways: &[Way], relays: Option<&Path>) -> Result<Self> {
        let bin = postgres_bin()?;
        let checks = checks_of("primary");
        let mut options = front(LabOptions::five_hosts(directory)?);
        options = options.units_of(SERVER, &["postgres-alone", &checks.0]);
        options = options.units_of("pg2", &[]).units_of("pg3", &[]);
        options.masked.push(format!("{SERVER}/postgres-alone"));
        options.unit_files.push((
            "postgres-alone".to_owned(),
            format!("[Service]\nUser=postgres\nExecStart={bin}/postgres -D /var/lib/postgresql/bench\nRestart=no\n"),
        ));
        options.unit_files.push(checks);
        if relays.is_some() {
            options = beside(options);
        }
        let setting = Self { lab: Lab::prepare(&options)? };
        if let Some(program) = relays {
            let place = setting.lab.dir().host("ha2").join("work/relay-ways");
            fs::copy(program, &place).with_context(|| format!("copy {}", program.display()))?;
        }
        setting.fill(&bin, ways)?;
        Ok(setting)
    }

    fn fill(&self, bin: &str, ways: &[Way]) -> Result<()> {
        let lab = &self.lab;
        configure_peers(lab, classic::HAPROXY_CFG)?;
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let data = "/var/lib/postgresql/bench";
        let initdb = format!("{bin}/initdb");
        done(
            &lab.exec_as(
                SERVER,
                "postgres",
                &[&initdb, "-D", data, "-A", "trust", "-E", "UTF8", "--no-sync"],
            )?,
            "initdb",
        )?;
        let script =
            format!("printf %s \"$1\" >> {data}/postgresql.conf; printf %s \"$2\" > {data}/pg_hba.conf");
        done(
            &lab.exec_as(SERVER, "postgres", &["sh", "-c", &script, "sh", SETTINGS, HBA])?,
            "PostgreSQL's settings",
        )?;
        lab.start_unit(SERVER, "postgres-alone")?;
        lab.wait_sql(SERVER, "SELECT 1", "1")?;
        lab.sql(SERVER, &format!("CREATE ROLE {USER} LOGIN SUPERUSER"))?;
        lab.sql(SERVER, &format!("CREATE DATABASE {USER} OWNER {USER}"))?;
        let pgbench = ["pgbench", "-i", "-q", "-s", SCALE, "-h", "/run/postgresql", "-U", USER, USER];
        done(&lab.exec_as(SERVER, "postgres", &pgbench)?, "pgbench -i")?;
        ways.iter().try_for_each(|way| wait_answered(lab, *way))
    }
}

/// Waits until the load's user is answered through a way.
pub(super) fn wait_answered(lab: &Lab, way: Way) -> Result<()> {
    let (address, port) = way.address(lab)?;
    let (address, port) = (address.to_string(), port.to_string());
    let ask = ["psql", "-X", "-h", &address, "-p", &port, "-U", USER, "-d", USER, "-qAtc", "SELECT 1"];
    wait_open(lab, way, || {
        let output = lab.exec(CLIENT, &ask)?;
        ensure!(output.stdout.trim() == "1", "{}", output.stderr.trim());
        Ok(())
    })
}

/// A command that must succeed.
pub(super) fn done(output: &Output, what: &str) -> Result<()> {
    if output.code != Some(0) {
        bail!("{what}: exit {:?}: {}", output.code, output.stderr.trim());
    }
    Ok(())
}

fn write(lab: &Lab, host: &str, name: &str, text: &str) -> Result<()> {
    let path = lab.dir().host(host).join("work").join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// The newest PostgreSQL of the distribution.
fn postgres_bin() -> Result<String> {
    let mut found: Vec<(u32, String)> = fs::read_dir("/usr/lib/postgresql")
        .context("look for PostgreSQL")?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            bin.join("postgres").exists().then(|| (version, bin.to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    Ok(found.pop().context("/usr/lib/postgresql has no server")?.1)
}
