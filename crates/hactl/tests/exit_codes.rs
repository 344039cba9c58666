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
fn check_knows_what_a_proxy_host_needs() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cluster.toml");
    let secrets = dir.path().join("secrets.toml");
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml");
    let good = std::fs::read_to_string(reference).unwrap();
    std::fs::write(&config, &good).unwrap();
    let config = config.to_str().unwrap();
    let check = |node: &[&str]| {
        let output = hactl(&[&["check", "--config", config], node].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "proxies ha1, ha2: port 5000 for writes, 5001 for reads",
        "floating address 10.0.1.10/24: VRRP version 3",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let ending =
        "[routing]\ntls = \"terminate\"\ntls_certificate = \"/srv/c.crt\"\ntls_key = \"/srv/c.key\"\n";
    std::fs::write(config, format!("{good}\n{ending}")).unwrap();
    let (code, text) = check(&[]);
    assert!(code == Some(0) && text.contains("TLS of clients ends at the proxies"), "{text}");
    std::fs::write(config, &good).unwrap();
    let write = |text: &str| {
        std::fs::write(&secrets, text).unwrap();
        std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    // What a proxy host may have is too little for a database host.
    write("vrrp_password = \"12345678\"\n");
    for (node, wanted) in
        [(&[] as &[&str], 0), (&["--node", "ha1"], 0), (&["--node", "pg1"], 2), (&["--node", "pg9"], 2)]
    {
        let (code, text) = check(node);
        assert_eq!(code, Some(wanted), "{node:?}: {text}");
    }
    write("vrrp_password = \"123456789\"\n");
    let (code, text) = check(&["--node", "ha2"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("vrrp_password") && text.contains("8 bytes"), "{text}");
    assert!(!text.contains("superuser_password"), "no business of a proxy host: {text}");
    std::fs::write(config, format!("{good}[routing]\nread_port = 5000\nwrite_prot = 5000\n")).unwrap();
    let (code, text) = check(&["--node", "ha2"]);
    assert_eq!(code, Some(2), "{text}");
    for part in ["routing.read_port", "routing.write_prot", "vrrp_password"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
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
    let completions = String::from_utf8(hactl(&["completions", "zsh"]).stdout).unwrap();
    for word in ["proxy", "vip", "topology", "history", "--watch"] {
        assert!(completions.contains(word), "{word} is not completed");
    }
}
