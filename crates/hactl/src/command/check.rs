//! `hactl check`: everything that is wrong with the files, at once.

use std::io::{ErrorKind, Write as _};

use crate::args::Args;
use crate::exit_code::Code;

/// Checks cluster.toml and, where there is one, the secrets.toml beside it.
pub(crate) fn run(args: &Args) -> anyhow::Result<Code> {
    let config = args.config();
    let secrets = config.with_file_name("secrets.toml");
    let mut problems = Vec::new();
    let cluster = ha_config::load(config).map_err(|found| problems.push(found)).ok();
    // A proxy host has no secrets; but one that stands there and cannot be read is a problem, not an absence.
    let absent = matches!(std::fs::metadata(&secrets), Err(error) if error.kind() == ErrorKind::NotFound);
    if !absent {
        problems.extend(ha_config::load_secrets(&secrets).err());
    }
    let mut out = std::io::stdout().lock();
    for found in &problems {
        writeln!(out, "{found}")?;
    }
    let Some(cluster) = cluster.filter(|_| problems.is_empty()) else { return Ok(Code::Configuration) };
    writeln!(
        out,
        "{}: OK: cluster {}, {} database and {} proxy hosts, mode {}, digest {}; {}",
        config.display(),
        cluster.name,
        cluster.databases.len(),
        cluster.proxies.len(),
        cluster.replication.mode,
        cluster.digest,
        if absent { "no secrets.toml here" } else { "secrets.toml is usable" },
    )?;
    Ok(Code::Done)
}
