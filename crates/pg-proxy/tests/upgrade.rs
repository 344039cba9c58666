//! A real pg-proxy is replaced by another process while clients connect and sessions are open.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends by a panic and says what it measured"
)]

mod fakes;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use fakes::agent::{leader, standby};
use fakes::client::session;
use fakes::crowd::Crowd;
use fakes::wait_for;
use fakes::world::{Link, SOON, World};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-proxy");
/// vrrpd counts a proxy as dead after this long without a word.
const SILENCE_LIMIT: Duration = Duration::from_secs(1);

/// Asks the process that serves for a successor and waits until another one serves.
fn upgrade(world: &World) -> u32 {
    let told = || world.log().matches("a successor takes new sessions").count();
    let (before, already) = (world.process(), told());
    send(before, Signal::SIGUSR2);
    wait_for("a successor", SOON, || (told() > already).then_some(()));
    let now = world.process();
    assert_ne!(now, before);
    now
}

fn send(process: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
}

fn is_gone(world: &World, process: u32) -> Option<()> {
    let id = i32::try_from(process).unwrap();
    (!world.processes().contains(&id)).then_some(())
}

/// Follows the local link as vrrpd does until told to stop: at the end of a stream it comes back at once. Gives everything
/// that would have moved the address.
fn follow_link(world: &World, stop: &AtomicBool) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut link, mut heard) = (world.link(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        match link.next() {
            Some(line) if line["serving"] == true && line["draining"] == false => {}
            Some(line) => complaints.push(line.to_string()),
            None => match std::os::unix::net::UnixStream::connect(world.link_path()) {
                Ok(stream) => {
                    link = Link::of(stream);
                    continue;
                }
                Err(error) => {
                    complaints.push(error.to_string());
                    return complaints;
                }
            },
        }
        if heard.elapsed() >= SILENCE_LIMIT {
            complaints.push(format!("silent for {:?}", heard.elapsed()));
        }
        heard = Instant::now();
    }
    complaints
}

struct StopsOnDrop<'a>(&'a AtomicBool);

