//! The cluster file changes while a real pg-proxy runs by it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends by a panic and says what it measured"
)]

mod fakes;

use std::time::Duration;

use nix::sys::signal::Signal;

use fakes::agent::leader;
use fakes::client::{Login, knock, login, session};
use fakes::crowd::Crowd;
use fakes::wait_for;
use fakes::world::{SOON, World};

#[test]
fn a_hundred_reloads_under_constant_connecting_fail_nobody() {
    const RELOADS: u64 = 100;
    let mut world = World::new(61, "");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let mut long = session(world.writes());
    let crowd = Crowd::start(world.writes(), 4);
    for reload in 1..=RELOADS {
        let routing = format!(
            "hold_timeout = \"{}s\"\nmax_connections = {}\nbalance = \"{}\"\nlog_sessions = {}\n",
            1 + reload % 20,
            100 + reload,
            if reload % 2 == 0 { "round-robin" } else { "least-connections" },
            reload % 2 == 0
        );
        world.write_routing(&routing);
        world.signal(Signal::SIGHUP);
        world.wait_until("/file/reloads_total", reload, SOON);
    }
    assert_eq!(world.status()["session_limit"], 200);
    crowd.wait_for_more(10);
    let (served, failures) = crowd.finish();
    eprintln!("{served} clients were served during {RELOADS} reloads");
    assert_eq!(failures, [""; 0], "of {served}");
    assert!(long.is_alive());
}

#[test]
fn limits_and_times_change_for_new_sessions_and_for_those_that_wait() {
    let mut world = World::new(62, "max_connections = 1\nhold_timeout = \"600s\"");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    // Nobody leads: the client would wait for ten minutes.
    let waiting = knock(world.writes()).unwrap();
    world.wait_until("/waiting", 1, SOON);
    world.write_routing("max_connections = 1\nhold_timeout = \"100ms\"");
    world.signal(Signal::SIGHUP);
    let Login::Refused { sqlstate, .. } = waiting.wait().unwrap() else { panic!("let in") };
    assert_eq!(sqlstate, "57P03");

    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let mut first = session(world.writes());
    let Login::Refused { sqlstate, message } = login(world.writes()).unwrap() else { panic!("let in") };
    assert_eq!(sqlstate, "53300", "{message}");
    world.write_routing("max_connections = 3\nupstream_connections = 2");
    world.signal(Signal::SIGHUP);
    world.wait_until("/file/reloads_total", 2, SOON);
    let mut second = session(world.writes());
    // The third one waits for a place at the server, until there is another one.
    let third = knock(world.writes()).unwrap();
    world.wait_until("/waiting", 1, SOON);
    world.write_routing("max_connections = 3\nupstream_connections = 3");
    world.signal(Signal::SIGHUP);
    let Login::In(mut third) = third.wait().unwrap() else { panic!("refused") };
    // Fewer places end nobody.
    world.write_routing("max_connections = 1\nupstream_connections = 1");
    world.signal(Signal::SIGHUP);
    world.wait_until("/session_limit", 1, SOON);
    assert!(first.is_alive() && second.is_alive() && third.is_alive());
    assert_eq!(world.status()["upstreams"][0]["session_limit"], 1);
}

#[test]
fn a_bad_file_is_refused_with_every_problem_and_the_old_values_stay() {
    let mut world = World::new(63, "max_connections = 7");
    world.start_proxy();
    let digest = world.status()["file_digest"].clone();
    world.write_routing("max_connections = 0\nbalance = \"first\"\nunheard_of = 1");
    world.signal(Signal::SIGHUP);
    world.wait_until("/file/refused_total", 1, SOON);
    let status = world.status();
    let why = status["file"]["refused"].as_str().unwrap();
    for key in ["routing.max_connections", "routing.balance", "routing.unheard_of"] {
        assert!(why.contains(key) && world.log().contains(key), "{key} is missing in {why}");
    }
    assert_eq!((&status["session_limit"], &status["file_digest"]), (&7.into(), &digest));
    let metrics = world.get("/metrics").2;
    assert!(
        metrics.contains("matriarch_proxy_config_refused{cluster=\"demo\",proxy=\"ha1\"} 1"),
        "{metrics}"
    );

    // A whole file without this host is as bad.
    let text = std::fs::read_to_string(world.file()).unwrap().replace("\"ha1\"", "\"ha9\"");
    world.write_file(&text);
    world.write_routing("max_connections = 8");
    world.signal(Signal::SIGHUP);
    world.wait_until("/file/refused_total", 2, SOON);
    world.write_file(&text.replace("\"ha9\"", "\"ha1\""));
    world.write_routing("max_connections = 9");
    world.signal(Signal::SIGHUP);
    world.wait_until("/session_limit", 9, SOON);
    assert_eq!(world.status()["file"]["refused"], serde_json::Value::Null);
}

#[test]
fn a_changed_file_is_noticed_and_what_needs_a_restart_is_named() {
    let mut world = World::new(64, "");
    world.start_proxy();
    let before = std::fs::read_to_string(world.file()).unwrap();
    // Nobody sends a signal.
    world.write_routing("write_port = 6000\nqueue_timeout = \"3s\"");
    world.wait_until("/file/reloads_total", 1, Duration::from_secs(20));
    let status = world.status();
    assert_eq!(status["file"]["needs_restart"], serde_json::json!(["routing.write_port: 5000 -> 6000"]));
    assert_eq!(status["writes"]["port"], 5000);
    let log = world.log();
    for line in
        ["needs a restart: routing.write_port: 5000 -> 6000", "changed: routing.queue_timeout: 10s -> 3s"]
    {
        assert!(log.contains(line), "{line} is missing in {log}");
    }
    knock(world.writes()).unwrap();
    // The file says the same again.
    world.write_file(&before);
    world.wait_until("/file/reloads_total", 2, Duration::from_secs(20));
    assert_eq!(world.status()["file"]["needs_restart"], serde_json::json!([]));
    // A signal without a change changes nothing.
    world.signal(Signal::SIGHUP);
    wait_for("the word that nothing changed", SOON, || {
        world.log().contains("nothing has changed").then_some(())
    });
    assert_eq!(world.status()["file"]["reloads_total"], 2);
}

#[test]
fn how_long_the_last_knowledge_counts_changes_at_once_and_who_is_refused_then_is_told_why() {
    let mut world = World::new(65, "hold_timeout = \"300ms\"\nstale_limit = \"600s\"");
    let _servers = world.servers();
    let agent = world.agent("pg1");
    world.start_proxy();
    agent.claim(leader(1));
    world.wait_until("/writes/members/0", "pg1", SOON);
    let mut writer = session(world.writes());
    drop(agent);
    wait_for("the loss to be seen", SOON, || world.log().contains("the claims of pg1 ended").then_some(()));
    assert_eq!(session(world.writes()).server, "pg1");

    world.write_routing("hold_timeout = \"300ms\"\nstale_limit = \"1500ms\"");
    world.signal(Signal::SIGHUP);
    world.wait_until("/writes/state", "refusing", SOON);
    let Login::Refused { sqlstate, message } = login(world.writes()).unwrap() else { panic!("let in") };
    assert_eq!(sqlstate, "57P03");
    assert!(message.contains("pg1") && message.contains("1.5 s"), "{message}");
    assert!(writer.is_alive(), "running sessions are not ours to judge");

    world.write_routing("hold_timeout = \"300ms\"\nstale_limit = \"600s\"");
    world.signal(Signal::SIGHUP);
    world.wait_until("/writes/state", "open", SOON);
    assert_eq!(session(world.writes()).server, "pg1");
}
