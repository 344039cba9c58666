//! `hactl`, the admin's command: asks agents, shows what they say, requests changes. It never writes to etcd.
//!
//! Begin reading at [`args`] (the words) and [`command`] (one module for each group of them). [`overview`] merges what
//! the agents say, [`vips`] what vrrpd says on each proxy host, [`output`] writes it, [`watch`] repeats it.

#![forbid(unsafe_code)]

mod agents;
mod args;
mod ask;
mod certificates;
mod command;
mod confirm;
mod exit_code;
mod output;
mod overview;
mod vips;
mod watch;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    let outcome = command::run(&args);
    exit_code::report(outcome)
}
