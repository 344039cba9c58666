//! Real watchdog devices in a real kernel: a small virtual machine (qemu, software emulation) runs the guard as built; its
//! clean end must stop the device, and the machine must be reset where the guard does not get to fencing. Judged is the
//! order of what happens, and every wait is bounded. Run it by `make test-watchdog`; it needs qemu and takes minutes.
//!
//! The program is its own guest: [`guest`] runs inside as the agent, prints what it sees, and the kernel's command line
//! tells what it shall do.

mod host;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ha_core::guard_link::{Layers, NoPrimary, Reply};
use nix::sys::signal::Signal;

use host::{Agent, now, signal_process, wait_for};

/// From the start of the machine to its end; an emulated boot takes some ten seconds.
const PATIENCE: Duration = Duration::from_secs(240);
/// A lease of 20 s gives the device 10.
const TIMEOUT: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(19);

/// The machine, ended with the value.
struct Machine {
    qemu: Child,
    said: Receiver<String>,
    all: Vec<String>,
    began: Instant,
}

impl Machine {
    fn boot(driver: &str, order: &str, arguments: &[&str]) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("virtual-machine");
        fs::create_dir_all(&dir).expect("a directory");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/virtual_machine");
        let kernel = dir.join("kernel");
        run(Command::new(scripts.join("kernel.sh")).arg(&kernel));
        let (initramfs, own) = (dir.join(format!("{driver}-{order}.img")), std::env::current_exe());
        run(Command::new(scripts.join("initramfs.sh"))
            .arg(kernel.join("tree"))
            .arg(env!("CARGO_BIN_EXE_pg-guard"))
            .arg(own.expect("the path of this program"))
            .arg(&initramfs));
        let monitor = dir.join(format!("{driver}-{order}.qmp"));
        drop(fs::remove_file(&monitor));
        let mut qemu = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-m",
                "512",
                "-smp",
                "1",
                "-display",
                "none",
                "-nodefaults",
                "-no-user-config",
            ])
            .arg("-kernel")
            .arg(vmlinuz(&kernel.join("tree/boot")))
            .arg("-initrd")
            .arg(&initramfs)
            .args([
                "-append",
                &format!("console=ttyS0 quiet panic=-1 guest.driver={driver} guest.order={order}"),
            ])
            .args(["-serial", "stdio", "-qmp", &format!("unix:{},server=on,wait=off", monitor.display())])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start qemu-system-x86_64: `deploy/setup.sh watchdog` installs it");
        let (tell, said) = channel();
        let console = qemu.stdout.take().expect("a console");
        let to = tell.clone();
        std::thread::spawn(move || read_console(BufReader::new(console), &to));
        let socket = wait_for("qemu's monitor", || UnixStream::connect(&monitor).ok());
        std::thread::spawn(move || read_events(socket, &tell));
        Self { qemu, said, all: vec![], began: Instant::now() }
    }

    /// Waits for each of these in turn; what stands in `never` may not come before the last one.
    fn says(&mut self, wanted: &[&str], never: &str) {
        for word in wanted {
            loop {
                let left = PATIENCE.saturating_sub(self.began.elapsed());
                let Ok(line) = self.said.recv_timeout(left) else {
                    panic!("waited for {word:?} in vain; the machine said:\n{}", self.all.join("\n"));
                };
                let line = format!("{:7.1} {line}", self.began.elapsed().as_secs_f64());
                show(&line);
                self.all.push(line.clone());
                assert!(never.is_empty() || !line.contains(never), "{never:?} before {word:?}");
                if line.contains(word) {
                    break;
                }
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

#[allow(clippy::print_stderr, reason = "what the machine says, for whoever watches")]
fn show(line: &str) {
    eprintln!("{line}");
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}

fn vmlinuz(boot: &Path) -> PathBuf {
    let entries =
        fs::read_dir(boot).expect("the kernel's package").filter_map(|entry| Some(entry.ok()?.path()));
    let is_kernel =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    entries.into_iter().find(is_kernel).expect("a kernel")
}

fn read_console(console: impl std::io::BufRead, tell: &Sender<String>) {
    for line in console.split(b'\n').map_while(Result::ok) {
        drop(tell.send(String::from_utf8_lossy(&line).trim().to_owned()));
    }
}

/// Events of qemu's monitor (QMP) become lines that begin with EVENT.
fn read_events(mut socket: UnixStream, tell: &Sender<String>) {
    let lines = BufReader::new(socket.try_clone().expect("another handle"));
    drop(socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n"));
    for line in lines.lines().map_while(Result::ok).filter(|line| line.contains("\"event\"")) {
        drop(tell.send(format!("EVENT {line}")));
    }
}

#[test]
#[ignore = "make test-watchdog"]
fn i6300esb_resets_a_machine_whose_guard_is_stopped_and_spares_one_whose_guard_ends() {
    // The guest does as it is told in its first boot; after the reset the device says so, and then all goes well.
    let mut machine =
        Machine::boot("i6300esb", "stop", &["-device", "i6300esb", "-action", "watchdog=reset"]);
    machine.says(
        &["GUEST boot status 0", "GUEST armed", "GUEST lived on", "GUEST guard stopped", "\"WATCHDOG\""],
        "too long",
    );
    machine.says(&["GUEST boot status 32", "reset this machine before the present boot"], "");
    machine.says(&["GUEST armed", "GUEST fenced", "GUEST device inactive"], "\"WATCHDOG\"");
    machine
        .says(&["GUEST armed", "GUEST lived on", "GUEST released", "GUEST device inactive"], "\"WATCHDOG\"");
    machine.says(&["GUEST survived", "GUEST ended with 0"], "\"WATCHDOG\"");
}

#[test]
#[ignore = "make test-watchdog"]
fn softdog_resets_a_machine_whose_guard_is_stopped() {
    let mut machine = Machine::boot("softdog", "stop", &["-no-reboot"]);
    machine.says(&["GUEST armed", "GUEST lived on", "GUEST guard stopped", "guest-reset"], "too long");
}

#[test]
#[ignore = "make test-watchdog"]
fn softdog_resets_a_machine_whose_guard_is_killed_for_good() {
    let mut machine = Machine::boot("softdog", "kill", &["-no-reboot"]);
    machine.says(&["GUEST armed", "GUEST lived on", "GUEST guard killed", "guest-reset"], "too long");
}

#[test]
#[ignore = "make test-watchdog"]
fn softdog_spares_a_machine_whose_guard_fences_or_ends() {
    let mut machine = Machine::boot("softdog", "well", &["-no-reboot"]);
    machine.says(&["GUEST armed", "GUEST fenced", "GUEST device inactive"], "guest-reset");
    machine
        .says(&["GUEST armed", "GUEST lived on", "GUEST released", "GUEST device inactive"], "guest-reset");
    machine.says(&["GUEST survived", "GUEST ended with 0", "guest-shutdown"], "guest-reset");
}

#[allow(clippy::print_stdout, reason = "the console is how a guest speaks")]
fn say(text: &str) {
    println!("GUEST {text}");
}

fn sysfs(name: &str) -> String {
    let text = fs::read_to_string(format!("/sys/class/watchdog/watchdog0/{name}"));
    text.map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

fn arm(agent: &mut Agent, epoch: u64) {
    agent.arm(epoch, now() + DEADLINE).expect("armed");
    let status = agent.status();
    assert!(status.layers.contains(Layers::HARDWARE), "{status:?}");
    assert_eq!((status.watchdog.timeout, sysfs("state").as_str()), (Some(TIMEOUT), "active"));
    say(&format!("armed: {}", status.watchdog.text));
}

/// Longer than the device would wait without pings.
fn live_on(agent: &mut Agent, epoch: u64) {
    let end = now() + TIMEOUT + TIMEOUT / 2;
    while now() < end {
        std::thread::sleep(Duration::from_secs(2)); // the pace of renewals
        agent.renew(epoch, now() + DEADLINE).expect("renewed");
    }
    say("lived on");
}

/// The part that runs inside the machine.
#[test]
#[ignore = "runs inside the machine"]
fn guest() {
    if std::env::var_os("IN_THE_MACHINE").is_none() {
        return; // `--ignored` alone runs all of them: outside, this would start the watchdog of the machine itself
    }
    let line = fs::read_to_string("/proc/cmdline").expect("a command line");
    let order = line.split_whitespace().find_map(|word| word.strip_prefix("guest.order=")).expect("an order");
    let caused = sysfs("bootstatus");
    say(&format!("boot status {caused}, {}", sysfs("identity")));
    let mut guard = Command::new("/bin/pg-guard")
        .args(["--config", "/etc/cluster.toml", "--node", "pg1"])
        .spawn()
        .expect("start the guard");
    let mut agent = wait_for("the guard", || Agent::try_connect(Path::new("/run/matriarch/guard.sock")));
    let (_, start) = agent.start();
    let faulty = order != "well" && caused == "0";
    if faulty {
        arm(&mut agent, 1);
        live_on(&mut agent, 1);
        match order {
            "stop" => signal_process(guard.id(), Signal::SIGSTOP),
            _ => guard.kill().expect("kill the guard"),
        }
        say(if order == "stop" { "guard stopped" } else { "guard killed" });
        std::thread::sleep(6 * TIMEOUT); // the reset ends it
        say("waited too long");
        guard.wait().expect("the end of the guard, which never comes where it is stopped");
        return;
    }
    arm(&mut agent, 1);
    agent.notice(|notice| matches!(notice, Reply::Fenced(fence) if fence.empty).then_some(()));
    say("fenced");
    wait_for("the device to be stopped", || (sysfs("state") == "inactive").then_some(()));
    say("device inactive");
    agent.acknowledge(1).expect("noted");
    let (_, second) = agent.start();
    assert_ne!(start, second);
    arm(&mut agent, 2);
    live_on(&mut agent, 2);
    agent.release(2, NoPrimary::Standby { start: second }).expect("released");
    say("released");
    wait_for("the device to be stopped", || (sysfs("state") == "inactive").then_some(()));
    say("device inactive");
    // And once more by the guard's own end.
    arm(&mut agent, 3);
    signal_process(guard.id(), Signal::SIGTERM);
    let ended = wait_for("the guard's end", || guard.try_wait().expect("wait for the guard"));
    assert!(ended.success());
    assert_eq!(sysfs("state"), "inactive");
    std::thread::sleep(TIMEOUT + TIMEOUT / 2); // a device that ran would have fired
    say("survived");
}
