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

mod check_config;
mod cluster;
mod digest;
mod etcd;
mod failover;
mod guard;
mod hooks;
mod hosts;
mod keys;
mod load;
mod networks;
mod owned_parameters;
mod postgres;
mod priorities;
mod problem;
mod reader;
mod relations;
mod reload;
mod replication;
mod routing;
mod secret;
mod secrets;
mod tls;
mod tls_end;
mod track;
mod units;
mod vip;
mod vrrp;

pub use cluster::{
    Cluster, DatabaseHost, GRPC_PORT, HEARTBEAT_PORT, ProxyHost, REST_PORT, Tags, VRRPD_GRPC_PORT,
    VRRPD_METRICS_PORT,
};
pub use etcd::{ETCD_CLIENT_PORT, ETCD_PEER_PORT, Etcd};
pub use failover::Failover;
pub use guard::{Guard, longest_watchdog_timeout};
pub use ha_core::guard_link::LayerMode;
pub use hooks::Hooks;
pub use postgres::{NEWEST_MAJOR, OLDEST_MAJOR, Postgres, PostgresPaths};
pub use priorities::PriorityModel;
pub use problem::{Problem, Problems};
pub use reload::{Acts, Change};
pub use replication::Replication;
pub use routing::{Balance, Doubtful, ReadConsistency, Routing};
pub use secret::Secret;
pub use secrets::{ProxySecrets, Secrets, VrrpKey, load_proxy_secrets, load_secrets};
pub use tls::Tls;
pub use tls_end::TlsEnd;
pub use track::{Track, Tracked};
pub use units::parse_duration;
pub use vip::{Vip, VipSigning};
pub use vrrp::Vrrp;

pub use check_config::{run_check_config, run_check_proxy_config};
pub use load::{load, parse};
pub use owned_parameters::agent_owned;