impl Drop for StopsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn twenty_upgrades_under_constant_connecting_fail_nobody_and_move_no_address() {
    const UPGRADES: u32 = 20;
    let mut world = World::new(71, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let stop = Arc::new(AtomicBool::new(false));
    let crowd = Crowd::start(world.writes(), 3);
    let complaints = std::thread::scope(|scope| {
        let follower = scope.spawn(|| follow_link(&world, &stop));
        // Also when this thread fails: the scope waits for the other one.
        let stops = StopsOnDrop(&stop);
        for _ in 0..UPGRADES {
            let old = world.process();
            upgrade(&world);
            crowd.wait_for_more(20);
            // Nobody stays with the old one for long, so it is soon gone, and the next upgrade finds the names free.
            wait_for("the end of the old process", SOON, || is_gone(&world, old));
        }
        drop(stops);
        follower.join().unwrap()
    });
    let (served, failures) = crowd.finish();
    eprintln!("{served} clients were served during {UPGRADES} upgrades");
    assert_eq!(failures, [""; 0], "of {served}");
    assert_eq!(complaints, [""; 0]);
    assert_eq!(world.processes().len(), 1);
    assert!(world.link_path().exists());
}

#[test]
fn sessions_stay_with_the_old_process_which_cuts_them_when_their_leader_falls() {
    let mut world = World::new(72, "");
    let _servers = world.servers();
    let agents = [world.agent("pg1"), world.agent("pg2")];
    world.start_proxy();
    let old = world.process();
    agents[0].claim(leader(1));
    agents[1].claim(standby(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    world.wait_until("/reads/members/0", "pg2", SOON);
    let (mut writer, mut reader) = (session(world.writes()), session(world.reads()));
    let new = upgrade(&world);
    assert_eq!(world.status()["draining"], false);
    world.wait_until("/replaced", serde_json::json!([{"process": old, "sessions": 2}]), SOON);
    world.wait_until("/writes/members/0", "pg1", SOON);
    let mut second = session(world.writes());
    assert!(writer.is_alive() && reader.is_alive() && second.is_alive());

    agents[1].claim(leader(2));
    assert_eq!(writer.end().as_deref(), Some("57P01"), "cut by the old process");
    assert_eq!(second.end().as_deref(), Some("57P01"), "cut by the new one");
    assert!(reader.is_alive(), "a session for reads stays on a standby that was promoted");
    assert_eq!(session(world.writes()).server, "pg2");
    drop(reader);
    wait_for("the end of the old process", SOON, || is_gone(&world, old));
    assert_eq!(world.ended().code(), Some(0));
    assert_eq!(world.process(), new);
    world.wait_until("/replaced", serde_json::json!([]), SOON);
}

/// Asks over a connection that stays open; the process that answered, none when the connection is closed.
fn ask_for_process(kept: &mut BufReader<TcpStream>) -> Option<u64> {
    if kept.get_mut().write_all(b"GET /status.json HTTP/1.1\r\nHost: x\r\n\r\n").is_err() {
        return None;
    }
    answered_by(kept)
}

fn answered_by(kept: &mut BufReader<TcpStream>) -> Option<u64> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        match kept.read_line(&mut line) {
            Ok(0) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            read => read.unwrap(),
        };
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    kept.read_exact(&mut body).unwrap();
    serde_json::from_slice::<serde_json::Value>(&body).unwrap()["process"].as_u64()
}

#[test]
fn who_keeps_a_connection_to_the_page_or_to_grpc_is_answered_and_then_meets_the_successor() {
    use ha_rpc::proto::proxy_client::ProxyClient;
    use ha_rpc::proto::{AdministerRequest, UpstreamAdmin};
    let mut world = World::new(79, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let old = world.process();
    // Keeps the old process.
    let mut session = session(world.writes());
    let connect = || {
        let stream = TcpStream::connect(world.page()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        BufReader::new(stream)
    };
    let admin = world.certificate("admin", "admin", world.member("pg3"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let channel = runtime.block_on(ha_rpc::channel::connect("ha1", world.grpc(), &admin)).unwrap();
    let ask = |state: UpstreamAdmin| {
        let request = AdministerRequest { member: "pg3".to_owned(), admin: state.into() };
        runtime.block_on(ProxyClient::new(channel.clone()).administer(request))
    };
    ask(UpstreamAdmin::Drain).unwrap();
    let (mut begun, mut kept) = (connect(), connect());
    begun.get_mut().write_all(b"GET /status.json HTTP/1.1\r\n").unwrap();
    // Whoever came before is let in before.
    assert_eq!(ask_for_process(&mut kept), Some(old.into()));
    let new = upgrade(&world);
    begun.get_mut().write_all(b"Host: x\r\n\r\n").unwrap();
    assert_eq!(answered_by(&mut begun), Some(old.into()), "who had begun to ask is answered");
    wait_for("the end of the connection that was kept", SOON, || {
        ask_for_process(&mut kept).is_none().then_some(())
    });
    assert_eq!(ask_for_process(&mut connect()), Some(new.into()));
    wait_for("an order to reach the successor", SOON, || {
        let asked = ask(UpstreamAdmin::Maintenance);
        let told = world.status()["upstreams"][2]["admin"] == "maintenance";
        (asked.is_ok() && told).then_some(())
    });
    assert!(session.is_alive() && world.processes().len() == 2, "the old process is still there");
}

#[test]
fn after_its_time_the_old_process_ends_idle_sessions_and_then_the_rest() {
    let mut world = World::new(73, "upgrade_timeout = \"500ms\"\ndrain_timeout = \"1s\"");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let (idle, mut busy) = (session(world.writes()), session(world.writes()));
    busy.begin();
    upgrade(&world);
    assert_eq!(idle.end().as_deref(), Some("57P01"));
    assert_eq!(busy.end().as_deref(), Some("57P01"));
    assert_eq!(world.ended().code(), Some(0));
    assert!(world.link_path().exists(), "the socket is the successor's");
}

#[test]
fn who_asks_the_successor_to_end_means_the_old_process_too() {
    let mut world = World::new(74, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let first = session(world.writes());
    upgrade(&world);
    world.wait_until("/writes/members/0", "pg1", SOON);
    let second = session(world.writes());
    // One in between that has no sessions and is gone before the end.
    let third = upgrade(&world);
    let fourth = upgrade(&world);
    wait_for("the end of the third process", SOON, || is_gone(&world, third));
    assert_eq!(world.processes().len(), 3);
    assert!(!world.log().contains("gone without a word"), "{}", world.log());
    send(fourth, Signal::SIGTERM);
    assert_eq!(first.end().as_deref(), Some("57P01"));
    assert_eq!(second.end().as_deref(), Some("57P01"));
    assert_eq!(world.ended().code(), Some(0));
    wait_for("the end of all", SOON, || world.processes().is_empty().then_some(()));
    assert!(!world.link_path().exists());
}

/// A link to the program in the world's directory, so that there can be another program at the same path.
fn start_by_link(world: &mut World) -> PathBuf {
    let path = world.dir().join("pg-proxy");
    symlink(PROGRAM, &path).unwrap();
    world.start_proxy_by(Command::new(&path));
    wait_for("the proxy to serve", SOON, || std::os::unix::net::UnixStream::connect(world.link_path()).ok());
    path
}

fn put(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_successor_that_does_not_come_up_changes_nothing_and_the_reason_is_told() {
    let mut world = World::new(75, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    let path = start_by_link(&mut world);
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let own = world.process();
    let crowd = Crowd::start(world.writes(), 2);
    let mut link = world.link();
    let good = std::fs::read_to_string(world.file()).unwrap();
    let mut tried = 0;
    let mut fails = |world: &World, why: &str| {
        send(own, Signal::SIGUSR2);
        tried += 1;
        wait_for("the failure to be told", SOON, || {
            let log = world.log();
            (log.matches("no successor, this process goes on").count() == tried).then_some(())
        });
        let log = world.log();
        let told = log.rsplit("no successor, this process goes on").next().unwrap().to_owned();
        assert!(told.contains(why), "{why} is missing in {told}");
        assert_eq!(world.process(), own);
    };
    world.write_routing("balance = \"first\"\nmax_connections = 0");
    fails(&world, "routing.max_connections");
    world.write_file(&good);
    put(&path, "#!/bin/sh\nexit 3\n");
    fails(&world, "ended before it served");
    put(&path, "no program at all");
    fails(&world, "start ");
    std::fs::remove_file(&path).unwrap();
    fails(&world, "No such file");
    let (served, failures) = crowd.finish();
    assert!(served > 0);
    assert_eq!(failures, [""; 0]);
    assert_eq!(link.next().unwrap()["serving"], true, "one stream all the time");
    // And then it works.
    symlink(PROGRAM, &path).unwrap();
    upgrade(&world);
    assert_eq!(session(world.writes()).server, "pg1");
}

#[test]
fn what_needs_a_restart_and_what_operators_wanted_come_with_the_successor() {
    use ha_rpc::proto::proxy_client::ProxyClient;
    use ha_rpc::proto::{AdministerRequest, UpstreamAdmin};
    let mut world = World::new(76, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let admin = world.certificate("admin", "admin", world.member("pg3"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |state: UpstreamAdmin| {
        let request = AdministerRequest { member: "pg3".to_owned(), admin: state.into() };
        runtime.block_on(async {
            let channel = ha_rpc::channel::connect("ha1", world.grpc(), &admin).await.unwrap();
            ProxyClient::new(channel).administer(request).await.unwrap();
        });
    };
    ask(UpstreamAdmin::Maintenance);
    world.write_routing("write_port = 6000");
    upgrade(&world);
    let status = world.status();
    assert_eq!(
        (&status["writes"]["port"], &status["upstreams"][2]["admin"]),
        (&6000.into(), &"maintenance".into())
    );
    let mut moved = world.writes();
    moved.set_port(6000);
    assert_eq!(session(moved).server, "pg1");
    // Asked over the socket that was handed over.
    ask(UpstreamAdmin::Ready);
    assert_eq!(world.status()["upstreams"][2]["admin"], "ready");
}

#[test]
fn a_successor_whose_predecessor_is_gone_before_it_serves_ends() {
    let mut world = World::new(77, "");
    world.start_proxy();
    // Nobody leads, so the successor waits a little before it serves.
    world.signal(Signal::SIGUSR2);
    wait_for("a second process", SOON, || (world.log().matches("proxy starts").count() == 2).then_some(()));
    world.signal(Signal::SIGKILL);
    world.ended();
    wait_for("the end of the second process", SOON, || world.processes().is_empty().then_some(()));
    // Nothing holds the ports.
    world.start_proxy();
}

#[test]
fn who_ends_the_old_process_before_there_is_a_successor_ends_both() {
    let mut world = World::new(78, "");
    world.start_proxy();
    world.signal(Signal::SIGUSR2);
    wait_for("a second process", SOON, || (world.log().matches("proxy starts").count() == 2).then_some(()));
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended().code(), Some(0));
    wait_for("the end of the second process", SOON, || world.processes().is_empty().then_some(()));
}
