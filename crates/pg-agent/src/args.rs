//! Command line of pg-agent.

use std::path::PathBuf;

use clap::Parser;

/// Steers this host's PostgreSQL as a member of the cluster.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// The cluster file; secrets.toml is looked for beside it.
    #[arg(long, default_value = "/etc/matriarch/cluster.toml")]
    pub config: PathBuf,
    /// Which host of the file this is; default: the host name.
    #[arg(long)]
    pub node: Option<String>,
    /// Check the files, print every problem, and exit.
    #[arg(long)]
    pub check_config: bool,
}
