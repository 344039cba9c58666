//! The thread that advertises shares no lock with any other, the allocator's included: neither while it advertises or
//! listens, nor when an address moves, does it take memory or give any back. Shown by vrrpd with an allocator that looks on.
//! Needs root (and says so).
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "says what was tested, and notes go to the log of vrrpd"
)]

mod counting;
#[path = "../with_real_processes/link/mod.rs"]
#[allow(dead_code, unused_imports, reason = "more than one test needs")]
mod link;

use std::process::ExitCode;

use clap::Parser as _;
use counting::{Counting, NOTE, watch_when_asked};
use link::{Host, Vrrpd, World, is_root, let_pass, wait_for};
use nix::sys::signal::Signal;
use vrrpd::args::Args;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As which this program is vrrpd.
const AS_VRRPD: &str = "--as-vrrpd";
/// Beside the file of the cluster: begin to look on.
const ASK: &str = "watch";

type Test = fn();
const TESTS: [(&str, Test); 5] = [
    ("an_address_moves_without_memory", an_address_moves_without_memory),
    ("over_ipv6", || drop(moves(World::over_ipv6("preempt_delay = \"1s\"")))),
    ("by_unicast", || drop(moves(World::new("unicast = true\npreempt_delay = \"1s\"")))),
    ("with_a_hardware_address_of_its_own", || {
        drop(moves(World::new("vrid = 51\nvirtual_mac = true\npreempt_delay = \"1s\"")));
    }),
    ("with_signatures", with_signatures),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == AS_VRRPD) {
        // Behind it stands the program that it is called in place of.
        let args = Args::parse_from(&arguments[1..]);
        ha_daemon::init_logging();
        watch_when_asked(&args.config.with_file_name(ASK));
        return match vrrpd::run(&args) {
            ha_daemon::ExitCode::Ok => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        };
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !is_root() {
        return ExitCode::SUCCESS;
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| name.contains(*wanted));
    let start = |(name, test): (&'static str, Test)| (name, std::thread::spawn(test));
    // As many at a time as may have a link.
    let running: Vec<_> = TESTS.into_iter().filter(|(name, _)| wanted(name)).map(start).collect();
    let mut failed = false;
    for (name, test) in running {
        let passed = test.join().is_ok();
        failed |= !passed;
        println!("test allocations::{name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A vrrpd that is looked on once it is asked for.
fn start(host: &Host) -> Vrrpd {
    let program = std::env::current_exe().expect("this program");
    host.start_by(&[program.to_str().expect("a name in UTF-8"), AS_VRRPD])
}

fn watch(host: &Host) {
    let file = host.dir().join(ASK);
    std::fs::write(&file, "").expect("ask");
    wait_for("somebody to look on", || (!file.exists()).then_some(()));
}

fn assert_silent(what: &str, vrrpd: &Vrrpd) {
    let log = vrrpd.log();
    assert!(!log.contains(NOTE), "{what}:\n{log}");
}

fn an_address_moves_without_memory() {
    let (world, second) = moves(World::certified("preempt_delay = \"1s\""));
    // That somebody looks on at all: a change of the file takes memory, as it may.
    world.ha2.edit(|text| text + "[[vip]]\naddress = \"10.0.1.9/24\"\n");
    second.says("10.0.1.9 is new in the file");
    second.says(NOTE);
}

fn with_signatures() {
    let world = World::new("signing = \"enforce\"\nreplay_window = \"5s\"\npreempt_delay = \"1s\"");
    for host in [&world.ha1, &world.ha2] {
        host.set_secrets(&format!("vrrp_key = \"7:{}\"\n", "abcd".repeat(8)));
    }
    drop(moves(world));
}

/// The address goes from ha1 to ha2 and back; then ha1's vrrpd is killed. Gives that of ha2, which is looked on still.
fn moves(world: World) -> (World, Vrrpd) {
    let first = start(&world.ha1);
    wait_for("ha1 to hold the address", || world.ha1.holds().then_some(()));
    let second = start(&world.ha2);
    second.says("-> backup");
    second.says("the proxy is serving");
    // What is seen for the first time is over then: the other host over the channel, its first advertisements.
    let_pass(1500);
    watch(&world.ha1);
    watch(&world.ha2);
    let_pass(2000);
    assert_silent("an Active in peace", &first);
    assert_silent("a Backup in peace", &second);

    // Something is changed at the interface that does not matter: both look at all links and addresses.
    for host in [&world.ha1, &world.ha2] {
        host.namespace.ip("link set eth0 mtu 1480");
    }
    let_pass(500);
    assert_silent("an Active that looks at links and addresses", &first);
    assert_silent("a Backup that looks at links and addresses", &second);

    world.ha1.proxy.die();
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    let_pass(1000);
    assert_silent("an Active whose proxy dies", &first);
    assert_silent("a Backup that takes over", &second);

    world.ha1.proxy.serve();
    wait_for("ha1 to hold the address again", || world.ha1.holds().then_some(()));
    let_pass(1000);
    assert_silent("a host that takes the address back", &first);
    assert_silent("a host that gives it back", &second);

    first.signal(Signal::SIGKILL);
    wait_for("ha2 to hold the address again", || world.ha2.holds().then_some(()));
    let_pass(2500);
    assert_silent("an Active whose peer has died", &second);
    (world, second)
}
