//! `cluster.toml` and `secrets.toml`: from a file to a checked description of the cluster. The only reader of TOML.
//!
//! A file is accepted whole or not at all: every problem in it is reported at once with file, line, key, what was
//! found and what was expected, because a typo in a high-availability setting should stop the start, not the failover.
//!
//! This crate refuses to act on what it reads: no network, no PostgreSQL, no etcd. The only directories it looks into
//! are those of [`Postgres::resolve`].
//!
//! Begin reading at [`Cluster`], then at [`load`].

#![forbid(unsafe_code)]

mod cluster;
mod etcd;
mod failover;
mod guard;
mod hooks;
mod postgres;
mod problem;
mod replication;
mod routing;
mod secret;
mod secrets;
mod tls;
mod vip;

use std::path::Path;

pub use cluster::{Cluster, DatabaseHost, GRPC_PORT, HEARTBEAT_PORT, ProxyHost, REST_PORT, Tags};
pub use etcd::{ETCD_CLIENT_PORT, ETCD_PEER_PORT, Etcd};
pub use failover::Failover;
pub use guard::{Guard, GuardMode};
pub use hooks::Hooks;
pub use postgres::{NEWEST_MAJOR, OLDEST_MAJOR, Postgres, PostgresPaths};
pub use problem::{Problem, Problems};
pub use replication::Replication;
pub use routing::{Balance, Routing};
pub use secret::Secret;
pub use secrets::{Secrets, load_secrets};
pub use tls::Tls;
pub use vip::Vip;

/// Reads and checks a `cluster.toml`.
///
/// # Errors
/// All problems at once.
pub fn load(_path: &Path) -> Result<Cluster, Problems> {
    unimplemented!()
}

/// Checks the text of a `cluster.toml`; `path` is only named in problems.
///
/// # Errors
/// All problems at once.
pub fn parse(_text: &str, _path: &Path) -> Result<Cluster, Problems> {
    unimplemented!()
}
