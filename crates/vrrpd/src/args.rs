//! Command line of vrrpd.

use std::path::PathBuf;

use clap::Parser;

/// Holds the floating addresses of the cluster on one of its proxy hosts.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Args {
    /// The cluster file; secrets.toml is looked for beside it.
    #[arg(long, default_value = "/etc/matriarch/cluster.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Which host of the file this is; default: the host name.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Check the files, print every problem, and exit.
    #[arg(long)]
    pub check_config: bool,
    /// Where the local pg-proxy says how it is.
    #[arg(long, hide = true, default_value = "/run/matriarch/proxy.sock", value_name = "FILE")]
    pub proxy_socket: PathBuf,
    /// What a process needs that takes the place of one that was killed.
    #[arg(long, hide = true, default_value = "/run/matriarch/vrrpd.state", value_name = "FILE")]
    pub resumption_file: PathBuf,
    /// What must outlive the process and the host's restart.
    #[arg(long, hide = true, default_value = "/var/lib/matriarch-vrrpd", value_name = "DIR")]
    pub state_dir: PathBuf,
}
