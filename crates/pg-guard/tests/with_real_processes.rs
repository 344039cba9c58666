//! The guard as built, with a real PostgreSQL. Needs root (and says so). The numbers in brackets are the test cases of the
//! fencing reference.

mod host;

use std::fs;

use ha_core::Epoch;
use ha_core::guard_link::{
    Degraded, ExitOutcome, FenceMethod, Layers, MESSAGE_MAX, NoPrimary, RefusalCode, Reply, Request,
};
use nix::sys::signal::Signal;

use host::{Host, Writer, boot_id, is_alive, ms, now, signal_process, wait_for};

const TABLE: &str = "CREATE TABLE t (number bigint)";

#[test]
fn an_unrenewed_primary_is_dead_before_its_deadline() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    client.query("CHECKPOINT").unwrap();
    let writer = Writer::begin(client);
    let armed = now();
    // Renewals follow each other closely; each deadline is only a little later than the last.
    let mut deadline = armed + ms(9_000);
    for _ in 0..20 {
        deadline = deadline + ms(10);
        agent.renew(1, deadline).unwrap();
        writer.next().expect("commits go on");
    }
    // From another start of counting: a new leadership with a short deadline, and then the agent is gone (W07).
    let deadline = now() + ms(2_500);
    agent.arm(2, deadline).unwrap();
    drop(agent);

    let (last, at) = writer.last();
    let killed = now();
    assert!(at < deadline, "acknowledged {} after the deadline", (at - deadline).as_secs_f64());
    assert!(killed >= deadline.minus(ms(1_000)), "killed too early: {killed} for {deadline}");
    assert!(killed < deadline.minus(ms(500)), "killed too late: {killed} for {deadline}");
    wait_for("the group to be empty", || host.processes().is_empty().then_some(()));
    assert!(!is_alive(postmaster));

    let mut agent = host.agent();
    let status = agent.status();
    let fence = status.fence.expect("a fence to acknowledge");
    assert_eq!((fence.epoch, fence.how, fence.empty), (Epoch(2), FenceMethod::CgroupKill, true));
    assert_eq!((status.fenced_through, status.armed, status.postmaster), (Epoch(2), None, None));
    assert_eq!(fs::read_to_string(host.path("state/fenced")).unwrap().split(' ').nth(1), Some("2"));
    assert_eq!(agent.arm(2, now() + ms(5_000)), Err(RefusalCode::EpochFenced));
    let seq = agent.seq();
    let refused = agent.ask(&Request::Start { seq, settings: vec![] });
    assert!(matches!(refused, Reply::Refused { code: RefusalCode::FenceNotAcknowledged, .. }), "{refused:?}");
    agent.acknowledge(2).unwrap();

    // The crash left a postmaster.pid; give its number to somebody else of the same user.
    let pid_file = host.path("data/postmaster.pid");
    let text = fs::read_to_string(&pid_file).unwrap();
    fs::write(&pid_file, text.replacen(&postmaster.to_string(), &std::process::id().to_string(), 1)).unwrap();
    agent.start();
    let count = host.client().query("SELECT max(number) FROM t").unwrap();
    assert!(count[0].parse::<u64>().unwrap() >= last, "acknowledged {last}, found {count:?}");
}

#[test]
fn a_stopped_or_lost_agent_changes_nothing_before_the_deadline() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    let mut client = host.client();
    drop(agent);
    let mut successor = host.agent();
    for _ in 0..5 {
        client.query("SELECT 1").unwrap();
        let held = successor.status().armed.expect("still armed");
        successor.renew(1, held.deadline + ms(100)).unwrap();
    }
    assert!(!host.processes().is_empty());
}

#[test]
fn a_killed_guard_is_followed_by_one_that_keeps_the_deadline() {
    let mut host = Host::new();
    let mut agent = host.agent();
    let (postmaster, start) = agent.start();
    let deadline = now() + ms(6_000);
    agent.arm(3, deadline).unwrap();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    host.kill_guard();
    client.query("INSERT INTO t VALUES (0)").expect("PostgreSQL runs on without its guard");
    host.start_guard();
    let mut agent = host.agent();
    let status = agent.status();
    assert_eq!((status.postmaster, status.start), (Some(postmaster), start));
    assert_eq!(status.armed.map(|armed| (armed.epoch, armed.deadline)), Some((Epoch(3), deadline)));
    assert_eq!(status.degraded.0 & Degraded::UNPROTECTED.0, 0);
    let writer = Writer::begin(client);
    let (_, at) = writer.last();
    assert!(at < deadline && now() >= deadline.minus(ms(1_000)) && now() < deadline, "{at} {deadline}");
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    agent.emptied();
}

