//! Who may do what: no process of the guard has more rights than it needs. Needs root (and says so).

mod host;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use host::{Host, fuse_of, ms, now, parent};

/// Names of the unit file with their numbers (capabilities(7)).
const NUMBERS: [(&str, u32); 11] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_IPC_LOCK", 14),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_RESOURCE", 24),
];

/// Without it nobody may lower an out-of-memory score.
const SYS_RESOURCE: u32 = 24;

/// A set of capabilities of a process, by its name in `/proc/PID/status`.
fn set(pid: u32, name: &str) -> BTreeSet<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let text = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let bits = u64::from_str_radix(text.trim_start_matches(':').trim(), 16).expect("a set");
    (0..64).filter(|number| bits & 1 << number != 0).collect()
}

/// Field 41 of `/proc/PID/stat`: how it is scheduled; 0 is normal (proc(5)).
fn policy(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').nth(38).unwrap_or_default().to_owned());
    fields.expect("a process")
}

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let text = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    text.trim().trim_end_matches("kB").trim().parse().expect("a size")
}

/// The mapping with the code of a process's program: all of it and what of that is in memory, in KiB.
fn code_kb(pid: u32) -> (u64, u64) {
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("a program");
    let all = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("its mappings");
    let is_code = |line: &&str| line.contains(" r-xp ") && line.ends_with(&*program.to_string_lossy());
    let mut code = all.lines().skip_while(|line| !is_code(line)).skip(1);
    let mut size = |name: &str| {
        let line = code.find(|line| line.starts_with(name)).expect("a size");
        line.split_whitespace().nth(1).expect("a size").parse::<u64>().expect("a size")
    };
    (size("Size:"), size("Rss:"))
}

#[test]
fn each_process_keeps_only_the_capabilities_that_it_needs() {
    let host = Host::new();
    let mut agent = host.agent();
    let (postmaster, _) = agent.start();
    agent.arm(1, now() + ms(9_000)).unwrap();
    host.client();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd/pg-guard.service");
    let unit = fs::read_to_string(unit).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let named: BTreeSet<u32> = line
        .split_whitespace()
        .map(|word| NUMBERS.iter().find(|(name, _)| *name == word).expect("a capability of the list").1)
        .collect();
    let guard = host.guard_pid();
    // Where root itself has not all of them, neither has the guard.
    let own = |name| named.intersection(&set(std::process::id(), name)).copied().collect::<BTreeSet<u32>>();
    assert_eq!(set(guard, "CapEff"), own("CapPrm"));
    assert_eq!(set(guard, "CapBnd"), own("CapBnd"), "what it starts cannot have more");
    let fuse = fuse_of(postmaster);
    assert_eq!(set(fuse, "CapPrm"), BTreeSet::from([14]), "its memory stays locked");
    let init = parent(postmaster);
    assert_eq!(set(init, "CapPrm"), BTreeSet::new());
    assert_eq!(set(postmaster, "CapPrm"), BTreeSet::new());
    for pid in [fuse, init] {
        assert_eq!(policy(pid), policy(guard), "its end must come at once on a starved host, too");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("\nUid:\t0\t0\t0\t0\n"), "PostgreSQL's user must not reach it: {status}");
        let kb = resident_kb(pid);
        assert!(kb < 1024, "{kb} KiB of its own");
    }
    assert_eq!(policy(postmaster), "0", "PostgreSQL has no real-time priority");
    if own("CapPrm").contains(&SYS_RESOURCE) {
        assert_eq!(fs::read_to_string(format!("/proc/{fuse}/oom_score_adj")).unwrap().trim(), "-1000");
    }
    let locked = fs::read_to_string(format!("/proc/{fuse}/status")).unwrap();
    let locked = locked.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap_or_default();
    assert!(!locked.trim().starts_with("0 "), "memory of the fuse is not locked");
    for pid in [guard, fuse] {
        let (code, in_memory) = code_kb(pid);
        assert!(code > 100 && in_memory == code, "a fence would wait for a disk: {in_memory} of {code} KiB");
    }
    // Nothing is open but what it needs: three standard files, two sockets, the wire to init, signals.
    let open = fs::read_dir(format!("/proc/{fuse}/fd")).unwrap().count();
    assert!(open <= 10, "{open} descriptors");
    for entry in fs::read_dir("/proc/".to_owned() + &postmaster.to_string() + "/fd").unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let is_ours = target.starts_with(host.path("run")) || target.ends_with("guard.log");
        assert!(!is_ours, "PostgreSQL holds {}", target.display());
    }
}
