//! `hactl-lab`: a cluster in namespaces to look at, to break and to measure.

use std::process::ExitCode;

fn main() -> ExitCode {
    ha_lab::command_line::main()
}
