//! `hactl`, the admin's command: asks agents, shows what they say, requests changes. It never writes to etcd.
//!
//! Begin reading at [`args`] (the words) and [`command`] (one module for each group of them). [`overview`] merges what
//! the agents say, [`output`] writes it.

#![forbid(unsafe_code)]

mod agents;
mod args;
mod certificates;
mod command;
mod confirm;
mod exit_code;
mod output;
mod overview;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    let outcome = command::run(&args);
    exit_code::report(outcome)
}
