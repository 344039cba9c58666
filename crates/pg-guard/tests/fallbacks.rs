//! Hosts without `cgroup.kill`, without cgroup v2, without any control group: PostgreSQL is ended all the same, and the guard
//! says in which way it is weaker. Needs root (and says so).

mod host;

use ha_core::guard_link::{Degraded, FenceMethod, Layers, RefusalCode, Reply};
use nix::sys::signal::Signal;

use host::{Host, Writer, is_alive, ms, now, signal_process, wait_for};

/// Leaves its session, its parent and ignores what can be ignored.
const ESCAPE: &str = "COPY (SELECT 1) TO PROGRAM 'setsid sh -c ''trap \"\" TERM INT HUP; (setsid sleep 4242 &) ; exit 0'' >/dev/null 2>&1'";

/// A primary with an escaped process and a busy writer, whose lease is not renewed.
fn ends_everything(host: &mut Host, how: FenceMethod) {
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").expect("a table");
    client.query(ESCAPE).expect("an escape");
    let escaped = wait_for("the escaped process", || host.process_named("4242"));
    let deadline = now() + ms(4_000);
    agent.arm(1, deadline).expect("armed");
    let status = agent.status();
    assert!(status.degraded.contains(Degraded::NO_CGROUP_KILL));
    assert!(!status.layers.contains(Layers::CGROUP_KILL) && status.layers.contains(Layers::PROCESS));
    let writer = Writer::begin(client);
    let fence = agent.notice(|notice| match notice {
        Reply::Fenced(fence) if fence.empty => Some(*fence),
        _ => None,
    });
    assert_eq!(fence.how, how);
    let (_, last) = writer.last();
    assert!(last < deadline, "{last} {deadline}");
    for pid in [postmaster, escaped] {
        assert!(!is_alive(pid), "{pid}");
    }
    assert!(host.processes().is_empty());
    agent.acknowledge(1).expect("acknowledged");
    // A guard that follows another one finds what runs, and its end.
    let (postmaster, _) = agent.start();
    host.client();
    host.kill_guard();
    host.start_guard();
    let mut agent = host.agent();
    assert_eq!(agent.status().postmaster, Some(postmaster));
    signal_process(postmaster, Signal::SIGINT);
    agent.emptied();
    agent.start();
    host.client();
}

#[test]
fn with_the_freezer_of_cgroup_v1_everything_ends() {
    ends_everything(&mut Host::with_arguments("", &["--kill-by", "freezer"]), FenceMethod::Freezer);
}

#[test]
fn with_the_freezer_and_without_a_fuse_everything_ends() {
    let mut host = Host::with_arguments("fuse = \"off\"", &["--kill-by", "freezer"]);
    ends_everything(&mut host, FenceMethod::Freezer);
}

#[test]
fn without_any_control_group_everything_ends() {
    ends_everything(&mut Host::with("group_kill = \"off\""), FenceMethod::ProcessWalk);
}

#[test]
fn without_control_group_and_fuse_everything_ends() {
    ends_everything(&mut Host::with("group_kill = \"off\"\nfuse = \"off\""), FenceMethod::ProcessWalk);
}

#[test]
fn where_the_group_kill_is_required_nobody_leads_without_it() {
    let host = Host::with_arguments("group_kill = \"required\"", &["--kill-by", "freezer"]);
    let mut agent = host.agent();
    agent.start();
    assert_eq!(agent.arm(1, now() + ms(9_000)), Err(RefusalCode::LayerMissing));
    assert_eq!(agent.status().armed, None);
    host.client().query("SELECT 1").unwrap();
}
