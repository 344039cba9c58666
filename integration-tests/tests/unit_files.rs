//! What the units of systemd must say, because a failure is judged by it.

use std::fs;
use std::path::Path;

/// The value of a key in one of our units; the last one counts, as in systemd.
fn value(unit: &str, key: &str) -> Option<String> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd").join(unit).with_extension("service");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

fn number(unit: &str, key: &str) -> i64 {
    value(unit, key).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{unit}: no {key}"))
}

#[test]
fn units_are_spared_when_memory_runs_out() {
    // PostgreSQL stands at 0: it is the guard's child and has the value set back.
    for unit in ["pg-guard", "vrrpd"] {
        assert_eq!(number(unit, "OOMScoreAdjust"), -1000, "{unit}");
    }
    for unit in ["pg-agent", "pg-proxy"] {
        assert!(number(unit, "OOMScoreAdjust") <= -900, "{unit}");
    }
}

#[test]
fn a_daemon_that_ends_comes_back_for_ever_and_in_time() {
    for unit in ["pg-agent", "pg-guard", "pg-proxy", "vrrpd"] {
        assert_eq!(value(unit, "Restart").as_deref(), Some("always"), "{unit}");
        assert_eq!(number(unit, "StartLimitIntervalSec"), 0, "{unit} is given up after some attempts");
    }
    assert_eq!(
        value("pg-agent", "RestartSec").as_deref(),
        Some("1"),
        "longer than the page of failures says"
    );
    // systemd must not end PostgreSQL with its guard, nor an agent's clone outlive it.
    assert_eq!(value("pg-guard", "KillMode").as_deref(), Some("process"));
    assert_eq!(value("pg-agent", "KillMode").as_deref(), Some("control-group"));
    // Nor sessions with the process that took over from theirs.
    assert_eq!(value("pg-proxy", "KillMode").as_deref(), Some("process"));
    assert_eq!(value("pg-guard", "RuntimeDirectoryPreserve").as_deref(), Some("yes"), "the deadline is lost");
}

#[test]
fn the_service_manager_supervises_what_the_proxy_tells_it() {
    assert_eq!(value("pg-proxy", "Type").as_deref(), Some("notify"));
    assert!(value("pg-proxy", "ExecReload").is_some_and(|command| command.contains("-HUP $MAINPID")));
    // A sign of life is withheld after half a second; a loaded host must not be taken for a hung proxy.
    assert!(number("pg-proxy", "WatchdogSec") >= 5);
}

#[test]
fn optional_sockets_carry_the_names_and_ports_of_the_reference_cluster() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    for (name, port) in [("write", 5000), ("read", 5001)] {
        let path = directory.join(format!("pg-proxy-{name}.socket"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in [
            format!("FileDescriptorName={name}"),
            "Service=pg-proxy.service".to_owned(),
            "FreeBind=yes".to_owned(),
            format!("ListenStream=10.0.1.21:{port}"),
            format!("ListenStream=10.0.1.10:{port}"),
        ] {
            assert!(text.lines().any(|own| own == line), "{line} is missing in {}", path.display());
        }
    }
}
