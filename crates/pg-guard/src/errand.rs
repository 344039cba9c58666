//! Sending the guard's own program on an errand that touches the disk: only the errand hangs if the disk does.

use std::io::{self, Read as _, Write as _};
use std::process::{ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::place::Place;

/// The guard's own program, also after an upgrade has replaced the file.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A running errand and what it has said so far.
#[derive(Debug)]
pub(crate) struct Errand {
    pid: u32,
    said: Vec<u8>,
    output: ChildStdout,
}

impl Errand {
    /// Starts the launcher, moves it into the group, and only then lets it go on: it cannot become a postmaster
    /// outside the group, not even if this guard dies in between.
    pub(crate) fn launch(place: &Place, group: &Group, settings: &[(String, String)]) -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg("launch").arg("--program").arg(&place.program).arg("--data-dir").arg(&place.data_dir);
        command.arg("--user").arg(&place.user).arg("--log-file").arg(&place.log_file);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let go = child.stdin.take();
        let (pid, output) = (child.id(), child.stdout.take());
        let entered = group.add(pid).and_then(|()| match go {
            Some(mut go) => go.write_all(b"g"),
            None => Ok(()),
        });
        if let Err(error) = entered {
            // Its standard input is closed by now, so it ends; the driver reaps it.
            let text = format!("move the launcher into {}: {error}", group.path().display());
            return Err(io::Error::new(error.kind(), text));
        }
        Self::with(pid, output)
    }

    /// Looks whether the data directory is marked as a standby's.
    pub(crate) fn inspect(place: &Place) -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg("inspect").arg("--data-dir").arg(&place.data_dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Self::with(child.id(), child.stdout.take())
    }

    fn with(pid: u32, output: Option<ChildStdout>) -> io::Result<Self> {
        let output = output.ok_or_else(|| io::Error::other("no pipe to the errand"))?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { pid, said: Vec::new(), output })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it has said more or is done.
    pub(crate) fn output(&self) -> &ChildStdout {
        &self.output
    }

    /// Reads what it has said; everything once it is done (that is, has closed its output).
    pub(crate) fn read(&mut self) -> Option<String> {
        let mut part = [0; 512];
        loop {
            match self.output.read(&mut part) {
                Ok(0) => return Some(String::from_utf8_lossy(&self.said).into_owned()),
                Ok(length) => self.said.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(format!("read from the errand: {error}")),
            }
        }
    }

    /// Ends it. It has not been reaped, so the number is still its own.
    pub(crate) fn kill(&self) {
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
    }
}
