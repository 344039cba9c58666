//! What scripts see of hactl without a cluster.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn hactl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hactl")).args(arguments).output().expect("run hactl")
}

fn check(config: &Path) -> (Option<i32>, String) {
    let output = hactl(&["check", "--config", config.to_str().expect("a temporary path is UTF-8")]);
    (output.status.code(), String::from_utf8(output.stdout).expect("hactl writes UTF-8"))
}

#[test]
fn check_prints_every_problem_of_both_files_and_ends_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cluster.toml");
    let secrets = dir.path().join("secrets.toml");
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml");
    let good = std::fs::read_to_string(reference).unwrap();
    std::fs::write(&config, &good).unwrap();
    let (code, text) = check(&config);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("cluster pg-cluster, 3 database and 2 proxy hosts"), "{text}");

    std::fs::write(&config, format!("{good}acks = 7\n[failover]\nlease_ttl = 5\n")).unwrap();
    std::fs::write(&secrets, "superuser_password = \"hunter2\"\n").unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, text) = check(&config);
    assert_eq!(code, Some(2), "{text}");
    for part in
        ["replication.acks", "failover.lease_ttl", "chmod 0600", "replication_password", "rewind_password"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn wrong_usage_ends_with_2_and_information_with_0() {
    for wrong in [&["promote"] as &[&str], &["pause", "--for", "2h"], &["init"], &["list", "--format", "xml"]]
    {
        assert_eq!(hactl(wrong).status.code(), Some(2), "{wrong:?}");
    }
    for right in [&["version"] as &[&str], &["--help"], &["completions", "bash"]] {
        let output = hactl(right);
        assert_eq!(output.status.code(), Some(0), "{right:?}");
        assert!(!output.stdout.is_empty(), "{right:?}");
    }
}
