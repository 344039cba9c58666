//! The words of Matriarch: identities, WAL positions, the records kept in the consensus store, the durable
//! state of a member, and the messages between agents and between an agent and its guard.
//!
//! This crate refuses to do anything: no I/O, no clock, no async. Time comes in as [`MonoTime`].
//! Begin reading at [`record`] (what the cluster agrees on) and [`node_state`] (what a member has promised).

#![forbid(unsafe_code)]

pub mod cluster_view;
pub mod guard_link;
pub mod heartbeat;
pub mod identity;
pub mod mono_time;
pub mod node_state;
pub mod peer_message;
pub mod phases;
pub mod postgres_view;
pub mod record;
pub mod replication_mode;
pub mod slot_name;
pub mod standby_names;
pub mod wal;

pub use identity::{
    ClusterName, Epoch, Generation, Incarnation, MemberId, MemberName, NameError, Revision, SystemId,
};
pub use mono_time::{BootId, MonoTime};
pub use replication_mode::ReplicationMode;
pub use wal::{Lsn, LsnParseError, Position, Timeline};
