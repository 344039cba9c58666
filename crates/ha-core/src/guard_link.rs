//! The messages between an agent and its guard, and their bytes.
//!
//! They travel over a Unix `SOCK_SEQPACKET` socket: one message is one datagram of at most [`MESSAGE_MAX`] bytes,
//! little endian, with a version, a kind and a CRC-32 (see `frame`). What does not decode has no effect; the
//! guard counts it. Every [`Request`] carries a `seq` that must grow within one connection and comes back in the reply;
//! a [`Reply`] without `seq` is a notice, sent to every connection when it happens.
//!
//! How an agent uses it:
//! 1. [`Request::Hello`], answered by [`Reply::Status`]: what the guard holds and what runs. A fence that nobody has
//!    acknowledged yet stands in it ([`GuardStatus::fence`]).
//! 2. [`Request::AcknowledgeFenced`] if there is one: until then [`Request::Start`] is refused, so that a restarted agent
//!    cannot overlook that its predecessor's PostgreSQL was cut off in the middle of its work.
//! 3. [`Request::Start`] starts the postmaster; [`Request::Arm`] before the first write may be acknowledged;
//!    [`Request::Renew`] with each new evidence; [`Request::Release`] after PostgreSQL is down or has shown to be a standby.
//!
//! Deadlines are absolute and computed by the agent from the instant *before* it asked the store, so a delay anywhere
//! makes them earlier relative to the lease, never later. The end of a connection changes nothing.

mod frame;
mod reply;
mod request;

pub use frame::{FrameError, MESSAGE_MAX, PROTOCOL_VERSION};

use std::fmt;
use std::time::Duration;

use crate::{BootId, Epoch, Generation, MonoTime};

/// What an agent asks of its guard. Each is answered by exactly one reply with the same `seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// First message of a connection. Answered by [`Reply::Status`], or refused with [`RefusalCode::WrongBoot`].
    Hello {
        /// Number of this request.
        seq: u64,
        /// The boot that the sender's times belong to.
        boot_id: BootId,
    },
    /// Start the postmaster. The program, `-D`, user and log file come from the guard's own configuration.
    /// Answered by [`Reply::Started`], [`Reply::StartFailed`] or [`Reply::Refused`].
    Start {
        /// Number of this request.
        seq: u64,
        /// Settings for the command line, each passed as `-c name=value`. `data_directory` is refused.
        settings: Vec<(String, String)>,
    },
    /// Hold this deadline for a new leadership. With the epoch already armed it is a renewal, except that a deadline
    /// which is not later than the one held is acknowledged with the one held (an agent that came back may ask so).
    Arm {
        /// Number of this request.
        seq: u64,
        /// The leadership; not lower than any armed before.
        epoch: Epoch,
        /// Generation of the sync record with which this leadership was won or re-acquired. A fenced epoch can be armed
        /// again only with a higher one: by a leader that has re-acquired it by compare-and-swap since, not by one
        /// that slept through the fence.
        generation: Generation,
        /// When this host must have stopped acknowledging; the guard kills `kill_lead` earlier.
        deadline: MonoTime,
        /// The boot that `deadline` belongs to.
        boot_id: BootId,
    },
    /// Move the deadline of the armed epoch forward.
    Renew {
        /// Number of this request.
        seq: u64,
        /// The armed epoch.
        epoch: Epoch,
        /// Later than the deadline held.
        deadline: MonoTime,
    },
    /// Hold no deadline any more. Refused, and still armed, unless no primary can be running.
    Release {
        /// Number of this request.
        seq: u64,
        /// The armed epoch.
        epoch: Epoch,
        /// Why no primary can be running.
        proof: NoPrimary,
    },
    /// Maintenance: do not fence before `until`, even if the deadline passes. Ends by itself.
    Hold {
        /// Number of this request.
        seq: u64,
        /// The armed epoch.
        epoch: Epoch,
        /// At most [`HOLD_MAX`] ahead; a time that is past ends a hold.
        until: MonoTime,
    },
    /// End every process of the group now, for instance after a stop that did not succeed. The guard stays armed.
    KillAll {
        /// Number of this request.
        seq: u64,
        /// Why, for the guard's log.
        reason: String,
    },
    /// Report. Answered by [`Reply::Status`].
    Status {
        /// Number of this request.
        seq: u64,
    },
    /// The agent has noted that this epoch was fenced.
    AcknowledgeFenced {
        /// Number of this request.
        seq: u64,
        /// The fenced epoch.
        epoch: Epoch,
    },
}

/// The longest time that a [`Request::Hold`] may keep the fence back: an unbounded disarm is how clusters lose it.
pub const HOLD_MAX: Duration = Duration::from_secs(3600);

impl Request {
    /// The number that the reply will carry.
    pub fn seq(&self) -> u64 {
        match self {
            Self::Hello { seq, .. }
            | Self::Start { seq, .. }
            | Self::Arm { seq, .. }
            | Self::Renew { seq, .. }
            | Self::Release { seq, .. }
            | Self::Hold { seq, .. }
            | Self::KillAll { seq, .. }
            | Self::Status { seq }
            | Self::AcknowledgeFenced { seq, .. } => *seq,
        }
    }
}

