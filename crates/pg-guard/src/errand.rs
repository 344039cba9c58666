//! Sending the guard's own program on an errand that touches the disk: only the errand hangs if the disk does.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::group::Group;
use crate::place::Place;

/// The guard's own program, also after an upgrade has replaced the file.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A running errand and what it has said so far.
#[derive(Debug)]
pub(crate) struct Errand {
    pid: u32,
    fused: bool,
    said: Vec<u8>,
    output: ChildStdout,
}

impl Errand {
    /// Starts the launcher, moves it into the group, and only then lets it go on: it cannot become a postmaster
    /// outside the group, not even if this guard dies in between.
    pub(crate) fn launch(place: &Place, group: &Group, settings: &[(String, String)]) -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg("launch");
        add_order(&mut command, place, settings);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let go = child.stdin.take();
        let (pid, output) = (child.id(), child.stdout.take());
        let entered = group.add(pid).and_then(|()| match go {
            Some(mut go) => go.write_all(b"g"),
            None => Ok(()),
        });
        if let Err(error) = entered {
            // Its standard input is closed by now, so it ends; the driver reaps it.
            let text = format!("move the launcher into {}: {error}", group.place());
            return Err(io::Error::new(error.kind(), text));
        }
        Self::with(pid, output, false)
    }

    /// Starts the launcher behind a fuse that takes the listening socket over. It moves what it starts into the group
    /// by itself.
    pub(crate) fn launch_fused(
        place: &Place,
        group: &Group,
        settings: &[(String, String)],
        listener: UnixListener,
    ) -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg("fuse");
        if let Some(entrance) = group.entrance() {
            command.arg("--group").arg(entrance);
        }
        add_order(&mut command, place, settings);
        let child = command.stdin(OwnedFd::from(listener)).stdout(Stdio::piped()).spawn()?;
        Self::of(child, true)
    }

    /// Tries whether a fuse is possible here.
    pub(crate) fn probe_fuse() -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        Self::of(command.arg("fuse-probe").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?, false)
    }

    /// Looks whether the data directory is marked as a standby's.
    pub(crate) fn inspect(place: &Place) -> io::Result<Self> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg("inspect").arg("--data-dir").arg(&place.data_dir);
        Self::of(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?, false)
    }

    fn of(mut child: Child, fused: bool) -> io::Result<Self> {
        Self::with(child.id(), child.stdout.take(), fused)
    }

    fn with(pid: u32, output: Option<ChildStdout>, fused: bool) -> io::Result<Self> {
        let output = output.ok_or_else(|| io::Error::other("no pipe to the errand"))?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { pid, fused, said: Vec::new(), output })
    }

    /// Whether it launches behind a fuse: it then goes on to speak after the postmaster has begun.
    pub(crate) fn is_fused(&self) -> bool {
        self.fused
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it has said more or is done.
    pub(crate) fn output(&self) -> &ChildStdout {
        &self.output
    }

    /// Reads what it says; true once it is done (that is, has closed its output).
    pub(crate) fn read(&mut self) -> bool {
        let mut part = [0; 512];
        loop {
            match self.output.read(&mut part) {
                Ok(0) => return true,
                Ok(length) => self.said.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    self.said.extend_from_slice(format!("\nread from the errand: {error}\n").as_bytes());
                    return true;
                }
            }
        }
    }

    /// Everything that it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Ends it. It has not been reaped, so the number is still its own.
    pub(crate) fn kill(&self) {
        let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGKILL);
    }
}

fn add_order(command: &mut Command, place: &Place, settings: &[(String, String)]) {
    command.arg("--program").arg(&place.program).arg("--data-dir").arg(&place.data_dir);
    command.arg("--user").arg(&place.user).arg("--log-file").arg(&place.log_file);
    for (name, value) in settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
}
