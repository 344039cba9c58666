//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::group::KillBy;

/// Starts PostgreSQL and ends it when its lease deadline passes.
#[derive(Debug, Parser)]
#[command(name = "pg-guard", version)]
pub(crate) struct Args {
    /// The cluster's file.
    #[arg(long, default_value = "/etc/matriarch/cluster.toml", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// This host's name in the file [default: the host name].
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Check the file and exit: 0 = usable, 2 = problems.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Where fences are recorded for good [default: /var/lib/matriarch-guard/<cluster>].
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How PostgreSQL's processes are known [default: the best that works here].
    #[arg(long, hide = true)]
    pub(crate) kill_by: Option<KillBy>,
    /// What the guard calls itself for.
    #[command(subcommand)]
    pub(crate) errand: Option<Errand>,
}

/// The guard's calls of itself; see `launcher.rs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Errand {
    /// Become the postmaster, when told so on standard input.
    #[command(hide = true)]
    Launch(LaunchOrder),
    /// Become the fuse of a new PostgreSQL; the socket for guards is standard input.
    #[command(hide = true)]
    Fuse(FuseOrder),
    /// Tell on standard output why a fuse is not possible here, if so.
    #[command(hide = true)]
    FuseProbe,
    /// Tell on standard output whether a data directory is a standby's.
    #[command(hide = true)]
    Inspect {
        /// The data directory.
        #[arg(long)]
        data_dir: PathBuf,
    },
}

/// How to become a fuse.
#[derive(Debug, clap::Args)]
pub(crate) struct FuseOrder {
    /// The file that moves a process into PostgreSQL's group.
    #[arg(long)]
    pub(crate) group: Option<PathBuf>,
    /// What runs behind it.
    #[command(flatten)]
    pub(crate) launch: LaunchOrder,
}

/// How to become the postmaster.
#[derive(Debug, clap::Args)]
pub(crate) struct LaunchOrder {
    /// The `postgres` program.
    #[arg(long)]
    pub(crate) program: PathBuf,
    /// The data directory.
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// The operating system's user.
    #[arg(long)]
    pub(crate) user: String,
    /// Standard output and error of the postmaster.
    #[arg(long)]
    pub(crate) log_file: PathBuf,
    /// Settings, `name=value` each.
    #[arg(short = 'c', value_name = "NAME=VALUE", allow_hyphen_values = true)]
    pub(crate) settings: Vec<String>,
}
