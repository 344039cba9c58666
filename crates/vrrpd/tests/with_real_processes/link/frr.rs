//! FRRouting's vrrpd on one of the hosts, with its virtual hardware address on a macvlan, which it wants made beforehand.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, wait_for};

const PROGRAMS: &str = "/usr/lib/frr";

/// The hardware addresses that it gives to virtual router 51 (RFC 9568 section 7.3).
const FRR_HARDWARE: [&str; 2] = ["00:00:5e:00:01:33", "00:00:5e:00:02:33"];

/// A running zebra and vrrpd; ended when the test forgets them.
pub(crate) struct Frr {
    children: Vec<Child>,
    log: PathBuf,
}

impl Frr {
    /// Whether it is there; says so if not.
    pub(crate) fn is_installed() -> bool {
        let found = Path::new(PROGRAMS).join("vrrpd").exists();
        if !found {
            println!("skipped: no FRR here (deploy/setup.sh test installs it)");
        }
        found
    }

    /// Makes its interfaces.
    pub(crate) fn prepare(host: &Host) {
        for (name, hardware) in ["vrrp4", "vrrp6"].into_iter().zip(FRR_HARDWARE) {
            let ip = |arguments: &str| drop(host.namespace.ip(arguments));
            ip(&format!("link add {name} link eth0 address {hardware} type macvlan mode bridge"));
            ip(&format!("link set {name} addrgenmode none"));
        }
        for (address, name) in
            [("10.0.1.10/24", "vrrp4"), ("fd00::10/64", "vrrp6"), ("fe80::5e00:233/64", "vrrp6")]
        {
            host.namespace.ip(&format!("addr add {address} dev {name}"));
            host.namespace.ip(&format!("link set {name} up"));
        }
    }

    /// Starts it as virtual router 51 of this priority, every 200 ms.
    pub(crate) fn start(host: &Host, priority: u8) -> Self {
        let dir = host.dir().join("frr");
        std::fs::create_dir_all(&dir).expect("a directory");
        // It runs as a user of its own, which must come as far as here and write here.
        for (path, mode) in
            [(host.dir().parent().expect("a parent"), 0o711), (host.dir(), 0o711), (&dir, 0o777)]
        {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .expect("open the directory");
        }
        let addresses = if host.vip.is_ipv4() {
            "vrrp 51 ip 10.0.1.10\n"
        } else {
            "vrrp 51 ipv6 fe80::5e00:233\nvrrp 51 ipv6 fd00::10\n"
        };
        let router = format!(
            "log stdout\ninterface eth0\nvrrp 51 version 3\nvrrp 51 priority {priority}\n\
             vrrp 51 advertisement-interval 200\n{addresses}"
        );
        let log = dir.join("log");
        let output = std::fs::File::create(&log).expect("a log");
        let mut frr = Self { children: Vec::new(), log };
        for (program, text) in [("zebra", "log stdout\n"), ("vrrpd", router.as_str())] {
            let configuration = dir.join(format!("{program}.conf"));
            std::fs::write(&configuration, text).expect("write the configuration");
            let mut command = host.namespace.command(&format!("{PROGRAMS}/{program}"));
            command.arg("-f").arg(configuration).args(["-u", "frr", "-g", "frr", "-P", "0"]);
            command.arg("-z").arg(dir.join("zebra.sock")).arg("--vty_socket").arg(&dir);
            command.arg("-i").arg(dir.join(format!("{program}.pid")));
            let [stdout, stderr] = [(), ()].map(|()| output.try_clone().expect("the log once more"));
            let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
            frr.children.push(child.expect("FRR of the distribution"));
            let socket = dir.join(format!("{program}.vty"));
            wait_for("FRR to listen", || socket.exists().then_some(()));
        }
        wait_for("FRR to begin", || (frr.times("Initialize -> Backup") > 0).then_some(()));
        frr
    }

    /// How often its log has this.
    pub(crate) fn times(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// Asks vrrpd to end, then zebra, and waits.
    pub(crate) fn end(&mut self) {
        for mut child in self.children.drain(..).rev() {
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
            // It may have ended before.
            let _ = kill(pid, Signal::SIGTERM);
            drop(child.wait());
        }
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- FRR\n{}", self.log());
        }
        self.end();
    }
}
