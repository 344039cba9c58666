//! Command line of pg-proxy.

use std::path::PathBuf;

use clap::Parser;

/// Leads sessions to the right PostgreSQL of the cluster.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Args {
    /// The cluster file; secrets.toml is looked for beside it.
    #[arg(long, default_value = "/etc/matriarch/cluster.toml")]
    pub config: PathBuf,
    /// Which proxy host of the file this is; default: the host name.
    #[arg(long)]
    pub node: Option<String>,
    /// Check the files, print every problem, and exit.
    #[arg(long)]
    pub check_config: bool,
    /// The socket on which vrrpd follows this process; its place is fixed but for tests.
    #[arg(long, hide = true, default_value = crate::local_link::PATH)]
    pub link_socket: PathBuf,
}
