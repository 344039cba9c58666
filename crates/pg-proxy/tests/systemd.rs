//! A real pg-proxy under a service manager that the test plays: what it is told, and what it gives.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends by a panic and says what it measured"
)]
#![allow(
    unsafe_code,
    reason = "one thread of the proxy is stopped by ptrace, which has no safe wrapper here"
)]

mod fakes;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use fakes::agent::leader;
use fakes::client::{Login, knock, session};
use fakes::wait_for;
use fakes::world::{SOON, World};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-proxy");

/// The service manager's ear.
struct Ear(UnixDatagram);

impl Ear {
    fn new(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.dir().join("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self(socket)
    }

    fn program(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env("NOTIFY_SOCKET", self.0.local_addr().unwrap().as_pathname().unwrap());
        command
    }

    fn hears(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.0.recv(&mut buffer).expect("a word to the service manager");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[test]
fn the_service_manager_hears_of_the_start_of_reloads_of_a_successor_and_of_the_end() {
    let mut world = World::new(81, "");
    let ear = Ear::new(&world);
    world.start_proxy_by(ear.program());
    assert_eq!(ear.hears(), "READY=1");
    world.write_routing("max_connections = 9");
    world.signal(Signal::SIGHUP);
    let reloading = ear.hears();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(since.parse::<u64>().unwrap() > 0);
    assert_eq!(ear.hears(), "READY=1");
    world.wait_until("/session_limit", 9, SOON);

    // A file that is refused ends the reload as well: the daemon serves as before.
    world.write_routing("max_connections = 0");
    world.signal(Signal::SIGHUP);
    assert!(ear.hears().starts_with("RELOADING=1\n"));
    assert_eq!(ear.hears(), "READY=1");
    world.write_routing("max_connections = 9");

    world.signal(Signal::SIGUSR2);
    let told = ear.hears();
    let successor = told.strip_prefix("MAINPID=").and_then(|rest| rest.strip_suffix("\nREADY=1")).unwrap();
    let successor: i32 = successor.parse().unwrap();
    assert_eq!(world.ended().code(), Some(0), "it had no session");
    assert_eq!(i32::try_from(world.process()).unwrap(), successor);
    kill(Pid::from_raw(successor), Signal::SIGTERM).unwrap();
    assert_eq!(ear.hears(), "STOPPING=1");
}

/// The thread with this name.
fn thread_of(process: u32, name: &str) -> libc::pid_t {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = threads
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|found| found.trim() == name));
    named.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn trace(request: libc::c_uint, thread: libc::pid_t) {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests that are made here reads or writes memory of this process.
    let done = unsafe { libc::ptrace(request, thread, nothing, nothing) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_hung_worker_ends_the_signs_of_life() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut world = World::new(82, "");
    let ear = Ear::new(&world);
    let mut program = ear.program();
    program.env("WATCHDOG_USEC", PATIENCE.as_micros().to_string());
    world.start_proxy_by(program);
    assert_eq!(ear.hears(), "READY=1");
    for _ in 0..2 {
        assert_eq!(ear.hears(), "WATCHDOG=1");
    }
    let worker = thread_of(world.process(), "relay-0");
    trace(libc::PTRACE_SEIZE, worker);
    trace(libc::PTRACE_INTERRUPT, worker);
    wait_for("the proxy to notice", SOON, || {
        world.log().contains("the service manager gets no sign of life").then_some(())
    });
    // What was said before the worker hung may still be there.
    ear.0.set_nonblocking(true).unwrap();
    while ear.0.recv(&mut [0; 256]).is_ok() {}
    ear.0.set_nonblocking(false).unwrap();
    ear.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let silent = ear.0.recv(&mut [0; 256]);
    assert!(silent.is_err(), "by now a service manager would have ended it");
    assert_eq!(world.status()["workers_alive"], false);

    // It goes on: alive again.
    let mut status = 0;
    // SAFETY: `status` lives through the call, which writes only that.
    let stopped = unsafe { libc::waitpid(worker, &raw mut status, libc::__WALL) };
    assert_eq!(stopped, worker);
    trace(libc::PTRACE_DETACH, worker);
    ear.0.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(ear.hears(), "WATCHDOG=1");
}

/// The program with these sockets as the service manager gives them, and their numbers here, to be closed.
fn with_sockets(sockets: &[(&str, &OwnedFd)]) -> (Command, Vec<i32>) {
    // Beyond the numbers that they get there.
    let copy = |socket: &OwnedFd| fcntl(socket.as_fd(), FcntlArg::F_DUPFD(40)).unwrap();
    let numbers: Vec<i32> = sockets.iter().map(|(_, socket)| copy(socket)).collect();
    let moves: Vec<String> =
        numbers.iter().zip(3..).map(|(number, place)| format!("{place}<&{number}-")).collect();
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let script = format!(
        "exec {}; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$0\" \"$@\"",
        moves.join(" "),
        sockets.len(),
        names.join(":")
    );
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).arg(PROGRAM);
    (command, numbers)
}

fn listen(address: SocketAddr) -> OwnedFd {
    TcpListener::bind(address).unwrap().into()
}

fn start_with(world: &mut World, sockets: &[(&str, &OwnedFd)]) {
    let (command, numbers) = with_sockets(sockets);
    world.spawn_proxy_by(command);
    for number in numbers {
        nix::unistd::close(number).unwrap();
    }
}

#[test]
fn sockets_of_the_service_manager_stay_open_while_the_proxy_is_started_anew() {
    let mut world = World::new(83, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    let (write, read) = (listen(world.writes()), listen(world.reads()));
    let sockets = [("write", &write), ("read", &read)];
    start_with(&mut world, &sockets);
    wait_for("the proxy to serve", SOON, || std::os::unix::net::UnixStream::connect(world.link_path()).ok());
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    assert_eq!(session(world.writes()).server, "pg1");
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended().code(), Some(0));
    // Nobody serves, and nobody is refused.
    let waiting = knock(world.writes()).unwrap();
    start_with(&mut world, &sockets);
    agent.claim(leader(1));
    let Login::In(served) = waiting.wait().unwrap() else { panic!("refused") };
    assert_eq!(served.server, "pg1");
    drop(served);

    // They go on to a successor.
    let before = world.process();
    world.signal(Signal::SIGUSR2);
    wait_for("the successor", SOON, || (world.process() != before).then_some(()));
    assert_eq!(session(world.writes()).server, "pg1");
}

#[test]
fn sockets_that_do_not_fit_are_named_and_nothing_starts() {
    let mut world = World::new(84, "");
    let elsewhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (wrong, unknown) = (listen(elsewhere), listen(elsewhere));
    start_with(&mut world, &[("write", &wrong), ("postgres", &unknown)]);
    assert_eq!(world.ended().code(), Some(2));
    let log = world.log();
    for words in
        ["\"write\"", &format!("expected {}", world.writes()), "\"postgres\"", "write, read, status or grpc"]
    {
        assert!(log.contains(words), "{words} is missing in {log}");
    }
}

#[test]
fn without_descriptors_clients_wait_and_no_processor_burns() {
    let mut world = World::new(85, "max_connections = 1000");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM]);
    world.start_proxy_by(command);
    wait_for("the proxy to serve", SOON, || std::os::unix::net::UnixStream::connect(world.link_path()).ok());
    let log = world.log();
    for words in ["too low for max_connections", "hard=64", "needed=2100", "max_connections=1000"] {
        assert!(log.contains(words), "{words} is missing in {log}");
    }
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let process = world.process();

