//! Why a virtual router did something: the words of its log and of its status.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ha_core::MemberName;

use crate::alarm::Alarm;
use crate::state::State;
use crate::tracking::ProxyHealth;

/// Why the state is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Not started yet.
    NotStarted,
    /// The program started.
    Started,
    /// The program took the place of one that had held the address until just now.
    Resumed,
    /// This host is the one that owns the address.
    OwnsAddress,
    /// Link and source address are there.
    LinkUp,
    /// Link or source address are missing.
    LinkDown {
        /// In words.
        why: Arc<str>,
    },
    /// Something that is tracked with weight 0 failed.
    TrackFailed {
        /// What, in words.
        what: Arc<str>,
    },
    /// It is well again.
    TracksWell,
    /// No advertisement for the Down interval.
    ActiveSilent {
        /// How long.
        silence: Duration,
    },
    /// The Active said that it leaves.
    ActiveLeft {
        /// Who.
        source: IpAddr,
    },
    /// The Active is in a worse tier.
    ActiveYielded {
        /// Who.
        source: IpAddr,
        /// With what.
        priority: u8,
    },
    /// The Active is as healthy and less preferred, and the delay is over.
    Preempted {
        /// Who.
        source: IpAddr,
        /// With what.
        priority: u8,
    },
    /// The Active is worse off and asked for it.
    AskedToTakeOver {
        /// Who.
        peer: MemberName,
        /// With what.
        priority: u8,
    },
    /// Another router with a higher priority is Active.
    HigherPriority {
        /// Who.
        source: IpAddr,
        /// With what.
        priority: u8,
    },
    /// Another router with the same priority and a higher address is Active.
    HigherAddress {
        /// Who.
        source: IpAddr,
    },
    /// A peer has been heard but not understood for so long that it is no longer waited for.
    ConflictOutwaited,
    /// The program did not run for longer than the Down interval.
    WokeUp {
        /// How long.
        gap: Duration,
    },
    /// Somebody removes the address again and again.
    AddressTaken,
    /// The program was asked to end.
    Stopped,
}

/// One thing worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The state changed.
    Changed {
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        because: Cause,
    },
    /// The effective priority changed with the proxy.
    PriorityChanged {
        /// Before.
        from: u8,
        /// Now.
        to: u8,
        /// The proxy's health.
        proxy: ProxyHealth,
    },
    /// Maintenance mode began: the address stays where it is while its holder can keep it.
    Frozen,
    /// Maintenance mode is over.
    Thawed,
    /// The settings were changed.
    Tuned,
    /// The effective priority changed with what is tracked or set.
    PriorityTracked {
        /// Before.
        from: u8,
        /// Now.
        to: u8,
    },
    /// The Active is as healthy and less preferred: the address is taken back after the delay.
    PreemptionDelayed {
        /// Who is Active.
        source: IpAddr,
        /// With what.
        priority: u8,
        /// How long from now.
        delay: Duration,
    },
    /// The address would be taken over now, but a peer is heard and not understood.
    HeldBack {
        /// At most for this long.
        remaining: Duration,
    },
    /// The address would be taken over now, but another cluster uses the same identifier.
    HeldBackByForeign {
        /// Who.
        source: IpAddr,
    },
    /// Somebody removed the address; it is put back.
    AddressRestored,
    /// An operator wants another host to hold the address.
    StepsAside,
    /// Another host is asked to take the address over.
    AsksToTakeOver {
        /// Who.
        peer: MemberName,
    },
    /// Another host asked to be relieved, and this one does not do it.
    DoesNotTakeOver {
        /// Who.
        peer: MemberName,
        /// In words.
        why: &'static str,
    },
    /// No other host took it.
    NobodyTookOver,
    /// Something was seen that should not be.
    Noticed(Alarm),
}

