//! The failover protocol checked exhaustively: every order of every step that three members, their PostgreSQLs, the store
//! and the network between them can take, within the bounds of a [`Scope`]. See `docs/MODEL.md`.
//!
//! Nothing here knows time. Any member may suspect the leader at any moment, every message and every process may be as slow
//! as it likes, so what is shown rests on no clock. The words are `ha-core`'s, and every decision that matters is asked of
//! `ha_decision::rules`, which the decider asks, too.

#![forbid(unsafe_code)]
// Everything is counted in bytes; the bounds are far below 256.
#![allow(clippy::cast_possible_truncation)]

mod action;
mod canonical;
mod fault;
mod leader;
mod model;
mod mutant;
mod postgres;
mod properties;
mod report;
mod scope;
mod scopes;
mod standby;
mod state;
mod store;
mod words;

pub use action::Action;
pub use model::Failover;
pub use mutant::Mutant;
pub use report::Report;
pub use scope::Scope;
pub use state::State;
