//! The agent is killed, stopped or frozen at any moment between two renewals, or sends too late: PostgreSQL acknowledges
//! nothing after the deadline, and is not ended earlier than it must. Needs root (and says so). The numbers in brackets are
//! the test cases of the fencing reference.

mod host;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ha_core::guard_link::{Fence, RefusalCode, Reply, Request};
use ha_core::{Epoch, MonoTime};
use nix::sys::signal::Signal;

use host::{Agent, Host, Writer, ms, now, signal_process, wait_for};

/// How long before the deadline the guard kills, on these hosts.
const KILL_LEAD: Duration = Duration::from_millis(400);
/// From the evidence to the deadline.
const LEASE: Duration = Duration::from_millis(1_000);
const RENEW_EVERY: Duration = Duration::from_millis(100);
/// Moments that are tried, unless the environment says `MOMENTS` (`make moments`).
const MOMENTS: u64 = 12;

/// The agent of the other tests, in a process of its own: renews until something ends or stops it.
#[test]
#[ignore = "run by the other tests, as a process that can be stopped"]
fn an_agent_that_renews() {
    let socket = std::env::var_os("GUARD_SOCKET").expect("told by the test");
    let epoch: u64 = std::env::var("GUARD_EPOCH").unwrap().parse().unwrap();
    let mut agent = Agent::connect(Path::new(&socket));
    agent.arm(epoch, now() + LEASE).unwrap();
    loop {
        std::thread::sleep(RENEW_EVERY);
        // The instant before the store would be asked; a renewal that is refused comes too late.
        let deadline = now() + LEASE;
        if agent.renew(epoch, deadline).is_err() {
            return;
        }
    }
}

fn begin_agent(host: &Host, epoch: u64) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "an_agent_that_renews", "--ignored"])
        .env("GUARD_SOCKET", host.path("run/guard.sock"))
        .env("GUARD_EPOCH", epoch.to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("start an agent")
}

/// What happens to an agent.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Killed,
    Stopped,
    Frozen,
}

/// A group of cgroup v2 beside PostgreSQL's, in which an agent can be frozen.
struct Freezer(PathBuf);

impl Freezer {
    fn beside(group: &Path) -> Self {
        let dir = group.with_extension("agent");
        fs::create_dir_all(&dir).expect("create a group");
        Self(dir)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).expect("write to the group");
    }

    /// Whether a process has ended, is stopped, or is frozen in here: whatever it was at, it does no more.
    fn stands_still(&self, pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        matches!(state, None | Some('T' | 'Z')) || events.lines().any(|line| line == "frozen 1")
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.write("cgroup.freeze", "0");
        drop(fs::remove_dir(&self.0));
    }
}

/// Loses the agent at one moment after another; the fence, and the last acknowledgement.
fn lose(loss: Loss, seed: u64) {
    let mut host = Host::with("kill_lead = \"400ms\"");
    let freezer = Freezer::beside(host.group());
    let mut phase = seed;
    let moments = std::env::var("MOMENTS").map_or(MOMENTS, |text| text.parse().expect("a number of moments"));
    for epoch in 1..=moments {
        let mut observer = host.agent();
        observer.start();
        let mut client = host.client();
        client.query("CREATE TABLE IF NOT EXISTS t (number bigint)").expect("a table");
        let mut victim = begin_agent(&host, epoch);
        wait_for("the agent to arm", || observer.status().armed);
        let writer = Writer::begin(client);
        writer.next().expect("commits");
        // A linear congruential generator: any moment of three renewals.
        phase = phase.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = now() + Duration::from_micros((phase >> 33) % 300_000);
        wait_for("the moment", || (now() >= at).then_some(()));
        match loss {
            Loss::Killed => victim.kill().expect("kill the agent"),
            Loss::Stopped => signal_process(victim.id(), Signal::SIGSTOP),
            Loss::Frozen => {
                freezer.write("cgroup.procs", &victim.id().to_string());
                freezer.write("cgroup.freeze", "1");
            }
        }
        wait_for("the agent to stand still", || freezer.stands_still(victim.id()).then_some(()));
        // A renewal may have been on its way then: the guard answers in turns, so the second answer comes after it.
        observer.status();
        let deadline = observer.status().armed.expect("still armed").deadline;
        let last = last_acknowledgement(writer);
        let fence = wait_for("the fence", || observer.status().fence.filter(|fence| fence.empty));
        check(&fence, epoch, deadline, last);
        freezer.write("cgroup.freeze", "0");
        drop(victim.kill());
        victim.wait().expect("reap the agent");
        observer.acknowledge(epoch).expect("acknowledged");
        host.wait_empty();
    }
    host.kill_guard();
}