/// Why no process of the group can acknowledge a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPrimary {
    /// Nothing runs. The guard looks for itself.
    Empty,
    /// The agent has seen that the postmaster of this start is in recovery and will not promote it. The guard checks
    /// that it is still this start.
    Standby {
        /// The start that was looked at ([`Reply::Started`]).
        start: u64,
    },
}

/// What a guard says: the answer to a request, or a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ack {
        /// The request.
        seq: u64,
        /// What is armed after it.
        armed: Option<Armed>,
        /// Which layers stand behind the deadline.
        layers: Layers,
    },
    /// Not done, nothing changed.
    Refused {
        /// The request.
        seq: u64,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, with the values, for people.
        text: String,
    },
    /// The postmaster is running (not: accepting connections).
    Started {
        /// The request.
        seq: u64,
        /// Process id of the postmaster, as seen from the guard's PID namespace.
        pid: u32,
        /// Number of this start; grows with each start for as long as the machine is up.
        start: u64,
    },
    /// The postmaster could not be started.
    StartFailed {
        /// The request.
        seq: u64,
        /// Why.
        text: String,
    },
    /// Answer to [`Request::Hello`] and [`Request::Status`].
    Status {
        /// The request.
        seq: u64,
        /// The report.
        status: GuardStatus,
    },
    /// Notice: the postmaster has ended. Others of the group may still run, see [`Reply::Emptied`].
    Exited {
        /// Which postmaster.
        pid: u32,
        /// Its start.
        start: u64,
        /// How.
        outcome: ExitOutcome,
    },
    /// Notice: no process is left in the group.
    Emptied {
        /// The start that has ended completely.
        start: u64,
    },
    /// Notice: the deadline passed and the guard ended PostgreSQL. Repeated when `empty` becomes true.
    Fenced(Fence),
    /// Notice: a hold has ended by itself; the deadline counts again.
    HoldEnded {
        /// The armed epoch.
        epoch: Epoch,
    },
}

impl Reply {
    /// The request that this answers; `None` for a notice.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Ack { seq, .. }
            | Self::Refused { seq, .. }
            | Self::Started { seq, .. }
            | Self::StartFailed { seq, .. }
            | Self::Status { seq, .. } => Some(*seq),
            Self::Exited { .. } | Self::Emptied { .. } | Self::Fenced(_) | Self::HoldEnded { .. } => None,
        }
    }
}

/// The deadline that a guard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Armed {
    /// For this leadership.
    pub epoch: Epoch,
    /// When nothing may run any more.
    pub deadline: MonoTime,
}

/// One fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The leadership that has ended here; 0 if it is not known (the state was lost).
    pub epoch: Epoch,
    /// The generation it was armed with; the epoch can be armed again only with a higher one.
    pub generation: Generation,
    /// When the guard gave the first kill.
    pub at: MonoTime,
    /// By what means.
    pub how: FenceMethod,
    /// Whether the group was seen empty afterwards.
    pub empty: bool,
}

/// How the group was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceMethod {
    /// `cgroup.kill`: the kernel ends all at once, forks included.
    CgroupKill,
    /// SIGKILL to each process of `cgroup.procs`, until none is left (Linux before 5.14).
    SignalLoop,
    /// The group frozen by cgroup v1, SIGKILL to each process, thawed.
    Freezer,
    /// Every descendant of the postmaster and everybody in its data directory, stopped and then sent SIGKILL.
    ProcessWalk,
    /// Found fenced when the guard started: its predecessor recorded it, or the deadline had passed meanwhile.
    FoundAtStart,
}

/// How a postmaster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitOutcome {
    /// By itself, with this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Not known: it was started by an earlier guard, so its status went to init.
    Unknown,
}

impl fmt::Display for ExitOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("unknown status"),
        }
    }
}

/// Whether a layer of the fence must be there: the guard itself, or what stands behind its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LayerMode {
    /// Without it no deadline is held, so nobody is promoted here.
    Required,
    /// Used where it works; shown where it does not.
    #[default]
    Automatic,
    /// Never used: for tests and hosts that are fenced by other means.
    Off,
}

/// The layers that stand behind a deadline, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layers(pub u32);

impl Layers {
    /// The guard itself kills the group.
    pub const PROCESS: Self = Self(1);
    /// With one write to `cgroup.kill` (otherwise by signals in a loop).
    pub const CGROUP_KILL: Self = Self(2);
    /// The guard's thread has real-time priority and its memory is locked.
    pub const REAL_TIME: Self = Self(4);
    /// A kernel timer ends the group at the deadline, without any program.
    pub const KERNEL_FUSE: Self = Self(8);
    /// A watchdog device, held open and pinged by the guard, resets the machine.
    pub const HARDWARE: Self = Self(16);

    /// Each with its name, as people read it.
    const NAMES: [(Self, &'static str); 5] = [
        (Self::PROCESS, "guard"),
        (Self::CGROUP_KILL, "group kill"),
        (Self::REAL_TIME, "real time"),
        (Self::KERNEL_FUSE, "kernel fuse"),
        (Self::HARDWARE, "hardware watchdog"),
    ];

    /// The names of those in this set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(layer, _)| self.contains(*layer)).map(|(_, name)| name)
    }

