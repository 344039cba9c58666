//! Where a new session goes, and the first bytes of a PostgreSQL client and server.
//!
//! Everything here is a pure function of what it is given: no clock, socket or file. [`Router`] turns what agents
//! claim and health checks find into a [`Table`]; [`balance`] picks among upstreams; [`proxy_header`], [`startup_packet`]
//! and [`login`] read the beginning of a session, [`messages`] the rest of it, for [`commit_watch`], [`opt_out_watch`] and
//! [`idleness`]; [`silence`] says who has waited for too long; [`refusal`] writes the error for a client that cannot be served.
//!
//! Routing is never what keeps two primaries apart: agents and guards do that. A wrong route costs a client an error,
//! and this crate is about making that rare and short. Begin reading at [`router`].
#![forbid(unsafe_code)]

pub mod action;
pub mod balance;
pub mod cancel_request;
mod claims;
pub mod commit_watch;
mod connecting;
mod cutting;
pub mod event;
mod health;
pub mod idleness;
pub mod login;
pub mod messages;
pub mod opt_out_watch;
mod polling;
pub mod proxy_header;
mod reads;
pub mod reason;
pub mod refusal;
pub mod router;
pub mod setup;
pub mod silence;
pub mod startup_packet;
pub mod table;
mod upstream;
mod writes;

pub use action::{Action, Sessions};
pub use event::{Check, Claim, ClaimedRole, Event};
pub use reason::Reason;
pub use refusal::Refusal;
pub use router::Router;
pub use setup::Setup;
pub use table::{AdminState, Route, RouteState, SeenRole, Source, Table, UpstreamView};