/// When the last commit was acknowledged, if any was after those that were looked at.
fn last_acknowledgement(writer: Writer) -> Option<MonoTime> {
    let mut last = None;
    while let Some((_, at)) = writer.next() {
        last = Some(at);
    }
    last
}

fn check(fence: &Fence, epoch: u64, deadline: MonoTime, last: Option<MonoTime>) {
    assert_eq!(fence.epoch, Epoch(epoch));
    assert!(fence.at >= deadline.minus(KILL_LEAD), "ended too early: {} for {deadline}", fence.at);
    if let Some(at) = last {
        assert!(at < deadline, "acknowledged {} s after the deadline", (at - deadline).as_secs_f64());
    }
}

/// [W07]
#[test]
fn an_agent_killed_at_any_moment_leaves_no_acknowledgement_after_the_deadline() {
    lose(Loss::Killed, 1);
}

/// [W08]
#[test]
fn an_agent_stopped_at_any_moment_leaves_no_acknowledgement_after_the_deadline() {
    lose(Loss::Stopped, 2);
}

/// [W08]
#[test]
fn an_agent_frozen_at_any_moment_leaves_no_acknowledgement_after_the_deadline() {
    lose(Loss::Frozen, 3);
}

/// [W16] The agent stood still between the answer of the store and the message to its guard.
#[test]
fn a_renewal_delayed_on_its_way_moves_nothing() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    let deadline = now() + ms(3_000);
    agent.arm(1, deadline).unwrap();
    // What it has computed before it stood still; of this long lease, most is over when it is sent.
    let computed = deadline + ms(500);
    let writer = Writer::begin(client);
    let sent = deadline.minus(ms(1_200));
    wait_for("the delay to pass", || (now() >= sent).then_some(()));
    agent.renew(1, computed).unwrap();
    let last = last_acknowledgement(writer);
    assert!(last.is_some_and(|at| at < computed), "{last:?} {computed}");
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    assert_eq!(agent.renew(1, now() + ms(9_000)), Err(RefusalCode::EpochFenced), "and then it is too late");
}

/// [W15]
#[test]
fn a_flood_of_bad_messages_delays_no_fence() {
    let host = Host::new();
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    let deadline = now() + ms(3_000);
    agent.arm(7, deadline).unwrap();
    let writer = Writer::begin(client);
    let mut flood = host.agent();
    // So that number 1 is one that was there before.
    flood.status();
    let sent = std::thread::spawn(move || {
        let mut sent = 0_u64;
        while now() < deadline {
            let seq = flood.seq();
            let bad = match seq % 3 {
                0 => Request::Renew { seq, epoch: Epoch(6), deadline: deadline + ms(5_000) },
                1 => Request::Renew { seq: 1, epoch: Epoch(7), deadline: deadline + ms(5_000) },
                _ => Request::Renew { seq, epoch: Epoch(7), deadline: deadline + ms(60_000) },
            };
            assert!(matches!(flood.ask(&bad), Reply::Refused { .. }));
            sent += 1;
        }
        sent
    });
    let last = last_acknowledgement(writer);
    assert!(last.is_some_and(|at| at < deadline), "{last:?} {deadline}");
    assert!(sent.join().unwrap() > 1_000, "no flood");
    let fence = wait_for("the fence", || host.agent().status().fence);
    assert_eq!(fence.epoch, Epoch(7));
}
