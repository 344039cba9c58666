//! Exit codes of vrrpd as built: 2 for a file that it cannot use, with everything that is wrong in it.

use std::process::{Command, Output};

const GOOD: &str = include_str!("../../../deploy/config/cluster.toml");

fn vrrpd(text: &str, arguments: &[&str]) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("cluster.toml");
    std::fs::write(&config, text).expect("write the file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vrrpd"));
    let output = command.arg("--config").arg(&config).args(arguments).output().expect("run vrrpd");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, errors)
}

#[test]
fn a_good_file_is_summed_up() {
    let (output, errors) = vrrpd(GOOD, &["--node", "ha2", "--check-config"]);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("this is ha2 at 10.0.1.22"));
}

#[test]
fn unicast_to_hosts_of_another_family_is_refused_with_every_other_problem() {
    let six = "address = \"fd00::10/64\"\ninterface = \"eth0\"\nunicast = true\nvrid = 256";
    let text = GOOD.replace("address = \"10.0.1.10/24\"", six);
    // The same with and without --check-config: nothing is opened before the file is good.
    for arguments in [&["--node", "ha9", "--check-config"][..], &["--node", "ha9"]] {
        let (output, errors) = vrrpd(&text, arguments);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        for wanted in ["vip[0].unicast", "ha1 10.0.1.21", "vip[0].vrid"] {
            assert!(errors.contains(wanted), "{wanted} in {errors}");
        }
    }
    assert_eq!(vrrpd(GOOD, &["--unknown"]).0.status.code(), Some(2));
}
