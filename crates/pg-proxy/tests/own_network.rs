//! What a real pg-proxy does when the network itself fails it. Each test runs once more in a network namespace of its own,
//! where ports can be taken away and packets be lost without an effect on anybody else.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends by a panic and says what it measured"
)]

mod fakes;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use fakes::agent::{leader, standby};
use fakes::client::{Knocking, Login, Session, knock_from, session};
use fakes::wait_for;
use fakes::world::{SOON, World};

/// Set in the namespace.
const INSIDE: &str = "TEST_HAS_ITS_OWN_NETWORK";

/// Runs this test again in a network of its own, which `prepare` (for a shell) has made ready. False when this is it.
#[must_use]
fn runs_in_its_own_network(test: &str, prepare: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let script = format!("ip link set lo up && {prepare} && exec \"$0\" --exact --nocapture \"$1\"");
    let output = Command::new("unshare")
        .args(["--net", "--map-root-user", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}\n{}", said[0], said[1]);
    true
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A client that needs none of the few ports for itself.
fn client(number: u8, address: SocketAddr) -> Knocking {
    knock_from(SocketAddr::new(IpAddr::from([127, 0, 1, number]), 50_000), address).unwrap()
}

fn let_in(knocking: Knocking) -> Session {
    match knocking.wait().unwrap() {
        Login::In(session) => session,
        refused => panic!("{refused:?}"),
    }
}

#[test]
fn without_a_free_port_sessions_wait_and_no_server_is_blamed() {
    // Four connections with each server, no more; ports of closed ones are free again at once.
    let few = "echo '40000 40003' >/proc/sys/net/ipv4/ip_local_port_range && \
               echo 1 >/proc/sys/net/ipv4/tcp_tw_reuse";
    if runs_in_its_own_network("without_a_free_port_sessions_wait_and_no_server_is_blamed", few) {
        return;
    }
    let mut world = World::new(96, "hold_timeout = \"60s\"");
    let servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let mut sessions: Vec<Session> = (1..=4).map(|number| let_in(client(number, world.writes()))).collect();
    let waiting = client(5, world.writes());
    world.wait_until("/waiting", 1, SOON);
    assert!(sessions.iter_mut().all(Session::is_alive));
    let status = world.status();
    assert_eq!(
        (&status["writes"]["state"], &status["upstreams"][0]["connect_failures"]),
        (&"open".into(), &0.into())
    );
    // A place that is free again is one for whoever waits.
    drop(sessions.remove(0));
    assert!(let_in(waiting).is_alive());

    world.write_routing("hold_timeout = \"300ms\"");
    world.signal(nix::sys::signal::Signal::SIGHUP);
    world.wait_until("/file/reloads_total", 1, SOON);
    // The first of these may get the port of the one before.
    let mut later = (6..).map(|number| client(number, world.writes()).wait().unwrap());
    let refused = wait_for("a refusal", SOON, || match later.next().unwrap() {
        Login::Refused { sqlstate, message } => Some((sqlstate, message)),
        Login::In(session) => {
            sessions.push(session);
            None
        }
    });
    assert_eq!(refused.0, "57P03");
    assert!(refused.1.contains("the proxy cannot connect"), "{}", refused.1);
    assert_eq!(world.status()["upstreams"][0]["connect_failures"], 0);
    drop(servers);
}

#[test]
fn a_server_that_vanishes_without_a_word_is_given_up_by_an_idle_session() {
    if runs_in_its_own_network("a_server_that_vanishes_without_a_word_is_given_up_by_an_idle_session", "true")
    {
        return;
    }
    let mut world = World::new(97, "");
    let _servers = world.servers();
    let agents = [world.agent("pg1"), world.agent("pg2")];
    world.start_proxy();
    agents[0].claim(leader(1));
    agents[1].claim(standby(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    world.wait_until("/reads/members/0", "pg2", SOON);
    let (lost, mut other) = (session(world.reads()), session(world.writes()));

    // Its agent is heard as before: nothing but silence on the connection itself says that it is gone.
    run("nft", &["add", "table", "inet", "lost"]);
    run("nft", &["add", "chain", "inet", "lost", "in", "{ type filter hook input priority 0; }"]);
    let (server, postgres) = (world.member("pg2").to_string(), fakes::POSTGRES_PORT.to_string());
    for (direction, port) in [("saddr", "sport"), ("daddr", "dport")] {
        run(
            "nft",
            &["add", "rule", "inet", "lost", "in", "ip", direction, &server, "tcp", port, &postgres, "drop"],
        );
    }
    let took = world.wait_until("/sessions", 1, Duration::from_secs(40));
    eprintln!("it was given up after {took:?}");
    assert_eq!(world.status()["upstreams"][1]["sessions"], 0);
    // Its client hears of it, and nobody else is concerned.
    lost.end();
    assert!(other.is_alive());
}
