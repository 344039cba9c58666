//! The data path against fake servers and clients.

mod bytes;
mod cancelling;
mod cutting;
mod encryption;
mod harness;
mod limits;
mod waiting;
