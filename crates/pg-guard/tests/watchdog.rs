//! The guard as built, with a real PostgreSQL and a watchdog device played by the test. Needs root (and says so). The
//! numbers in brackets are the test cases of the fencing reference. The kernel's own devices: `make test-watchdog`.

mod host;

use std::time::Duration;

use ha_core::guard_link::{Layers, NoPrimary, RefusalCode, Reply, Request};
use ha_core::{Epoch, Generation};
use ha_fencing::SimulatedKind;
use nix::sys::signal::Signal;

use host::{Host, StandIn, Writer, boot_id, ms, now, wait_for};

/// A lease of 4 s: the watchdog has 2 s, the margins between a deadline and the end of the lease are 540 ms.
const AFTER: Duration = Duration::from_millis(540);
/// How late a process may be woken on a busy machine.
const LATE: Duration = Duration::from_millis(500);

fn host(mode: &str, kind: SimulatedKind) -> (Host, StandIn) {
    // Without a fuse, so that only the device can end what the guard does not.
    let keys = format!(
        "fuse = \"off\"\nwatchdog = \"{mode}\"\nwatchdog_device = \"{{root}}/watchdog\"\n\
         [failover]\nlease_ttl = \"4s\"\nrenew_interval = \"500ms\"\ncall_deadline = \"250ms\"\n"
    );
    let mut host = Host::without_guard(&keys, &[]);
    let device = StandIn::at(&host.path("watchdog"), kind);
    host.start_guard();
    (host, device)
}

#[test]
fn the_device_runs_while_a_deadline_is_held_and_no_longer() {
    let (host, device) = host("required", SimulatedKind::default());
    let mut agent = host.agent();
    let (_, start) = agent.start();
    host.client();
    assert_eq!(device.pings(), 0, "a standby's guard does not start it");
    agent.arm(1, now() + ms(3_400)).unwrap();
    let status = agent.status();
    assert!(status.layers.contains(Layers::HARDWARE), "{status:?}");
    assert_eq!(status.watchdog.timeout, Some(ms(2_000)));
    let begun = device.pings();
    for _ in 0..6 {
        std::thread::sleep(ms(500)); // the pace of renewals
        agent.renew(1, now() + ms(3_400)).unwrap();
    }
    assert!(device.pings() >= begun + 4, "{} after {begun}", device.pings());
    agent.release(1, NoPrimary::Standby { start }).unwrap();
    wait_for("the device to be stopped", || device.reset_at().is_none().then_some(()));
    assert_eq!(device.was_reset(), None);
}

#[test]
fn a_guard_that_fences_in_time_stops_the_device() {
    let (host, device) = host("required", SimulatedKind::default());
    let mut agent = host.agent();
    agent.start();
    host.client();
    agent.arm(1, now() + ms(3_400)).unwrap();
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    wait_for("the device to be stopped", || device.reset_at().is_none().then_some(()));
    assert_eq!(device.was_reset(), None);
    assert!(host.processes().is_empty());
}

#[test]
fn a_stopped_guard_has_the_machine_reset_before_the_lease_ends() {
    let (host, device) = host("required", SimulatedKind::default());
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    client.query("CREATE TABLE t (number bigint)").unwrap();
    let writer = Writer::begin(client);
    let deadline = now() + ms(3_400);
    agent.arm(1, deadline).unwrap();
    let mut machine = host.processes();
    machine.push(host.guard_pid());
    device.guards(machine);
    host.signal_guard(Signal::SIGSTOP);
    let at = wait_for("the reset", || device.was_reset());
    assert!(
        at <= deadline + AFTER,
        "reset at {at}, the lease ends {} later than {deadline}",
        AFTER.as_secs_f64()
    );
    let (_, last) = writer.last();
    assert!(last <= at + LATE, "acknowledged at {last}, reset at {at}");
}

#[test]
fn a_killed_guard_is_followed_by_one_that_pings_on() {
    let (mut host, device) = host("required", SimulatedKind::default());
    let mut agent = host.agent();
    agent.start();
    let mut client = host.client();
    agent.arm(1, now() + ms(4_000)).unwrap();
    host.kill_guard();
    let reset_at = wait_for("the close", || device.reset_at()); // (W03)
    assert!(reset_at > now(), "it runs on");
    host.start_guard();
    let mut agent = host.agent();
    agent.renew(1, now() + ms(4_000)).unwrap();
    assert!(agent.status().layers.contains(Layers::HARDWARE));
    for _ in 0..5 {
        std::thread::sleep(ms(500)); // the pace of renewals
        agent.renew(1, now() + ms(4_000)).unwrap();
    }
    client.query("SELECT 1").unwrap();
    assert_eq!(device.was_reset(), None);
}

#[test]
fn a_device_that_somebody_else_holds_is_explained() {
    let (host, device) = host("required", SimulatedKind::default());
    device.take();
    let mut agent = host.agent();
    let (seq, deadline) = (agent.seq(), now() + ms(3_400));
    let arm = Request::Arm { seq, epoch: Epoch(1), generation: Generation(1), deadline, boot_id: boot_id() };
    match agent.ask(&arm) {
        Reply::Refused { code: RefusalCode::LayerMissing, text, .. } => {
            assert!(text.contains("RuntimeWatchdogSec"), "{text}"); // (W05)
        }
        other => panic!("armed without its watchdog: {other:?}"),
    }
    assert_eq!(agent.status().armed, None);
}

#[test]
fn a_leader_is_not_renewed_when_pings_fail_and_a_clean_end_stops_the_device() {
    let (mut host, device) = host("required", SimulatedKind::default());
    let mut agent = host.agent();
    agent.start();
    host.client();
    agent.arm(1, now() + ms(4_000)).unwrap();
    host.signal_guard(Signal::SIGTERM);
    wait_for("the guard's end", || host.guard_exit());
    assert_eq!((device.reset_at(), device.was_reset()), (None, None));

    host.start_guard();
    let mut agent = host.agent();
    agent.arm(2, now() + ms(4_000)).unwrap();
    device.break_down();
    wait_for("a refused renewal", || {
        (agent.renew(2, now() + ms(4_000)) == Err(RefusalCode::LayerMissing)).then_some(()) // (W05)
    });
}
