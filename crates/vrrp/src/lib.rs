//! VRRP versions 2 and 3 over IPv4 and IPv6: the packets, and the virtual router as a plain function of state, time and event.
//!
//! This crate opens no socket, changes no address and reads no clock: the program that uses it feeds
//! [`VirtualRouter`] with [`Event`]s and carries out its [`Action`]s, in the order handed out. Nothing in here knows
//! PostgreSQL; the health of the local proxy comes in as [`ProxyHealth`] and becomes a [`Tier`] of the priority.
//!
//! Begin reading at [`VirtualRouter`]; what goes over the wire is in [`packet`]. Standards: RFC 9568 (version 3),
//! RFC 3768 with the password of RFC 2338 (version 2). States are called Active and Backup as in RFC 9568.
#![forbid(unsafe_code)]

pub mod checksum;
pub mod frame;
pub mod packet;
pub mod signature;

mod action;
mod alarm;
mod announcing;
mod event;
mod flapping;
pub mod hook;
mod peer;
mod primary_watch;
mod priority;
mod reason;
mod remembered;
mod setup;
mod state;
mod statistics;
mod timers;
pub mod track;
mod tracking;
mod version;
mod virtual_router;

pub use action::Action;
pub use alarm::{Alarm, AlarmKind};
pub use event::Event;
pub use peer::{PeerRouter, SharedSettings, difference};
pub use primary_watch::{PrimaryWatch, ProxyReport};
pub use priority::{OWNER, PriorityModel, Tier};
pub use reason::{Cause, Reason};
pub use setup::{ChecksumMode, Replay, Setup, SetupError, Signing, SigningMode, Tuning, link_local};
pub use state::{ActiveSeen, Headline, State, Status};
pub use statistics::Counters;
pub use tracking::ProxyHealth;
pub use version::Version;
pub use virtual_router::VirtualRouter;
