//! Whole clusters simulated from one seed: the same deciders that the agents run, around models of PostgreSQL, the
//! network, the hosts and their clocks, and the model of etcd of `ha-store`.
//!
//! One seed means one history, byte for byte: in a run there is no clock, no thread, no hash iteration and no chance
//! besides [`rng`]; [`sweep`] plays many runs side by side, and they share nothing. It refuses to be fast at the price of being kind: servers let clients in whoever leads, confirmations outlive
//! their walreceivers, transactions are applied after everybody has forgotten them.
//!
//! Begin reading at [`run`], then `world.rs` (the queue), `postgres_model.rs` (what decides whether a commit is lost) and
//! `checker.rs` (the rules).

#![forbid(unsafe_code)]

mod agent;
mod checker;
pub mod clock;
pub mod fault;
mod guard;
mod heartbeat;
mod history;
mod host;
mod job;
mod job_copy;
mod job_record;
mod lease_siege;
pub mod mutant;
pub mod network;
mod peer_link;
pub mod plan;
pub mod postgres_model;
mod readers;
mod reload;
mod replication;
pub mod report;
pub mod rng;
mod run;
mod standstill;
mod store_cluster;
mod store_faults;
mod store_link;
pub mod sweep;
mod trace;
mod workload;
mod world;

pub use checker::Violation;
pub use mutant::{Fate, Mutant};
pub use report::Tally;
pub use run::{Outage, Outcome, calm, outage, run, run_with_reads, story, story_with_reads};
