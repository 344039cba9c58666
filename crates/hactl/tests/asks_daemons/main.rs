//! hactl against daemons that say what a test tells them: real files of `hactl init`, real TLS, real exit codes.
//!
//! The daemons' ports are fixed, so each test has loopback addresses of its own.

#![allow(clippy::unwrap_used, reason = "a test ends by a panic")]

mod agents;
mod proxies;
mod watching;
mod world;
