//! A watchdog device played by the test: the kernel's rules, and a reset that ends everything on the host.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ha_core::MonoTime;
use ha_fencing::{SimulatedKind, SimulatedWatchdog};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::now;

struct Shared {
    device: SimulatedWatchdog,
    reset: Option<MonoTime>,
    ended: bool,
    /// What a reset ends.
    machine: Vec<u32>,
}

/// The device; gone with the value.
pub(crate) struct StandIn(Arc<Mutex<Shared>>);

struct Connection {
    stream: UnixStream,
    holds: bool,
}

impl StandIn {
    /// Listens at `path`.
    pub(crate) fn at(path: &Path, kind: SimulatedKind) -> Self {
        let fd =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(fd.as_raw_fd(), &UnixAddr::new(path).expect("a short path")).expect("bind");
        listen(&fd, Backlog::new(8).expect("a backlog")).expect("listen");
        let device = SimulatedWatchdog::new(kind);
        let shared = Shared { device, reset: None, ended: false, machine: vec![] };
        let shared = Arc::new(Mutex::new(shared));
        let own = Self(Arc::clone(&shared));
        let listener = UnixListener::from(fd);
        std::thread::spawn(move || serve(&listener, &shared));
        own
    }

    fn look<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.0.lock().expect("the device's thread lives"))
    }

    /// When the machine will be reset.
    pub(crate) fn reset_at(&self) -> Option<MonoTime> {
        self.look(|shared| shared.device.reset_at())
    }

    pub(crate) fn pings(&self) -> u64 {
        self.look(|shared| shared.device.pings())
    }

    /// When the machine was reset.
    pub(crate) fn was_reset(&self) -> Option<MonoTime> {
        self.look(|shared| shared.reset)
    }

    /// A reset ends these processes.
    pub(crate) fn guards(&self, machine: Vec<u32>) {
        self.look(|shared| shared.machine = machine);
    }

    /// Somebody else opens it.
    pub(crate) fn take(&self) {
        self.look(|shared| shared.device.open(now())).expect("nobody has it");
    }

    pub(crate) fn break_down(&self) {
        self.look(|shared| shared.device.broken = true);
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.look(|shared| shared.ended = true);
    }
}

fn serve(listener: &UnixListener, shared: &Mutex<Shared>) {
    let mut connections: Vec<Connection> = vec![];
    loop {
        let mut polled = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        polled.extend(connections.iter().map(|c| PollFd::new(c.stream.as_fd(), PollFlags::POLLIN)));
        let found = poll(&mut polled, PollTimeout::from(2_u8));
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut shared = shared.lock().expect("the test's thread lives");
        if shared.ended || found.is_err() {
            return;
        }
        if let Some(at) = shared.device.reset_at().filter(|at| *at <= now())
            && shared.reset.is_none()
        {
            shared.reset = Some(at);
            for pid in std::mem::take(&mut shared.machine) {
                super::signal_process(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mut index = 0;
        connections.retain_mut(|connection| {
            index += 1;
            !ready[index] || answer(connection, &mut shared.device)
        });
        if ready[0]
            && let Ok((stream, _)) = listener.accept()
        {
            connections.push(Connection { stream, holds: false });
        }
    }
}

/// False when the connection has ended, which closes the device.
fn answer(connection: &mut Connection, device: &mut SimulatedWatchdog) -> bool {
    let mut bytes = [0; 16];
    let length = connection.stream.read(&mut bytes).unwrap_or(0);
    let [question, number @ ..] = &bytes[..5] else { return false };
    if length != 5 {
        if connection.holds {
            device.close(now());
        }
        return false;
    }
    let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
    let kind = device.kind.clone();
    let outcome = match question {
        b'L' => Ok([kind.shortest, kind.nowayout.into(), device.reset_at().is_some().into()]),
        b'O' => device.open(now()).map(|()| {
            connection.holds = true;
            [0; 3]
        }),
        b'S' => Ok([kind.options, 0, 0]),
        b'T' => device.set_timeout(now(), number).map(|seconds| [seconds, 0, 0]),
        b'G' => Ok([device.timeout(), 0, 0]),
        b'W' => device.write(now(), &[number.to_le_bytes()[0]]).map(|_| [0; 3]),
        _ => Err(22),
    };
    let (error, values) = match outcome {
        Ok(values) => (0, values),
        Err(error) => (error.unsigned_abs(), [0; 3]),
    };
    let mut reply: Vec<u8> =
        [error, values[0], values[1], values[2]].into_iter().flat_map(u32::to_le_bytes).collect();
    reply.extend(b"stand-in");
    connection.stream.write_all(&reply).is_ok()
}
