//! One module for each group of words.

mod check;
mod front;
mod history;
mod init;
mod lab;
mod leadership;
mod maintenance;
mod server;
mod show;

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
        Command::Check(check) => check::run(args, check),
        Command::List(list) => show::list(args, list),
        Command::Status(status) => show::status(args, status),
        Command::Proxy(proxy) => front::proxy(args, proxy),
        Command::Vip(show) => front::vip(args, show),
        Command::Guard(shown) => show::guard(args, shown),
        Command::Topology(show) => front::topology(args, show),
        Command::History(show) => history::history(args, show),
        Command::Switchover(switchover) => leadership::switchover(args, switchover),
        Command::Failover(failover) => leadership::failover(args, failover),
        Command::Restart(restart) => server::restart(args, restart),
        Command::Reload(reload) => server::reload(args, reload),
        Command::Reinit(reinit) => server::reinit(args, reinit),
        Command::Pause(pause) => maintenance::pause(args, pause),
        Command::Resume => maintenance::resume(args),
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
