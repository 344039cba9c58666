//! What a lab's hosts are made to suffer.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::DataDisk;
use crate::clock;
use crate::control::{HostRequest, HostState, KeeperRequest};
use crate::lab::Lab;
use crate::switch::Cut;
use crate::wait::wait_for;

impl Lab {
    /// Ends hosts without warning: all their links, then all their processes. Returns when their links went down, on the
    /// monotonic clock.
    ///
    /// # Errors
    /// There is no such host.
    pub fn power_off(&self, hosts: &[&str]) -> Result<Duration> {
        self.instant(&KeeperRequest::PowerOff(own(hosts)))
    }

    /// Starts hosts with the files they had.
    ///
    /// # Errors
    /// One is on already.
    pub fn power_on(&self, hosts: &[&str]) -> Result<()> {
        self.ask_keeper::<Value>(&KeeperRequest::PowerOn(own(hosts))).map(drop)
    }

    /// Adds cuts, all at once. Returns when they took force.
    ///
    /// # Errors
    /// There is no such host.
    pub fn cut(&self, cuts: Vec<Cut>) -> Result<Duration> {
        self.instant(&KeeperRequest::Cut(cuts))
    }

    /// Puts exactly these cuts in force in place of all others, in one step. Returns when.
    ///
    /// # Errors
    /// There is no such host.
    pub fn set_cuts(&self, cuts: Vec<Cut>) -> Result<Duration> {
        self.instant(&KeeperRequest::SetCuts(cuts))
    }

    /// Cuts hosts off from everybody, the clients included.
    ///
    /// # Errors
    /// There is no such host.
    pub fn isolate(&self, hosts: &[&str]) -> Result<Duration> {
        let names: Vec<&str> = self.hosts().iter().map(|host| host.name.as_str()).collect();
        let others: Vec<&str> = names.into_iter().filter(|name| !hosts.contains(name)).collect();
        self.cut(Cut::between(hosts, &others))
    }

    /// Ends all cuts. Returns when.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn heal(&self) -> Result<Duration> {
        self.instant(&KeeperRequest::Heal)
    }

    /// Pulls the cables of hosts: their interfaces lose their carrier. Returns when.
    ///
    /// # Errors
    /// A host is off.
    pub fn pull_cables(&self, hosts: &[&str]) -> Result<Duration> {
        self.instant(&KeeperRequest::Cables { hosts: own(hosts), plugged: false })
    }

    /// Puts the cables of hosts back in. Returns when.
    ///
    /// # Errors
    /// A host is off.
    pub fn plug_cables(&self, hosts: &[&str]) -> Result<Duration> {
        self.instant(&KeeperRequest::Cables { hosts: own(hosts), plugged: true })
    }

    /// Sends a signal (`SIGKILL`, `SIGSTOP`, `SIGCONT`, ...) to a daemon's main process; `postgres` is the postmaster.
    /// Returns when.
    ///
    /// # Errors
    /// The daemon does not run.
    pub fn signal(&self, host: &str, unit: &str, signal: &str) -> Result<Duration> {
        let request = HostRequest::Signal { unit: unit.to_owned(), signal: signal.to_owned() };
        self.ask_host::<Value>(host, &request)?;
        Ok(clock::now())
    }

    /// From now on a daemon is not restarted when it ends.
    ///
    /// # Errors
    /// The host is off, or has no such daemon.
    pub fn mask(&self, host: &str, unit: &str) -> Result<()> {
        self.ask_host::<Value>(host, &HostRequest::Mask(unit.to_owned())).map(drop)
    }

    /// Starts a daemon that is down, and ends its masking.
    ///
    /// # Errors
    /// The host is off, or the daemon cannot be started.
    pub fn start_unit(&self, host: &str, unit: &str) -> Result<()> {
        self.ask_host::<Value>(host, &HostRequest::Start(unit.to_owned())).map(drop)
    }

    /// Ends a daemon as `systemctl stop` does and waits until it has ended.
    ///
    /// # Errors
    /// It did not end within 40 s.
    pub fn stop_unit(&self, host: &str, unit: &str) -> Result<()> {
        self.ask_host::<Value>(host, &HostRequest::Stop(unit.to_owned()))?;
        wait_for(&format!("end of {unit} on {host}"), Duration::from_secs(40), || {
            let status = self.host_status(host).map_err(|error| format!("{error:#}"))?;
            match status.units.into_iter().find(|other| other.name == unit).and_then(|unit| unit.pid) {
                Some(pid) => Err(format!("process {pid}")),
                None => Ok(()),
            }
        })
    }

    /// Fills a host's data disk to the last block.
    ///
    /// # Errors
    /// The lab has no data disks of its own: filling the machine's would hurt everybody.
    pub fn fill_disk(&self, host: &str) -> Result<()> {
        let small = matches!(self.plan().data_disk, Some(DataDisk::Small { .. }));
        ensure!(small, "this lab's hosts have no small disks of their own: not filled");
        self.ask_host::<Value>(host, &HostRequest::FillDisk).map(drop)
    }

    /// Empties what [`Self::fill_disk`] filled.
    ///
    /// # Errors
    /// The host is off.
    pub fn free_disk(&self, host: &str) -> Result<()> {
        self.ask_host::<Value>(host, &HostRequest::FreeDisk).map(drop)
    }

    /// Lets every write to a host's data disk hang in the kernel. Returns when.
    ///
    /// # Errors
    /// The lab's disks cannot be frozen.
    pub fn freeze_disk(&self, host: &str) -> Result<Duration> {
        self.instant(&KeeperRequest::FreezeDisk { host: host.to_owned(), frozen: true })
    }

    /// Ends that.
    ///
    /// # Errors
    /// It was not frozen.
    pub fn thaw_disk(&self, host: &str) -> Result<Duration> {
        self.instant(&KeeperRequest::FreezeDisk { host: host.to_owned(), frozen: false })
    }

    /// Undoes every fault: cuts, cables, hosts that are off, daemons that are frozen, masked or down.
    ///
    /// # Errors
    /// Something could not be undone.
    pub fn restore(&self) -> Result<()> {
        self.heal()?;
        let hosts = self.status()?.hosts;
        let (on, off): (Vec<_>, Vec<_>) = hosts.iter().partition(|state| state.init.is_some());
        let names = |states: Vec<&HostState>| -> Vec<String> {
            states.iter().map(|state| state.host.name.clone()).collect()
        };
        let (on, off) = (names(on), names(off));
        self.plug_cables(&on.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.power_on(&off.iter().map(String::as_str).collect::<Vec<_>>())?;
        for host in &on {
            let status = self.host_status(host)?;
            if status.postmaster.is_some() {
                self.signal(host, "postgres", "SIGCONT")?;
            }
            for unit in status.units {
                if unit.pid.is_some() {
                    self.signal(host, &unit.name, "SIGCONT")?;
                }
                if unit.masked || unit.pid.is_none() {
                    self.start_unit(host, &unit.name)?;
                }
            }
        }
        Ok(())
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
