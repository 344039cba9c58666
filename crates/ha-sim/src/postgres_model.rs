//! PostgreSQL as far as losing or keeping a commit depends on it.
//!
//! What it takes from PostgreSQL 14 and later (`syncrep.c`, `walsender.c`, `walreceiver.c`, `xlogrecovery.c`):
//! - a commit is durable and recovered on the primary before anybody confirms it; only the *answer* waits;
//! - a reload reaches each process at its own time: the postmaster (new connections and new walsenders inherit its
//!   copy), the checkpointer (whose flag decides whether commits wait at all, and which releases every waiter when
//!   the list becomes empty), the startup process (whom to stream from), each walsender (its own priority and k);
//! - a walsender computes the released position with *its* k over the priorities that the *others* have published;
//! - a confirmation that is on the wire outlives the walreceiver that sent it;
//! - after a crash the waiting commits are there, though nobody was told;
//! - a standby is let in by timeline history and position alone; the server does not compare contents;
//! - a promotion takes the smallest timeline id above all history files that it finds.
//!
//! A write-ahead log is a list of records and an LSN is an index into it.

pub mod directory;
pub mod server;
#[cfg(test)]
mod tests;
pub mod wal;

pub use directory::{Data, Directory};
pub use server::{Phase, Receiver, ReceiverPhase, Sender, Server, Waiter};
pub use wal::{Record, RecordKind, Wal};