impl Reason {
    /// Whether a human should see it: a warning rather than information.
    pub fn needs_attention(&self) -> bool {
        match self {
            Self::Noticed(alarm) => alarm.kind.needs_attention(),
            Self::HeldBack { .. }
            | Self::HeldBackByForeign { .. }
            | Self::AddressRestored
            | Self::NobodyTookOver => true,
            Self::Changed { because, .. } => {
                matches!(
                    because,
                    Cause::LinkDown { .. }
                        | Cause::TrackFailed { .. }
                        | Cause::WokeUp { .. }
                        | Cause::AddressTaken
                        | Cause::ConflictOutwaited
                )
            }
            Self::PriorityChanged { .. }
            | Self::Frozen
            | Self::Thawed
            | Self::Tuned
            | Self::PriorityTracked { .. }
            | Self::PreemptionDelayed { .. }
            | Self::StepsAside
            | Self::AsksToTakeOver { .. }
            | Self::DoesNotTakeOver { .. } => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("not started"),
            Self::Started => f.write_str("started"),
            Self::Resumed => f.write_str("goes on where an earlier process ended just now"),
            Self::OwnsAddress => f.write_str("this host owns the address (priority 255)"),
            Self::LinkUp => f.write_str("the link is up"),
            Self::LinkDown { why } => f.write_str(why),
            Self::TrackFailed { what } => f.write_str(what),
            Self::TracksWell => f.write_str("what is tracked is well again"),
            Self::ActiveSilent { silence } => write!(f, "no advertisement for {} ms", silence.as_millis()),
            Self::ActiveLeft { source } => write!(f, "{source} leaves"),
            Self::ActiveYielded { source, priority } => {
                write!(f, "{source} is in worse health (priority {priority})")
            }
            Self::AskedToTakeOver { peer, priority } => {
                write!(f, "{peer} asked for it (priority {priority})")
            }
            Self::Preempted { source, priority } => {
                write!(f, "{source} is less preferred (priority {priority})")
            }
            Self::HigherPriority { source, priority } => {
                write!(f, "{source} has the higher priority {priority}")
            }
            Self::HigherAddress { source } => {
                write!(f, "{source} has the same priority and the higher address")
            }
            Self::ConflictOutwaited => {
                f.write_str("a peer that is not understood has been waited for long enough")
            }
            Self::WokeUp { gap } => write!(f, "nothing ran here for {} ms", gap.as_millis()),
            Self::AddressTaken => f.write_str("the address is removed again and again"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { from, to, because } => write!(f, "{from} -> {to}: {because}"),
            Self::PriorityChanged { from, to, proxy } => {
                write!(f, "priority {from} -> {to}: the proxy is {proxy}")
            }
            Self::Frozen => f.write_str("maintenance mode: the address moves only if its holder fails"),
            Self::Thawed => f.write_str("maintenance mode is over: preference counts again"),
            Self::Tuned => f.write_str("other settings are in force"),
            Self::PriorityTracked { from, to } => {
                write!(f, "priority {from} -> {to}: by what is tracked or set")
            }
            Self::PreemptionDelayed { source, priority, delay } => {
                write!(
                    f,
                    "{source} is less preferred (priority {priority}): taking over in {} ms",
                    delay.as_millis()
                )
            }
            Self::HeldBack { remaining } => {
                write!(
                    f,
                    "not taking over for up to {} s: a peer is heard but not understood",
                    remaining.as_secs()
                )
            }
            Self::HeldBackByForeign { source } => {
                write!(f, "not taking over as long as {source} uses our identifier for other addresses")
            }
            Self::AddressRestored => f.write_str("somebody removed the address: putting it back"),
            Self::StepsAside => {
                f.write_str("an operator wants another host to hold the address: stepping aside")
            }
            Self::AsksToTakeOver { peer } => write!(f, "{peer} is asked to take the address over"),
            Self::DoesNotTakeOver { peer, why } => {
                write!(f, "{peer} asks to take the address over: not done, {why}")
            }
            Self::NobodyTookOver => f.write_str("no other host took the address: going on as before"),
            Self::Noticed(alarm) => write!(f, "{alarm} (seen {} times)", alarm.times),
        }
    }
}
