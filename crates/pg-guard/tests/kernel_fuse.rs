//! The kernel fuse with a real PostgreSQL: what it ends, how fast, and what it must never end. Needs root (and says so).
//! The numbers in brackets are the test cases of the fencing reference.

mod host;

use std::fs;
use std::time::Duration;

use ha_core::guard_link::{Degraded, ExitOutcome, Layers, NoPrimary, RefusalCode, Reply};
use nix::sys::signal::Signal;

use host::{Host, Writer, fuse_of, is_alive, ms, now, parent, signal_process, wait_for};

const TABLE: &str = "CREATE TABLE t (number bigint)";

/// From a signal to the fuse until nothing of PostgreSQL is left.
fn time_to_die(host: &Host, fuse: u32) -> Duration {
    let begun = now();
    signal_process(fuse, Signal::SIGKILL);
    while !host.processes().is_empty() {
        std::hint::spin_loop();
        assert!(now() < begun + ms(5_000), "PostgreSQL outlives its fuse");
    }
    now() - begun
}

/// [W09] with the guard alive or dead: what the kernel does needs neither.
#[test]
fn a_killed_fuse_takes_an_armed_primary_with_it_within_50_ms() {
    let mut best = Duration::MAX;
    for round in 1..=5 {
        let mut host = Host::new();
        let mut agent = host.agent();
        let (postmaster, _) = agent.start();
        agent.arm(1, now() + ms(9_000)).unwrap();
        assert!(agent.status().layers.contains(Layers::KERNEL_FUSE));
        let mut client = host.client();
        client.query(TABLE).unwrap();
        let writer = Writer::begin(client);
        writer.next().expect("commits");
        let fuse = fuse_of(postmaster);
        if round % 2 == 0 {
            host.kill_guard();
        }
        best = best.min(time_to_die(&host, fuse));
    }
    assert!(best <= ms(50), "{best:?} at best");
}

/// [W10]
#[test]
fn a_stopped_guard_changes_nothing_for_a_leader_without_renewals() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    let deadline = now() + ms(3_000);
    agent.arm(1, deadline).unwrap();
    let writer = Writer::begin(client);
    host.signal_guard(Signal::SIGSTOP);
    let (_, last) = writer.last();
    let ended = now();
    assert!(last < deadline, "acknowledged {} s after the deadline", (last - deadline).as_secs_f64());
    assert!(
        ended >= deadline.minus(ms(300)),
        "the guard is stopped: the kernel does it, later than the guard would"
    );
    host.wait_empty();
    host.signal_guard(Signal::SIGCONT);
    let status =
        wait_for("the fence", || Some(host.agent().status()).filter(|status| status.fence.is_some()));
    assert!(status.armed.is_none() && !status.populated);
}

/// Agent and guard killed, nobody comes back.
#[test]
fn with_agent_and_guard_dead_the_kernel_keeps_the_deadline() {
    let mut host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    let deadline = now() + ms(2_500);
    agent.arm(1, deadline).unwrap();
    let writer = Writer::begin(client);
    drop(agent);
    host.kill_guard();
    let (_, last) = writer.last();
    assert!(last < deadline && now() >= deadline.minus(ms(300)), "{last} {deadline}");
    host.wait_empty();
}

#[test]
fn a_stopped_fuse_only_makes_the_end_come_earlier() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    let deadline = now() + ms(2_000);
    agent.arm(1, deadline).unwrap();
    signal_process(fuse_of(postmaster), Signal::SIGSTOP);
    let later = now() + ms(8_000);
    agent.renew(1, later).unwrap();
    let writer = Writer::begin(client);
    let (_, last) = writer.last();
    assert!(last < deadline, "{last} {deadline}");
    host.wait_empty();
    assert!(now() < later.minus(ms(2_000)));
}

