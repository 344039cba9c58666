use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;

use super::*;

/// A certificate and its key, readable by its owner only.
fn files() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["ha1".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("clients.crt"), dir.path().join("clients.key"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    chmod(&key, 0o600);
    (dir, certificate, key)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refused(certificate: &Path, key: &Path) -> String {
    ClientTls::read(certificate, key).expect_err("bad files").to_string()
}

#[test]
fn good_files_are_taken_and_tell_the_protocol() {
    let (_dir, certificate, key) = files();
    for mode in [0o600, 0o400, 0o640] {
        chmod(&key, mode);
        let tls = ClientTls::read(&certificate, &key).unwrap();
        assert_eq!(tls.current().alpn_protocols, [b"postgresql"]);
        // What rcgen gives when it is not asked for anything else: 4096-01-01.
        assert_eq!(tls.ends(), Some(67_090_118_400));
    }
}

#[test]
fn absent_files_are_both_named() {
    let (dir, ..) = files();
    let message = refused(&dir.path().join("no.crt"), &dir.path().join("no.key"));
    for part in
        ["no.crt: routing.tls_certificate: found No such file", "no.key: routing.tls_key: found No such file"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let (dir, certificate, key) = files();
    let empty = dir.path().join("empty");
    fs::write(&empty, "nothing of interest\n").unwrap();
    chmod(&empty, 0o600);
    let message = refused(&empty, &empty);
    assert!(message.contains("without any certificate") && message.contains("without any key"), "{message}");
    let message = refused(&key, &certificate);
    assert!(message.contains("routing.tls_certificate: found a file without any certificate"), "{message}");
    let torn = dir.path().join("torn");
    fs::write(&torn, "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    assert!(refused(&torn, &key).contains("not PEM (a section without its end)"));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (_dir, certificate, key) = files();
    for mode in [0o644, 0o604, 0o660] {
        chmod(&key, mode);
        let message = refused(&certificate, &key);
        assert!(
            message.contains(&format!("found mode {mode:04o}")) && message.contains("chmod 0600"),
            "{message}"
        );
    }
}

#[test]
fn the_key_of_another_certificate_is_refused() {
    let ((_one, certificate, _), (_other, _, key)) = (files(), files());
    let message = refused(&certificate, &key);
    assert!(message.contains("routing.tls_key: found the key of another certificate"), "{message}");
}

#[test]
fn a_failed_reload_leaves_what_was_in_force() {
    let (dir, certificate, key) = files();
    let tls = ClientTls::read(&certificate, &key).unwrap();
    let before = tls.current();
    tls.reload(&dir.path().join("no.crt"), &key).expect_err("an absent file");
    assert!(Arc::ptr_eq(&before, &tls.current()));
    tls.reload(&certificate, &key).unwrap();
    assert!(!Arc::ptr_eq(&before, &tls.current()));
}
