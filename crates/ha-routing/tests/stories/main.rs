//! Stories: something happens to members, and this is what becomes of sessions.

mod old_evidence;
#[path = "../samples/mod.rs"]
mod samples;
mod scenarios;
mod world;