    // Two descriptors for each that is served: the kernel takes the others, and they wait.
    let crowd: Vec<_> = (0..100).map(|_| knock(world.writes()).unwrap()).collect();
    wait_for("the shortage", SOON, || {
        world.log().contains("clients cannot be accepted and wait").then_some(())
    });
    let (began, used) = (Instant::now(), processor_time(process));
    // Nothing happens meanwhile, so there is nothing to wait for but time.
    std::thread::sleep(Duration::from_secs(2));
    let burnt = processor_time(process) - used;
    assert!(burnt < began.elapsed() / 4, "{burnt:?} of {:?}", began.elapsed());
    assert_eq!(
        world.log().matches("clients cannot be accepted and wait").count(),
        1,
        "once, not ten times a second"
    );

    drop(crowd);
    // It serves again, and so do the interfaces beside it.
    wait_for("a session", SOON, || match knock(world.writes()).unwrap().wait() {
        Ok(Login::In(served)) => Some(served),
        _ => None,
    });
    wait_for("the end of the crowd", SOON, || (world.status()["sessions"] == 0).then_some(()));
    assert!(world.log().contains("clients are accepted again"));
    assert_eq!(world.link().next().unwrap()["serving"], true);
    assert_eq!(world.process(), process);
}

/// Processor time that a process has used, in user mode and in the kernel (proc(5), fields 14 and 15 of `stat`).
fn processor_time(process: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick is a hundredth of a second on every Linux that this runs on.
    Duration::from_millis(ticks * 10)
}
