//! A proxy host: its namespace, its files, its pretended proxy and its vrrpd.

use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Namespace, PretendedProxy, VIP, VIP_V6, ms, wait_for};

pub(crate) struct Host {
    pub(crate) name: &'static str,
    pub(crate) namespace: Namespace,
    pub(crate) proxy: PretendedProxy,
    /// The floating address.
    pub(crate) vip: IpAddr,
    dir: PathBuf,
}

impl Host {
    /// `vip` are lines of the table `[[vip]]`; hosts and floating address have IPv6 addresses if `ipv6`.
    pub(crate) fn new(name: &'static str, namespace: Namespace, dir: &Path, ipv6: bool, vip: &str) -> Self {
        let (address, subnet, bits): (IpAddr, _, _) =
            if ipv6 { (VIP_V6.into(), "fd00::", 64) } else { (VIP.into(), "10.0.1.", 24) };
        let (certificates, dir) = (dir, dir.join(name));
        std::fs::create_dir(&dir).expect("a directory");
        let text = format!(
            "name = \"test\"\n[[database]]\nname = \"pg1\"\naddress = \"{subnet}11\"\n\
             [[proxy]]\nname = \"ha1\"\naddress = \"{subnet}21\"\n[[proxy]]\nname = \"ha2\"\naddress = \"{subnet}22\"\n\
             [replication]\nmode = \"asynchronous\"\n[tls]\nca = \"{0}/ca.crt\"\ncert = \"{0}/{name}.crt\"\n\
             key = \"{0}/{name}.key\"\n[[vip]]\naddress = \"{address}/{bits}\"\n{vip}\n",
            certificates.display()
        );
        std::fs::write(dir.join("cluster.toml"), text).expect("write the configuration");
        let proxy = PretendedProxy::new(dir.join("proxy.sock"));
        proxy.serve();
        Self { name, namespace, proxy, vip: address, dir }
    }

    /// Its own address.
    pub(crate) fn address(&self) -> IpAddr {
        if self.name == "ha1" { [10, 0, 1, 21].into() } else { [10, 0, 1, 22].into() }
    }

    /// Changes its file.
    pub(crate) fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.dir.join("cluster.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration");
        // Under another name first, as a careful operator does.
        let beside = self.dir.join("cluster.new");
        std::fs::write(&beside, change(text)).expect("write the configuration");
        std::fs::rename(&beside, &path).expect("put it in place");
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives this host the password of VRRP version 2.
    pub(crate) fn set_password(&self, password: &str) {
        self.set_secrets(&format!("vrrp_password = \"{password}\"\n"));
    }

    /// Gives this host its `secrets.toml`.
    pub(crate) fn set_secrets(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join("secrets.toml");
        std::fs::write(&path, text).expect("write the secrets");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("close the file");
    }

    /// The last byte of its hardware address.
    pub(crate) fn hardware(&self) -> u8 {
        if self.name == "ha1" { 0x21 } else { 0x22 }
    }

    /// Starts vrrpd and waits until it has started its routers.
    pub(crate) fn start(&self) -> Vrrpd {
        self.start_by(&[])
    }

    /// The same by a program that becomes vrrpd: `setpriv` and the like, with arguments.
    pub(crate) fn start_by(&self, by: &[&str]) -> Vrrpd {
        let vrrpd = self.spawn_by(by);
        let beginnings = ["started", "goes on where an earlier process", "initialize -> active"];
        let began = || beginnings.iter().any(|words| vrrpd.said(words));
        wait_for("vrrpd to start", || began().then_some(()));
        vrrpd
    }

    /// The same, with nothing waited for.
    pub(crate) fn spawn_by(&self, by: &[&str]) -> Vrrpd {
        let log = self.dir.join(format!("log-{}", std::process::id()));
        let earlier = std::fs::read_to_string(&log).unwrap_or_default().len();
        let file = std::fs::File::options().append(true).create(true).open(&log).expect("a log");
        let vrrpd = env!("CARGO_BIN_EXE_vrrpd");
        let mut command = self.namespace.command(by.first().unwrap_or(&vrrpd));
        if !by.is_empty() {
            command.args(&by[1..]).arg(vrrpd);
        }
        command.arg("--config").arg(self.dir.join("cluster.toml"));
        command.args(["--node", self.name, "--proxy-socket"]).arg(self.dir.join("proxy.sock"));
        command.arg("--resumption-file").arg(self.dir.join("vrrpd.state"));
        command.arg("--state-dir").arg(self.dir.join("state"));
        let child = command.stdin(Stdio::null()).stderr(file).spawn().expect("start vrrpd");
        Vrrpd { child, log, earlier }
    }

