//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

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
    /// Tell on standard output whether a data directory is a standby's.
    #[command(hide = true)]
    Inspect {
        /// The data directory.
        #[arg(long)]
        data_dir: PathBuf,
    },
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
