//! The process that owns a lab: its network namespace holds the bridge, its children are the hosts.
//!
//! ```text
//! keeper.sock  request ─┐
//! standard input  closed: the test that owns the lab is gone ─┼─> one loop ─> hosts, links, cuts
//! ```
//!
//! Everything of the lab hangs on the keeper: hosts die with it, its network and mounts vanish with its namespaces. What a
//! killed keeper leaves (control groups, and for a moment processes) is recorded and removed by [`crate::leftovers`].

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::control::{self, HostState, KeeperRequest, KeeperStatus};
use crate::data_disk::{self, DataDisk};
use crate::lab_dir::{IDLE_MARK, KEEPER_SOCKET, LabDir, Plan, Remains, boot_id};
use crate::leftovers::{self, remove_cgroup};
use crate::process_id::ProcessId;
use crate::switch::{self, Cut};
use crate::topology::{LabHost, Role};
use crate::{clock, host, wait};

/// A host that is on.
#[derive(Debug)]
struct Running {
    anchor: Child,
    init: ProcessId,
    /// Closes when dropped: tells the host that its keeper is gone.
    _life: ChildStdin,
}

#[derive(Debug)]
struct Keeper {
    lab: LabDir,
    plan: Plan,
    cgroup: String,
    running: Vec<(LabHost, Option<Running>)>,
    cuts: Vec<Cut>,
    /// Hosts whose data disk hangs.
    frozen: BTreeSet<String>,
}

/// How long the kernel may take to end all processes of a host. Seen: 20 ms.
const DEATH: Duration = Duration::from_secs(10);

/// Body of the keeper. `owned`: the lab ends when standard input closes.
///
/// # Errors
/// The network or the control group could not be made.
pub(crate) fn run(lab: &Path, owned: bool) -> Result<()> {
    let lab = LabDir::new(lab)?;
    let plan = lab.plan()?;
    let own = ProcessId::own()?;
    let cgroup = format!("matriarch-lab-{}-{}", own.pid, own.started);
    lab.write_remains(&Remains {
        boot_id: boot_id()?,
        keeper: Some(own),
        hosts: Vec::new(),
        cgroup: cgroup.clone(),
    })?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("make the lab's namespaces: root is needed")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
    fs::create_dir_all(lab.cgroups()).context("create the place of the control groups")?;
    mount(Some("cgroup2"), &lab.cgroups(), Some("cgroup2"), MsFlags::empty(), none)
        .context("mount the control groups (version 2)")?;
    switch::build()?;
    let running = plan.hosts.iter().map(|host| (host.clone(), None)).collect();
    let mut keeper = Keeper { lab, plan, cgroup, running, cuts: Vec::new(), frozen: BTreeSet::new() };
    keeper.mount_data_disks()?;
    let listener = control::listen(keeper.lab.path(), KEEPER_SOCKET)?;
    listener.set_nonblocking(true).context("make the keeper's socket non-blocking")?;
    let result = keeper.serve(&listener, owned);
    keeper.end()?;
    if keeper.lab.path().join(IDLE_MARK).exists() {
        // First of all the machine's control groups must be out of reach.
        umount2(&keeper.lab.cgroups(), MntFlags::MNT_DETACH).context("unmount the control groups")?;
        leftovers::remove_files(&keeper.lab)?;
    }
    result
}

