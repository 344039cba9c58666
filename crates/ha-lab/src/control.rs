//! The words between the lab's processes: one JSON line there, one JSON line back, over a unix socket in the lab's directory.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::process_id::ProcessId;
use crate::switch::Cut;
use crate::topology::LabHost;

/// What the keeper of a lab is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeeperRequest {
    /// The hosts and what is cut.
    Status,
    /// Ends hosts without warning: link first, then every process. All links go before the first process.
    PowerOff(Vec<String>),
    /// Starts hosts with the files they had.
    PowerOn(Vec<String>),
    /// Takes hosts' links down or up again, all in one step; their processes go on.
    Cables {
        /// Which hosts.
        hosts: Vec<String>,
        /// Whether the cable is in.
        plugged: bool,
    },
    /// Adds cuts to those that are in force, in one step.
    Cut(Vec<Cut>),
    /// Puts exactly these cuts in force, in one step.
    SetCuts(Vec<Cut>),
    /// Ends all cuts.
    Heal,
    /// Lets a host's data disk hang, or go on.
    FreezeDisk {
        /// Which host's.
        host: String,
        /// Whether it hangs.
        frozen: bool,
    },
    /// Ends the lab.
    Shutdown,
}

/// What the keeper answers to [`KeeperRequest::Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// Every host, on or off.
    pub hosts: Vec<HostState>,
    /// What is cut.
    pub cuts: Vec<Cut>,
}

/// One host as its keeper knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostState {
    /// Which host.
    pub host: LabHost,
    /// Its first process; nothing while it is off.
    pub init: Option<ProcessId>,
}

/// What the first process of a host is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostRequest {
    /// What runs.
    Status,
    /// Starts a daemon (and ends its masking).
    Start(String),
    /// Ends a daemon as `systemctl stop` would: TERM, later KILL, and it stays down.
    Stop(String),
    /// From now on the daemon is not restarted when it ends.
    Mask(String),
    /// Undoes a mask; a daemon that is down is started.
    Unmask(String),
    /// Sends a signal to a daemon's main process, or to the postmaster when the name is `postgres`.
    Signal {
        /// The daemon.
        unit: String,
        /// The signal's name: `SIGKILL`, `SIGSTOP`, ...
        signal: String,
    },
    /// Fills the file system that holds PostgreSQL's data to the last block.
    FillDisk,
    /// Removes what filled it.
    FreeDisk,
}

/// What a host answers to [`HostRequest::Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostStatus {
    /// Every daemon of the host.
    pub units: Vec<UnitStatus>,
    /// The postmaster's id inside the host; nothing when none runs.
    pub postmaster: Option<i32>,
}

/// One daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Which.
    pub name: String,
    /// Its process inside the host; nothing while it is down.
    pub pid: Option<i32>,
    /// How often it was started since the host's power-on.
    pub starts: u32,
    /// How it ended last.
    pub last_end: Option<String>,
    /// Whether it is not restarted.
    pub masked: bool,
}

/// Bound of one exchange. The longest request (stopping a daemon) has 30 s of its own.
const EXCHANGE: Duration = Duration::from_secs(60);
/// How long a server waits for the rest of a request: a client that stalls must not stop the lab.
const REQUEST: Duration = Duration::from_secs(5);

/// A path to `file` below `directory` that is short enough for a socket address (107 bytes), however deep the directory lies.
/// The returned handle must live as long as the path is used.
fn short_path(directory: &Path, file: &str) -> Result<(std::fs::File, PathBuf)> {
    let handle = std::fs::File::open(directory).with_context(|| format!("open {}", directory.display()))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{file}", handle.as_raw_fd()));
    Ok((handle, path))
}

/// Listens on `file` in `directory`, replacing what was left there.
pub(crate) fn listen(directory: &Path, file: &str) -> Result<UnixListener> {
    let (_handle, path) = short_path(directory, file)?;
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {file}")),
    }
    UnixListener::bind(&path).with_context(|| format!("listen on {}/{file}", directory.display()))
}

/// Sends one request and reads its answer.
pub(crate) fn ask<Q: Serialize, A: DeserializeOwned>(directory: &Path, file: &str, request: &Q) -> Result<A> {
    let (_handle, path) = short_path(directory, file)?;
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("connect to {}/{file}: is the lab up?", directory.display()))?;
    stream.set_read_timeout(Some(EXCHANGE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).with_context(|| format!("answer to {}", line.trim()))?;
    let answer: Result<A, String> =
        serde_json::from_str(&answer).with_context(|| format!("answer to {}: {answer:?}", line.trim()))?;
    answer.map_err(|text| anyhow::anyhow!("{text}"))
}

/// Serves one connection: one request, one answer.
pub(crate) fn answer<Q: DeserializeOwned>(
    stream: UnixStream,
    serve: impl FnOnce(Q) -> Result<serde_json::Value>,
) -> Result<()> {
    stream.set_read_timeout(Some(REQUEST))?;
    stream.set_write_timeout(Some(REQUEST))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("read a request")?;
    if line.is_empty() {
        bail!("connection closed before a request");
    }
    let result = serde_json::from_str(&line)
        .with_context(|| format!("request {line:?}"))
        .and_then(serve)
        .map_err(|error| format!("{error:#}"));
    let mut reply = serde_json::to_string(&result)?;
    reply.push('\n');
    (&stream).write_all(reply.as_bytes()).context("write an answer")
}
