//! `hactl lab`: the same words run by the program `hactl-lab`, which carries code for tests and is not shipped.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::exit_code::{Code, Stop};

const PROGRAM: &str = "hactl-lab";

/// Becomes `hactl-lab`; returns only when that is impossible.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<Code> {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let program = beside.filter(|program| program.exists()).unwrap_or_else(|| PathBuf::from(PROGRAM));
    let error = Command::new(&program).args(arguments).exec();
    let message = format!(
        "run {}: {error}; it is built with the workspace (cargo build -p ha-lab) and looked for beside hactl and on PATH",
        program.display()
    );
    Err(Stop::new(Code::Failed, message).into())
}
