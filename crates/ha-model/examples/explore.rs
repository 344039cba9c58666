//! `make model`: the larger scopes, each to its end or for so many seconds. `explore 300` bounds each of them, `explore 300
//! pinned` runs those with that word in their name.

#![allow(clippy::print_stdout)]

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use ha_model::{Report, Scope};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(300);
    let word = arguments.next().unwrap_or_default();
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut good = true;
    for scope in Scope::LARGE.iter().filter(|scope| scope.name.contains(&word)) {
        let report = Report::of(*scope, threads, Some(Duration::from_secs(seconds)));
        println!("{report}");
        good &= report.broken.is_empty() && (report.missed.is_empty() || !report.complete);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