#[test]
fn an_adopted_postmaster_is_seen_to_end_and_a_new_one_starts() {
    let mut host = Host::new();
    let mut agent = host.agent();
    let (postmaster, start) = agent.start();
    host.client();
    host.kill_guard();
    host.start_guard();
    let mut agent = host.agent();
    assert_eq!(agent.status().postmaster, Some(postmaster));
    signal_process(postmaster, Signal::SIGINT);
    let exited = agent.notice(|notice| match notice {
        Reply::Exited { pid, outcome, .. } => Some((*pid, *outcome)),
        _ => None,
    });
    assert_eq!(exited, (postmaster, ExitOutcome::Unknown));
    agent.emptied();
    let (next, number) = agent.start();
    assert!(next != postmaster && number > start);
    host.client();
}

#[test]
fn without_its_state_a_guard_ends_a_primary_soon_and_spares_a_standby() {
    let mut host = Host::new();
    let mut agent = host.agent();
    agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    host.client();
    host.kill_guard();
    fs::remove_file(host.path("run/guard.state")).unwrap();
    fs::write(host.path("data/standby.signal"), "").unwrap();
    host.start_guard();
    let mut agent = host.agent();
    wait_for("the look at the directory", || {
        (!agent.status().degraded.contains(Degraded::UNPROTECTED)).then_some(())
    });
    wait_for("the word about it", || host.guard_log().contains("is a standby").then_some(()));

    host.kill_guard();
    fs::remove_file(host.path("run/guard.state")).unwrap();
    fs::remove_file(host.path("data/standby.signal")).unwrap();
    host.start_guard();
    let mut agent = host.agent();
    let status = agent.status();
    // On a loaded machine the second of grace may be over by now.
    assert!(status.degraded.contains(Degraded::UNPROTECTED) || status.fence.is_some());
    wait_for("the fence", || agent.status().fence.is_some_and(|fence| fence.empty).then_some(()));
    host.wait_empty();
    agent.acknowledge(0).unwrap();
    agent.start();
    agent.arm(2, now() + ms(5_000)).unwrap();
}

/// [W13]
#[test]
fn what_left_its_session_and_its_parent_dies_with_the_rest() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    agent.arm(1, now() + ms(3_000)).unwrap();
    let mut client = host.client();
    let escape = "setsid sh -c 'trap \"\" TERM INT HUP; (setsid sleep 4242 &) ; exit 0' >/dev/null 2>&1";
    client.query(&format!("COPY (SELECT 1) TO PROGRAM '{}'", escape.replace('\'', "''"))).unwrap();
    let escaped = wait_for("the escaped process", || host.process_named("4242"));
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    assert!(!is_alive(escaped));
    assert!(host.processes().is_empty());
}

/// [W12]
#[test]
fn a_backend_that_outlives_its_postmaster_is_killed() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, start) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    let mut client = host.client();
    client.query(TABLE).unwrap();
    client
        .query(
            "CREATE PROCEDURE busy() LANGUAGE plpgsql AS \
             'BEGIN LOOP INSERT INTO t VALUES (1); COMMIT; END LOOP; END'",
        )
        .unwrap();
    let backend = client.query("SELECT pg_backend_pid()").unwrap()[0].parse::<u32>().unwrap();
    client.send("CALL busy()").unwrap();
    let mut observer = host.client();
    wait_for("the loop to commit", || {
        (observer.query("SELECT count(*) FROM t").unwrap()[0] != "0").then_some(())
    });
    signal_process(postmaster, Signal::SIGKILL);
    let exited = agent.notice(|notice| match notice {
        Reply::Exited { pid, start, outcome } => Some((*pid, *start, *outcome)),
        _ => None,
    });
    assert_eq!(exited, (postmaster, start, ExitOutcome::Signal(9)));
    agent.emptied();
    assert!(!is_alive(backend));
    assert!(agent.status().armed.is_some(), "an end is no release");
    agent.start();
    host.client();
}

#[test]
fn release_is_refused_while_a_primary_may_run() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, start) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    assert_eq!(agent.release(1, NoPrimary::Empty), Err(RefusalCode::PrimaryMayRun));
    assert_eq!(agent.release(1, NoPrimary::Standby { start: start + 1 }), Err(RefusalCode::PrimaryMayRun));
    assert!(agent.status().armed.is_some());
    host.client();
    signal_process(postmaster, Signal::SIGINT);
    agent.emptied();
    agent.release(1, NoPrimary::Empty).unwrap();
    assert_eq!(agent.status().armed, None);
}

