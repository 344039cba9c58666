//! Which clocks decide. Needs root (and says so). The numbers in brackets are the test cases of the fencing reference.

mod host;

use std::fs;
use std::path::Path;

use host::{Host, fuse_of, ms, now};

/// CLOCK_BOOTTIME (`linux/time.h`): it cannot be set, and runs while the machine sleeps.
const BOOTTIME: &str = "7";

/// [W18] A clock that somebody sets cannot be noticed by those who never read it.
#[test]
fn nothing_but_the_log_looks_at_a_clock_that_can_be_set() {
    let mut looked = 0;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for dir in ["src", "src/group", "src/watchdog", "../ha-fencing/src", "../ha-fencing/src/watchdog"] {
        for entry in fs::read_dir(root.join(dir)).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("log_line.rs") {
                continue;
            }
            looked += 1;
            let text = fs::read_to_string(&path).unwrap();
            for clock in
                ["SystemTime", "Instant", "CLOCK_REALTIME", "CLOCK_MONOTONIC", "chrono", "libc::time("]
            {
                assert!(!text.contains(clock), "{} uses {clock}", path.display());
            }
        }
    }
    assert!(looked > 20, "only {looked} files: the sources have moved");
}

/// [W19] As far as it can be shown without putting the machine to sleep: the kernel's own account of both timers.
#[test]
fn the_timers_of_guard_and_fuse_run_while_the_machine_sleeps() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    agent.status();
    let timers = fs::read_to_string(format!("/proc/{}/timers", fuse_of(postmaster))).unwrap();
    let value = |name: &str| timers.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("ClockID:"), Some(BOOTTIME), "{timers}");
    assert!(value("signal:").is_some_and(|signal| signal.starts_with("9/")), "{timers}");
    let guard = fs::read_dir(format!("/proc/{}/fdinfo", host.guard_pid())).unwrap().flatten();
    let texts: Vec<String> = guard.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
    let clocks: Vec<&str> =
        texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("clockid:")).collect();
    assert_eq!(clocks.iter().map(|clock| clock.trim()).collect::<Vec<_>>(), [BOOTTIME]);
}
