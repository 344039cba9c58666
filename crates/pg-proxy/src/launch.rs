//! Starts the successor as nobody's child: the process that runs between says its number and ends, so that the successor
//! belongs to the service manager, which learns of its end at once. A child of the old process would be noticed by the old
//! process alone, which itself goes away.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ha_daemon::ExitCode;

/// Tells this program to be the process between, and which program to start.
const LAUNCH: &str = "MATRIARCH_LAUNCH";

/// How this program was started, and how it is started again.
#[derive(Debug, Clone)]
pub struct OwnProgram {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
}

impl OwnProgram {
    /// Now, at the start: later the file may be another one, and the kernel calls the old one deleted.
    ///
    /// # Errors
    /// When there is no way to tell.
    pub fn note() -> std::io::Result<Self> {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        // A path as it was typed may be a symbolic link that leads to the new program by then.
        let typed = Path::new(&name);
        let path = if typed.components().count() > 1 {
            std::path::absolute(typed)?
        } else {
            std::env::current_exe()?
        };
        Ok(Self { path, name, arguments: arguments.collect() })
    }

    /// The file that is started.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The process between. It is this program as it runs, whatever lies at [`Self::path`] now. On its standard output
    /// comes the number of the process that it started; or it fails and says why there.
    pub fn launcher(&self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(&self.name)
            .args(&self.arguments)
            .env(LAUNCH, &self.path)
            // Those of the service manager were for this process.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

/// Is the process between, if it is one.
pub fn launch() -> Option<ExitCode> {
    let program = std::env::var_os(LAUNCH)?;
    let started = start(Path::new(&program));
    let (text, code) = match started {
        Ok(id) => (id.to_string(), ExitCode::Ok),
        Err(error) => (format!("start {}: {error}", Path::new(&program).display()), ExitCode::Failure),
    };
    // When nobody reads it, nobody waits for the successor either.
    drop(writeln!(std::io::stdout(), "{text}"));
    Some(code)
}

fn start(program: &Path) -> std::io::Result<u32> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let output = std::io::stderr().as_fd().try_clone_to_owned()?;
    let child = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env_remove(LAUNCH)
        .stdin(Stdio::null())
        // The own standard output leads to the old process.
        .stdout(Stdio::from(output))
        .spawn()?;
    Ok(child.id())
}
