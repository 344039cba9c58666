//! The consensus store of a cluster: a small trait ([`Store`]), etcd behind it ([`EtcdStore`]), an exact model of
//! etcd without clock or I/O ([`model`], for the simulator) and an async face of that model ([`MemoryStore`], for
//! tests).
//!
//! It refuses to know what the records mean (values are bytes) and to decide anything. In particular it never
//! retries a write whose outcome is unknown: that is [`TxnOutcome::Unknown`], and resolving it is the caller's job,
//! because a lost request can still be applied later.
//!
//! Begin reading at [`store`]; the contract that both implementations keep is `tests/contract.rs`.

#![forbid(unsafe_code)]

pub mod error;
pub mod etcd;
mod follow;
pub mod keys;
pub mod memory;
pub mod model;
pub mod store;
pub mod watch;

pub use error::StoreError;
pub use etcd::{EtcdOptions, EtcdStore, TlsFiles};
pub use keys::Keys;
pub use memory::MemoryStore;
pub use store::{
    Compare, Entry, KeepAlive, Lease, LeaseId, MemberStatus, Put, Refusal, Snapshot, Store, StoreStatus, Txn,
    TxnOutcome,
};
pub use watch::{Change, Watch, WatchEvent};