    /// Waits until a vrrpd that is started after this one was killed can know what it held.
    pub(crate) fn wait_for_holding_written(&self) {
        wait_for("the holding to be written down", || {
            let text = std::fs::read_to_string(self.dir.join("vrrpd.state")).unwrap_or_default();
            text.contains(&self.vip.to_string()).then_some(())
        });
    }

    /// Whether the floating address is on this host now.
    pub(crate) fn holds(&self) -> bool {
        self.has(self.vip)
    }

    /// Whether this address is on this host now.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.namespace.inside(|| UdpSocket::bind((address, 0)).is_ok())
    }

    /// What the host has on eth0, as `ip` shows it, an address a line.
    pub(crate) fn addresses(&self) -> String {
        self.namespace.ip("-o addr show dev eth0")
    }

    /// What an HTTP server of this host answers.
    pub(crate) fn http(&self, port: u16, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let address = self.address();
        self.namespace.inside(|| {
            let mut stream = std::net::TcpStream::connect((address, port)).expect("connect");
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("ask");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        })
    }
}

/// A running vrrpd; killed when the test forgets it.
pub(crate) struct Vrrpd {
    child: Child,
    log: PathBuf,
    /// Where its part of the log begins.
    earlier: usize,
}

impl Vrrpd {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        kill(pid, signal).expect("signal vrrpd");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("vrrpd to end", || self.child.try_wait().expect("wait for vrrpd"))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at vrrpd").is_none()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).expect("the log");
        text.get(self.earlier..).unwrap_or_default().to_owned()
    }

    /// Whether its log has this.
    pub(crate) fn said(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    /// Waits until its log has this: another thread of it writes the log, after what the log tells has happened.
    pub(crate) fn says(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.said(text).then_some(()));
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("its times");
        // Behind the name, which is in parentheses: utime and stime are the 12th and 13th field (proc(5)), in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
        ms(10 * ticks.sum::<u64>())
    }

    /// How often the thread that advertises had to wait for a page, in memory or from a disk.
    pub(crate) fn page_faults(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("its threads");
        let stats = tasks.map(|task| task.expect("a thread").path().join("stat"));
        let stats = stats.map(|stat| std::fs::read_to_string(stat).expect("its counters"));
        let stat = stats.into_iter().find(|stat| stat.contains("(vrrp)")).expect("the thread vrrp");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        // minflt and majflt are the 10th and 12th field (proc(5)); the name is the second.
        let fields: Vec<&str> = fields.split(' ').collect();
        [7, 9].iter().map(|index| fields[*index].parse::<u64>().expect("a number")).sum()
    }

    /// What it has mapped of its program file: all of it and what of that is in memory, in KiB, and whether it is locked.
    pub(crate) fn program(&self) -> (u64, u64, bool) {
        let file = std::fs::read_link(format!("/proc/{}/exe", self.id())).expect("its program");
        let text = std::fs::read_to_string(format!("/proc/{}/smaps", self.id())).expect("its mappings");
        let (mut size, mut resident, mut locked, mut own) = (0, 0, true, false);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match first {
                "Size:" if own => size += second.parse::<u64>().expect("a number"),
                "Rss:" if own => resident += second.parse::<u64>().expect("a number"),
                "VmFlags:" if own => locked &= line.split(' ').any(|flag| flag == "lo"),
                _ if !first.ends_with(':') => own = Path::new(words.last().unwrap_or_default()) == file,
                _ => {}
            }
        }
        (size, resident, locked)
    }

    /// Memory that it has now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let text = std::fs::read_to_string(path).expect("its status");
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    }
}

impl Drop for Vrrpd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- {}\n{}", self.log.display(), self.log());
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
