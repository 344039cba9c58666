//! One module for each group of words.

mod check;
mod cluster;
mod init;
mod lab;

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::args::{Args, Command};
use crate::exit_code::Code;

/// Runs the command that was asked for.
///
/// # Errors
/// Whatever went wrong; [`crate::exit_code::Stop`] in the chain decides the exit code.
pub(crate) fn run(args: &Args) -> anyhow::Result<Code> {
    match &args.command {
        Command::Init(init) => init::run(args, init),
        Command::Check => check::run(args),
        Command::List(list) => cluster::list(args, list),
        Command::Status(status) => cluster::status(args, status),
        Command::Switchover(switchover) => cluster::switchover(args, switchover),
        Command::Failover(failover) => cluster::failover(args, failover),
        Command::Restart(restart) => cluster::restart(args, restart),
        Command::Reload(reload) => cluster::reload(args, reload),
        Command::Pause(pause) => cluster::pause(args, pause),
        Command::Resume => cluster::resume(args),
        Command::Lab { arguments } => lab::run(arguments),
        Command::Version => {
            writeln!(std::io::stdout(), "hactl {}", env!("CARGO_PKG_VERSION"))?;
            Ok(Code::Done)
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "hactl", &mut std::io::stdout());
            Ok(Code::Done)
        }
    }
}