    /// Whether all of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// What is worse than it should be, as a set; shown to the administrator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Degraded(pub u32);

impl Degraded {
    /// Real-time scheduling was refused.
    pub const NOT_REAL_TIME: Self = Self(1);
    /// Memory could not be locked.
    pub const NOT_LOCKED: Self = Self(2);
    /// No `cgroup.kill`: signals in a loop.
    pub const NO_CGROUP_KILL: Self = Self(4);
    /// A primary may be running and nobody holds a deadline for it: the state was lost, and no agent has armed it yet.
    pub const UNPROTECTED: Self = Self(8);
    /// The group was not empty after a fence; some process hangs in the kernel with SIGKILL pending.
    pub const NOT_EMPTY_AFTER_FENCE: Self = Self(16);
    /// The state or the fence record could not be written.
    pub const STATE_NOT_WRITTEN: Self = Self(32);
    /// No kernel fuse stands behind the deadline: a guard that is stopped itself acts late.
    pub const NO_KERNEL_FUSE: Self = Self(64);
    /// There is a watchdog device and it is not behind the deadline: it cannot be used, or does not take pings.
    pub const WATCHDOG: Self = Self(256);

    /// Each with a sentence for people.
    const WORDS: [(Self, &'static str); 8] = [
        (Self::NOT_REAL_TIME, "no real-time priority: may be late on a starved host"),
        (Self::NOT_LOCKED, "memory is not locked: may be slow when memory runs out"),
        (Self::NO_CGROUP_KILL, "no cgroup.kill: processes are killed one by one"),
        (Self::UNPROTECTED, "unprotected: a primary may be running and no deadline is held for it"),
        (Self::NOT_EMPTY_AFTER_FENCE, "fenced, but not empty: a killed process hangs in the kernel"),
        (Self::STATE_NOT_WRITTEN, "the state cannot be written: a successor would not know the deadline"),
        (Self::NO_KERNEL_FUSE, "no kernel fuse: a guard that is stopped itself acts late"),
        (Self::WATCHDOG, "the watchdog device is not behind the deadline"),
    ];

    /// A sentence for each in this set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().filter(move |(what, _)| self.contains(*what)).map(|(_, words)| words)
    }

    /// Whether all of `other` is in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What a guard reports about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardStatus {
    /// The boot that all times below belong to.
    pub boot_id: BootId,
    /// When the report was made.
    pub now: MonoTime,
    /// The deadline held.
    pub armed: Option<Armed>,
    /// No fence before this time.
    pub hold_until: Option<MonoTime>,
    /// The highest epoch that was fenced here; 0 for none. See [`Request::Arm`] for what can be armed after it.
    pub fenced_through: Epoch,
    /// A fence that no agent has acknowledged yet.
    pub fence: Option<Fence>,
    /// The postmaster's process id, while it runs.
    pub postmaster: Option<u32>,
    /// Number of the latest start; 0 before the first.
    pub start: u64,
    /// Whether any process is in the group.
    pub populated: bool,
    /// Layers behind the deadline.
    pub layers: Layers,
    /// What is worse than it should be.
    pub degraded: Degraded,
    /// How much before the deadline the guard kills.
    pub kill_lead: Duration,
    /// The watchdog device.
    pub watchdog: WatchdogStatus,
    /// The guard's own resident memory in bytes.
    pub resident_bytes: u64,
    /// Messages that did not decode or came from the wrong user.
    pub rejected_messages: u64,
}

/// What a guard reports about the watchdog device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchdogStatus {
    /// Whether it must be there.
    pub mode: LayerMode,
    /// So long after the last ping the machine is reset; only while the guard holds the device.
    pub timeout: Option<Duration>,
    /// Which device, or why none, for people.
    pub text: String,
}

/// Why a guard refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalCode {
    /// The sender's times belong to another boot.
    WrongBoot,
    /// `seq` was not higher than the last one of this connection.
    StaleSequence,
    /// No deadline is held.
    NotArmed,
    /// Another epoch is armed.
    OtherEpoch,
    /// An epoch at least as high was armed before.
    EpochTooLow,
    /// The epoch was fenced and has not been re-acquired since, or a higher one was fenced.
    EpochFenced,
    /// The deadline is past, or so near that the kill would be due.
    DeadlinePast,
    /// The deadline is further ahead than any lease can be.
    DeadlineTooFar,
    /// Not later than the deadline held.
    DeadlineNotLater,
    /// A process is in the group.
    Populated,
    /// The proof does not hold: a primary may be running.
    PrimaryMayRun,
    /// A hold of more than [`HOLD_MAX`].
    HoldTooLong,
    /// A setting that may not be given, or is not well formed.
    BadSetting,
    /// A fence has not been acknowledged.
    FenceNotAcknowledged,
    /// The guard is being stopped, or is fencing.
    Stopping,
    /// A layer that the configuration requires does not stand behind the deadline.
    LayerMissing,
}