/// [W25]
#[test]
fn a_hold_keeps_the_fence_back_and_ends_by_itself() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    let deadline = now() + ms(1_300);
    agent.arm(1, deadline).unwrap();
    agent.hold(1, ms(2_000)).unwrap();
    let until = agent.status().hold_until.expect("held");
    wait_for("the deadline to pass", || {
        client.query("SELECT 1").expect("held, so alive");
        (now() > deadline).then_some(())
    });
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    assert!(now() >= until && now() < until + ms(500));
}

/// [W15]
#[test]
fn forged_and_garbled_messages_have_no_effect() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let deadline = now() + ms(9_000);
    agent.arm(5, deadline).unwrap();
    let seq = agent.seq();
    let mut forged = Request::Renew { seq, epoch: Epoch(5), deadline: deadline + ms(500) }.encode();
    forged[12] ^= 1;
    agent.send_bytes(&forged);
    agent.send_bytes(b"hello");
    agent.send_bytes(&[0; MESSAGE_MAX + 1]);
    for byte in 0..=255 {
        agent.send_bytes(&[1, byte, 0, 0]);
    }
    assert_eq!(agent.renew(4, deadline + ms(500)), Err(RefusalCode::OtherEpoch));
    assert_eq!(agent.renew(5, deadline), Err(RefusalCode::DeadlineNotLater));
    assert_eq!(agent.renew(5, now() + ms(60_000)), Err(RefusalCode::DeadlineTooFar));
    assert_eq!(agent.arm(6, now()), Err(RefusalCode::DeadlinePast));
    assert_eq!(agent.arm(4, now() + ms(5_000)), Err(RefusalCode::EpochTooLow));
    let replayed = Request::Renew { seq: 1, epoch: Epoch(5), deadline: deadline + ms(500) };
    assert!(matches!(agent.ask(&replayed), Reply::Refused { code: RefusalCode::StaleSequence, .. }));
    let status = agent.status();
    assert_eq!(status.armed.map(|armed| armed.deadline), Some(deadline));
    assert_eq!(status.rejected_messages, 259);
    assert!(status.layers.contains(Layers::CGROUP_KILL));

    // The socket is for root and the PostgreSQL user only.
    let mode = fs::metadata(host.path("run/guard.sock")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o660);
}

#[test]
fn a_stopped_guard_stops_postgresql_cleanly() {
    let mut host = Host::new();
    let mut agent = host.agent();
    agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    let mut client = host.client();
    client.query("BEGIN").unwrap();
    host.signal_guard(Signal::SIGTERM);
    let code = wait_for("the guard to end", || host.guard_exit());
    assert_eq!(code, 0);
    assert!(host.processes().is_empty());
    assert!(host.control_data().contains("shut down\n"), "{}", host.control_data());
    assert!(!host.path("run/guard.sock").exists());
}

#[test]
fn a_start_that_fails_says_why() {
    let host = Host::new();
    let mut agent = host.agent();
    fs::rename(host.path("data"), host.path("elsewhere")).unwrap();
    let seq = agent.seq();
    match agent.ask(&Request::Start { seq, settings: vec![] }) {
        Reply::StartFailed { text, .. } => assert!(text.contains("data directory"), "{text}"),
        other => panic!("started without a directory: {other:?}"),
    }
    agent.emptied();
    fs::rename(host.path("elsewhere"), host.path("data")).unwrap();
    agent.start();
    let seq = agent.seq();
    let again = agent.ask(&Request::Start { seq, settings: vec![] });
    assert!(matches!(again, Reply::Refused { code: RefusalCode::Populated, .. }), "{again:?}");
    let seq = agent.seq();
    assert!(matches!(agent.ask(&Request::KillAll { seq, reason: "test".into() }), Reply::Ack { .. }));
    agent.emptied();
    assert_eq!(agent.status().fence, None, "asked for, so no fence");
}

#[test]
fn the_guard_is_small_idle_and_alone() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    host.client();
    let status = agent.status();
    assert_eq!(status.boot_id, boot_id());
    // A debug build; the shipped one is held to 4 MB.
    assert!(status.resident_bytes < 8_000_000, "{} bytes", status.resident_bytes);
    let switches = || {
        let text = fs::read_to_string(format!("/proc/{}/status", host.guard_pid())).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    let before = switches().unwrap();
    wait_for("half a second to pass", || (now() > status.now + ms(500)).then_some(()));
    assert!(switches().unwrap() - before < 5, "it wakes although nothing happens");
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_pg-guard"))
        .arg("--config")
        .arg(host.path("cluster.toml"))
        .args(["--node", "pg1", "--state-dir"])
        .arg(host.path("state"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another pg-guard"));
}

#[test]
fn a_bad_file_is_refused_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    fs::write(&file, "nmae = \"x\"\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pg-guard"))
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nmae"));
}