impl Keeper {
    fn serve(&mut self, listener: &UnixListener, owned: bool) -> Result<()> {
        let stdin = std::io::stdin();
        loop {
            let mut waits = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if owned {
                waits.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut waits, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("wait for requests"),
            }
            if waits.get(1).is_some_and(|wait| wait.any() == Some(true)) {
                return Ok(());
            }
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).context("make a connection blocking")?;
                let mut ends = false;
                // A client that went away is its own problem.
                control::answer(stream, |request| {
                    ends = matches!(request, KeeperRequest::Shutdown);
                    if ends {
                        // Everything is gone when the client hears the answer.
                        self.end()?;
                    }
                    self.serve_one(request)
                })
                .ok();
                if ends {
                    return Ok(());
                }
            }
        }
    }

    fn serve_one(&mut self, request: KeeperRequest) -> Result<Value> {
        match request {
            KeeperRequest::Status => {
                let hosts = self
                    .running
                    .iter_mut()
                    .map(|(host, running)| HostState {
                        host: host.clone(),
                        init: running.as_ref().map(|running| running.init).filter(ProcessId::is_alive),
                    })
                    .collect();
                Ok(serde_json::to_value(KeeperStatus { hosts, cuts: self.cuts.clone() })?)
            }
            KeeperRequest::PowerOff(names) => self.power_off(&names),
            KeeperRequest::PowerOn(names) => {
                for name in &names {
                    self.power_on(name)?;
                }
                Ok(Value::Null)
            }
            KeeperRequest::Cables { hosts, plugged } => self.cables(&hosts, plugged),
            KeeperRequest::Cut(cuts) => {
                self.cuts.extend(cuts);
                self.apply_cuts()
            }
            KeeperRequest::SetCuts(cuts) => {
                self.cuts = cuts;
                self.apply_cuts()
            }
            KeeperRequest::Heal => {
                self.cuts.clear();
                self.apply_cuts()
            }
            KeeperRequest::FreezeDisk { host, frozen } => self.freeze_disk(&host, frozen),
            KeeperRequest::Shutdown => Ok(Value::Null),
        }
    }

    fn apply_cuts(&self) -> Result<Value> {
        switch::apply_cuts(&self.cuts, &self.plan.hosts)?;
        Ok(json!({ "at_nanos": nanos() }))
    }

    fn cables(&self, names: &[String], plugged: bool) -> Result<Value> {
        let mut hosts = Vec::new();
        for name in names {
            let (host, running) = &self.running[self.index(name)?];
            if running.is_none() {
                bail!("{name} is off: its cable hangs loose");
            }
            hosts.push(host);
        }
        if plugged {
            switch::restore_links(hosts.into_iter())?;
        } else {
            switch::cut_links(hosts.into_iter())?;
        }
        Ok(json!({ "at_nanos": nanos() }))
    }

    fn index(&self, name: &str) -> Result<usize> {
        let known = |(host, _): &(LabHost, _)| host.name == name;
        self.running.iter().position(known).with_context(|| format!("the lab has no host {name:?}"))
    }

    fn power_on(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        let host = self.running[index].0.clone();
        if let Some(running) = &mut self.running[index].1 {
            if running.init.is_alive() {
                bail!("{name} is on already");
            }
            self.power_off(&[name.to_owned()])?;
        }
        host::prepare(&self.lab, &host)?;
        let cgroup = self.host_cgroup(&host.name);
        fs::create_dir_all(&cgroup).with_context(|| format!("create {}", cgroup.display()))?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.lab.log(name, "host"))
            .context("open the host's log")?;
        let mut anchor = Command::new("/proc/self/exe")
            .arg("host-anchor")
            .arg("--lab")
            .arg(self.lab.path())
            .args(["--host", name, "--cgroup"])
            .arg(&cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start host {name}"))?;
        match self.connect(&host, &mut anchor) {
            Ok((init, life)) => {
                self.running[index].1 = Some(Running { anchor, init, _life: life });
                self.record()
            }
            Err(error) => {
                anchor.kill().ok();
                anchor.wait().ok();
                let log = fs::read_to_string(self.lab.log(name, "host")).unwrap_or_default();
                Err(error.context(format!(
                    "power on {name}; its log ends: {}",
                    log.trim().lines().last().unwrap_or("")
                )))
            }
        }
    }

    /// Waits for the first process, plugs the cable in and tells it so.
    fn connect(&self, host: &LabHost, anchor: &mut Child) -> Result<(ProcessId, ChildStdin)> {
        let stdout = anchor.stdout.take().context("anchor's output")?;
        let mut life = anchor.stdin.take().context("anchor's input")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("read the first process's id")?;
        let pid: i32 = line.trim().parse().context("the anchor ended early")?;
        let init = ProcessId::of(pid)?;
        switch::plug_in(host, pid)?;
        life.write_all(b"\n").context("tell the host that its cable is in")?;
        Ok((init, life))
    }

    fn power_off(&mut self, names: &[String]) -> Result<Value> {
        let mut indices = Vec::new();
        for name in names {
            let index = self.index(name)?;
            if self.running[index].1.is_some() {
                indices.push(index);
            }
        }
        // All links first: a host that dies with its link up would say good-bye to its peers.
        switch::cut_links(indices.iter().map(|&index| &self.running[index].0))?;
        let at = nanos();
        for &index in &indices {
            if let Some(running) = &self.running[index].1 {
                running.init.signal(nix::sys::signal::Signal::SIGKILL)?;
            }
        }
        for &index in &indices {
            let Some(mut running) = self.running[index].1.take() else { continue };
            running.init.kill_and_wait(DEATH)?;
            running.anchor.wait().context("reap an anchor")?;
            let host = self.running[index].0.clone();
            switch::unplug(&host)?;
            let cgroup = self.host_cgroup(&host.name);
            wait::wait_for(&format!("empty control group of {}", host.name), DEATH, || {
                remove_cgroup(&cgroup).map_err(|error| format!("{error:#}"))
            })?;
        }
        self.record()?;
        Ok(json!({ "at_nanos": at }))
    }

    /// Ends every host. Links first, as always; but what hangs in a frozen file system cannot be ended.
    fn end(&mut self) -> Result<()> {
        for host in self.frozen.clone() {
            self.freeze_disk(&host, false)?;
        }
        let names: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| running.is_some())
            .map(|(host, _)| host.name.clone())
            .collect();
        self.power_off(&names)?;
        remove_cgroup(&self.lab.cgroups().join(&self.cgroup))
    }

    fn host_cgroup(&self, name: &str) -> PathBuf {
        self.lab.cgroups().join(&self.cgroup).join(name)
    }

    fn record(&self) -> Result<()> {
        let mut hosts = Vec::new();
        for (_, running) in &self.running {
            if let Some(running) = running {
                hosts.push(running.init);
                let anchor = i32::try_from(running.anchor.id()).context("process id")?;
                hosts.extend(ProcessId::of(anchor).ok());
            }
        }
        let cgroup = self.cgroup.clone();
        self.lab.write_remains(&Remains {
            boot_id: boot_id()?,
            keeper: Some(ProcessId::own()?),
            hosts,
            cgroup,
        })
    }

    /// Gives each database host a file system of its own for its data.
    fn mount_data_disks(&self) -> Result<()> {
        let Some(disk) = self.plan.data_disk else { return Ok(()) };
        for host in self.plan.hosts.iter().filter(|host| host.role == Role::Database) {
            let path = self.data_disk_of(&host.name);
            disk.mount(&path).with_context(|| format!("the data disk of {}", host.name))?;
        }
        Ok(())
    }

    fn data_disk_of(&self, host: &str) -> PathBuf {
        self.lab.host(host).join("lib/postgresql")
    }

    fn freeze_disk(&mut self, host: &str, frozen: bool) -> Result<Value> {
        if self.plan.data_disk != Some(DataDisk::Freezable) {
            bail!("this lab's disks cannot be frozen");
        }
        data_disk::freeze(&self.data_disk_of(host), frozen)?;
        if frozen {
            self.frozen.insert(host.to_owned());
        } else {
            self.frozen.remove(host);
        }
        Ok(json!({ "at_nanos": nanos() }))
    }
}

fn nanos() -> u64 {
    u64::try_from(clock::now().as_nanos()).unwrap_or(u64::MAX)
}
