//! Steers one PostgreSQL: carries out what `ha-decision` decides, and shows how things are.
//!
//! It refuses to decide: which member leads, follows or waits is decided in `ha-decision`; an `if` about roles belongs
//! there. The postmaster is started by pg-guard only.
//!
//! Begin reading at [`postgres`] (the server and its directory) and [`executor`] (the decider's jobs). [`rest`] and
//! [`metrics`] show a [`snapshot`].

#![forbid(unsafe_code)]

pub mod advice;
pub mod args;
pub mod driver;
pub mod executor;
pub mod guard_client;
pub mod guard_link;
pub mod heartbeat;
pub mod metrics;
pub mod node_state_file;
pub mod peers;
pub mod postgres;
pub mod rest;
pub mod role_claim;
pub mod role_followers;
pub mod rpc_service;
mod run;
pub mod snapshot;
pub mod startup;
pub mod storage_watch;
pub mod store_link;
pub mod wall_clock;

pub use run::run;
