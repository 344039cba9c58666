//! The agent's work on PostgreSQL, with real servers.

mod rejoin;
mod revocation;
mod servers;
mod takeover;
