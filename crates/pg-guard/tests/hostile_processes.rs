//! What runs beside PostgreSQL in its group and resists: the fence ends it all the same, before the deadline. Needs root (and
//! says so). The numbers in brackets are the test cases of the fencing reference.

mod host;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ha_core::guard_link::{Degraded, NoPrimary, RefusalCode, Reply, Request};
use nix::sys::signal::Signal;

use host::{Host, Writer, is_alive, ms, now, signal_process, wait_for};

/// Runs a program of the shell beside PostgreSQL, as an extension or a careless user might.
fn run_inside(host: &Host, script: &str) {
    let line = format!("cat >/dev/null; ({script}) >/dev/null 2>&1 &").replace('\'', "''");
    host.client().query(&format!("COPY (SELECT 1) TO PROGRAM '{line}'")).expect("run a program");
}

/// [W13] A parent that waits in vfork, a traced process that is stopped, an orphan of its own session that ignores signals.
#[test]
fn whatever_state_a_process_is_in_it_ends_with_the_rest() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    // clone(CLONE_VM | CLONE_VFORK | SIGCHLD) is vfork, by a number that each architecture has.
    let (clone, ptrace) = match std::env::consts::ARCH {
        "x86_64" => (56, 101),
        _ => (220, 117),
    };
    run_inside(&host, &format!("perl -e 'syscall({clone}, 0x4111, 0, 0, 0, 0) or sleep 4301'"));
    run_inside(
        &host,
        &format!("perl -e 'if (!fork) {{ syscall({ptrace}, 0, 0, 0, 0); kill STOP => $$ }} sleep 4302'"),
    );
    run_inside(&host, "trap '' TERM INT HUP; setsid setsid sleep 4303");
    let found: Vec<u32> = ["4301", "4302", "4303"]
        .iter()
        .map(|part| wait_for("a process that resists", || host.process_named(part)))
        .collect();
    agent.arm(1, now() + ms(2_500)).unwrap();
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    assert!(found.into_iter().all(|pid| !is_alive(pid)));
    assert!(host.processes().is_empty());
}

/// [W11]
#[test]
fn processes_that_fork_without_end_and_one_of_real_time_delay_no_fence() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    let deadline = now() + ms(4_000);
    agent.arm(1, deadline).unwrap();
    let writer = Writer::begin(client);
    // Bounded in time, should the fence fail.
    run_inside(
        &host,
        "end=$(($(date +%s) + 20)); for i in 1 2 3 4 5 6 7 8 9 10; do \
                       (while [ $(date +%s) -lt $end ]; do :; done) & done; wait",
    );
    run_inside(&host, "head -c 64m /dev/zero | tail -c 1; sleep 20");
    run_inside(&host, "perl -e 'alarm 20; 1 while 4304'");
    let hog = wait_for("the hog", || host.process_named("4304"));
    let raised = Command::new("chrt").args(["-f", "-p", "1", &hog.to_string()]).status();
    assert!(raised.is_ok_and(|status| status.success()), "real-time priority for the hog");
    let fence = agent.notice(|notice| match notice {
        Reply::Fenced(fence) if fence.empty => Some(*fence),
        _ => None,
    });
    let emptied = now();
    let (_, last) = writer.last();
    assert!(last < deadline, "{last} {deadline}");
    assert!(emptied < fence.at + ms(2_000), "{} for {}", emptied, fence.at);
    assert!(host.processes().is_empty());
}

/// The freezer of cgroup v1: what is frozen by it does not even take SIGKILL, like a process that hangs in the kernel.
fn old_freezer() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let line = mounts.lines().find(|line| line.contains(" cgroup ") && line.contains("freezer"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

struct Frozen(PathBuf);

impl Frozen {
    fn hold(freezer: &Path, pid: u32) -> Self {
        let dir = freezer.join(format!("guardtest-{pid}"));
        fs::create_dir_all(&dir).expect("create a group");
        fs::write(dir.join("cgroup.procs"), pid.to_string()).expect("move a process");
        fs::write(dir.join("freezer.state"), "FROZEN").expect("freeze");
        let frozen = Self(dir);
        wait_for("the process to freeze", || {
            let state = fs::read_to_string(frozen.0.join("freezer.state")).expect("the state");
            (state.trim() == "FROZEN").then_some(())
        });
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("freezer.state"), "THAWED"));
        for _ in 0..1_000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(ms(2));
        }
    }
}

/// [W14]
#[test]
fn a_process_that_cannot_die_is_reported_acknowledges_nothing_and_keeps_the_next_start_away() {
    // Kernels without it have no other process that can be held so.
    let Some(freezer) = old_freezer() else { return };
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    client.query("SELECT 4305 AS busy, pg_sleep(0)").unwrap();
    let others = host.processes();
    let mut hung = host.client();
    let backend = wait_for("the backend", || host.processes().into_iter().find(|pid| !others.contains(pid)));
    let deadline = now() + ms(2_500);
    agent.arm(1, deadline).unwrap();
    let frozen = Frozen::hold(&freezer, backend);
    hung.send("INSERT INTO t VALUES (1)").unwrap();
    let status = wait_for("the guard to tell", || {
        Some(agent.status()).filter(|status| status.degraded.contains(Degraded::NOT_EMPTY_AFTER_FENCE))
    });
    assert!(status.populated && status.fence.is_some_and(|fence| !fence.empty));
    let seq = agent.seq();
    let refused = agent.ask(&Request::Start { seq, settings: vec![] });
    assert!(matches!(refused, Reply::Refused { code: RefusalCode::Stopping, .. }), "{refused:?}");
    assert_eq!(agent.acknowledge(1), Err(RefusalCode::Populated));
    drop(frozen);
    // It takes the signal before it runs any code of its own.
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    hung.query("SELECT 1").expect_err("nothing was acknowledged");
    agent.acknowledge(1).unwrap();
    agent.start();
    let rows = host.client().query("SELECT count(*) FROM t").unwrap();
    assert_eq!(rows, ["0"]);
}

/// [W22]
#[test]
fn a_shutdown_that_does_not_end_is_ended_before_the_deadline() {
    let host = Host::new();
    let mut agent = host.agent();
    // The postmaster waits for the archiver, the archiver for its command.
    let (postmaster, start) = agent.start_with(&[("archive_mode", "on"), ("archive_command", "sleep 60")]);
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    client.query("SELECT pg_switch_wal()").unwrap();
    wait_for("the archiver to wait", || host.process_named("sleep"));
    let deadline = now() + ms(3_500);
    agent.arm(1, deadline).unwrap();
    let writer = Writer::begin(client);
    writer.next().expect("commits");
    signal_process(postmaster, Signal::SIGINT);
    assert_eq!(agent.release(1, NoPrimary::Empty), Err(RefusalCode::PrimaryMayRun), "it is not over");
    assert!(agent.status().armed.is_some() && agent.status().start == start);
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    assert!(now() < deadline, "{} {deadline}", now());
    assert!(!is_alive(postmaster));
}
