//! pg-guard: starts PostgreSQL, holds its lease deadline, and ends it when the deadline passes, whatever its agent does.
//!
//! One thread waits and kills ([`driver`]); it touches no disk and writes no log by itself. The rules are in `ha-fencing`.
//! The program calls itself for two short errands that do touch disks: [`launcher`] becomes the postmaster, and `inspect`
//! looks at the data directory. It calls itself, too, for the [`fuse`]: a process that stays between it and PostgreSQL.

mod agent_link;
mod args;
mod capability;
mod clock;
mod driver;
mod errand;
mod fuse;
mod fuse_link;
mod group;
mod journal;
mod launcher;
mod log_line;
mod namespace_init;
mod place;
mod postmaster;
mod real_time;
mod system_call;
mod watchdog;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Errand};
use crate::log_line::{Level, Log};

/// Wrong configuration or usage.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.errand {
        Some(Errand::Launch(order)) => return launcher::launch(order),
        Some(Errand::Fuse(order)) => return fuse::run(order),
        Some(Errand::FuseProbe) => return fuse::probe(),
        Some(Errand::Inspect { data_dir }) => return launcher::inspect(data_dir),
        None => {}
    }
    if args.check_config {
        return ExitCode::from(ha_config::run_check_config(&args.config, args.node.as_deref()));
    }
    let place = match place::Place::from_configuration(&args) {
        Ok(place) => place,
        Err(problems) => {
            drop(writeln!(std::io::stderr(), "{problems:#}"));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    // Before the log's thread begins: it is to have no more rights, and a signal must reach nobody but the driver.
    let bounded = capability::bound(&capability::GUARD);
    let blocked = driver::block_signals();
    let log = Log::to_stderr();
    if let Err(error) = bounded {
        log.line(Level::Warn, &format!("more capabilities than needed are kept: {error}"));
    }
    let outcome = blocked.and_then(|()| driver::run(&place, &log));
    if let Err(error) = &outcome {
        log.line(Level::Error, &format!("{error:#}"));
    }
    log.finish();
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
