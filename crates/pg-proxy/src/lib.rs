//! Leads sessions to the right PostgreSQL: carries out what `ha-routing` decides, and shows how things are.
//!
//! It refuses to decide: which member gets sessions is decided in `ha-routing`; an `if` about roles belongs there.
//!
//! Two sides with one seam. The control side ([`driver`], on one thread) follows the agents and swaps the routing table;
//! the data path ([`data_path`], on threads of its own) reads the table and moves bytes. Begin reading at [`driver`].

#![forbid(unsafe_code)]

pub mod args;
mod causes;
pub mod client_tls;
pub mod config_watch;
pub mod configuration;
pub mod data_path;
pub mod drain;
pub mod driver;
pub mod endpoints;
pub mod health_probe;
mod launch;
pub mod local_link;
pub mod metrics;
pub mod phase;
pub mod read_lease;
mod relief;
pub mod replaced;
pub mod rpc_service;
mod run;
pub mod snapshot;
pub mod status_page;
pub mod succession;
pub mod topology_watch;

pub use launch::{OwnProgram, launch};
pub use run::run;