/// [W24]
#[test]
fn a_standby_outlives_fuse_and_guard() {
    let mut host = Host::with("fuse = \"required\"");
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    let fuse = fuse_of(postmaster);
    // It depends on the fuse until it runs; then the guard lets go.
    let held = wait_for("the connection", || {
        let mut client = host.client();
        client.query("SELECT 1").ok()
    });
    assert_eq!(held, ["1"]);
    agent.status();
    signal_process(fuse, Signal::SIGKILL);
    let status = wait_for("the guard to notice", || {
        Some(agent.status()).filter(|status| status.degraded.contains(Degraded::NO_KERNEL_FUSE))
    });
    assert_eq!(status.postmaster, Some(postmaster));
    host.client().query("SELECT 1").unwrap();
    // It can stay a standby; a leader it cannot become before PostgreSQL has been started again.
    assert_eq!(agent.arm(1, now() + ms(9_000)), Err(RefusalCode::LayerMissing));
    host.kill_guard();
    host.client().query("SELECT 1").unwrap();
    host.start_guard();
    let mut agent = host.agent();
    assert_eq!(agent.status().postmaster, Some(postmaster));
    signal_process(postmaster, Signal::SIGINT);
    agent.emptied();
    agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    assert!(agent.status().layers.contains(Layers::KERNEL_FUSE));
    assert!(!agent.status().degraded.contains(Degraded::NO_KERNEL_FUSE));
}

/// [W21]
#[test]
fn a_released_leader_does_not_depend_on_the_fuse_any_more() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, start) = agent.start();
    let mut client = host.client();
    let deadline = now() + ms(2_000);
    agent.arm(1, deadline).unwrap();
    agent.release(1, NoPrimary::Standby { start }).unwrap();
    wait_for("the deadline to pass", || {
        client.query("SELECT 1").expect("released, so alive");
        (now() > deadline + ms(200)).then_some(())
    });
    signal_process(fuse_of(postmaster), Signal::SIGKILL);
    wait_for("the guard to notice", || {
        agent.status().degraded.contains(Degraded::NO_KERNEL_FUSE).then_some(())
    });
    client.query("SELECT 1").unwrap();
}

#[test]
fn a_successor_takes_the_fuse_over_and_moves_its_deadline() {
    let mut host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    let mut client = host.client();
    let deadline = now() + ms(2_500);
    agent.arm(1, deadline).unwrap();
    host.kill_guard();
    host.start_guard();
    let mut agent = host.agent();
    let later = now() + ms(9_000);
    agent.renew(1, later).unwrap();
    wait_for("the old deadline to pass", || {
        client.query("SELECT 1").expect("renewed, so alive");
        (now() > deadline + ms(200)).then_some(())
    });
    let status = agent.status();
    assert!(status.layers.contains(Layers::KERNEL_FUSE), "{:?}", status.layers);
    let fuse = fuse_of(postmaster);
    time_to_die(&host, fuse);
    agent.emptied();
}

#[test]
fn the_postmaster_has_one_number_and_the_others_show_both_of_theirs() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    let mut client = host.client();
    let file = fs::read_to_string(host.path("data/postmaster.pid")).unwrap();
    assert_eq!(file.lines().next(), Some(postmaster.to_string().as_str()));
    let inside: u32 = client.query("SELECT pg_backend_pid()").unwrap()[0].parse().unwrap();
    let numbers = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        line.split_whitespace().filter_map(|number| number.parse::<u32>().ok()).collect::<Vec<_>>()
    };
    let backend = host.processes().into_iter().find(|pid| numbers(pid).last() == Some(&inside));
    let backend = backend.expect("a process of the group has that number inside");
    assert!(backend != inside && parent(backend) == postmaster, "{backend} {inside}");
    let max: u32 = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().parse().unwrap();
    assert!(inside >= max / 2, "{inside} is where a host has processes of its own");
    // And inside it is the one by which PostgreSQL ends it.
    let mut other = host.client();
    other.query(&format!("SELECT pg_terminate_backend({inside})")).unwrap();
    wait_for("the backend to end", || (!is_alive(backend)).then_some(()));
}

#[test]
fn the_end_of_a_postmaster_is_told_as_it_was() {
    let host = Host::new();
    let mut agent = host.agent();
    for (signal, expected) in
        [(Signal::SIGINT, ExitOutcome::Code(0)), (Signal::SIGKILL, ExitOutcome::Signal(9))]
    {
        let (postmaster, _) = agent.start();
        host.client();
        signal_process(postmaster, signal);
        let outcome = agent.notice(|notice| match notice {
            Reply::Exited { outcome, .. } => Some(*outcome),
            _ => None,
        });
        assert_eq!(outcome, expected);
        agent.emptied();
    }
}

#[test]
fn switched_off_there_is_no_fuse_and_nobody_misses_it() {
    let host = Host::with("fuse = \"off\"");
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    let status = agent.status();
    assert!(!status.layers.contains(Layers::KERNEL_FUSE));
    assert!(!status.degraded.contains(Degraded::NO_KERNEL_FUSE));
    assert_eq!(parent(postmaster), host.guard_pid());
}
