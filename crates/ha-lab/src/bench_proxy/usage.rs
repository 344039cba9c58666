//! What a process has used, as the kernel counts it.

use anyhow::{Context as _, Result};

use crate::lab::Lab;

/// Processor time and memory of one process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
    /// User and system time since it started, seconds.
    pub(super) cpu: f64,
    /// Resident memory, KiB.
    pub(super) resident: f64,
}

impl Usage {
    /// Of a process of a host, by its number there.
    pub(super) fn of(lab: &Lab, host: &str, pid: i32) -> Result<Self> {
        let read = |name: &str| -> Result<String> {
            Ok(lab.exec(host, &["cat", &format!("/proc/{pid}/{name}")])?.stdout)
        };
        let ticks = ticks()?;
        let cpu = ticks_of(&read("stat")?).with_context(|| format!("/proc/{pid}/stat on {host}"))?;
        let resident =
            resident_of(&read("status")?).with_context(|| format!("/proc/{pid}/status on {host}"))?;
        Ok(Self { cpu: cpu as f64 / ticks as f64, resident })
    }
}

/// Seconds that all processors of this machine have worked since it started: `cpu` of proc(5)'s stat but for `idle` and
/// `iowait`, and for `guest`, which is in `user` already.
pub(super) fn machine_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    Ok(worked_of(&text).context("/proc/stat")? as f64 / ticks()? as f64)
}

fn ticks() -> Result<i64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.context("the kernel does not tell its clock ticks")
}

fn worked_of(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let (user_nice_system, after_waits) = (fields.get(..3)?, fields.get(5..8)?);
    Some(user_nice_system.iter().chain(after_waits).sum())
}

/// `utime` and `stime` of proc(5): the 14th and 15th field, counted behind the command's closing parenthesis.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_of(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_brackets_moves_no_field() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 3 0 1000 1 1 1";
        assert_eq!(ticks_of(stat), Some(281));
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t3\n"), Some(5120.0));
        assert_eq!(ticks_of("gone"), None);
        assert_eq!(worked_of("cpu  100 20 3 5000 60 7 8 9 1000 0\ncpu0 1 1 1"), Some(147));
    }
}
