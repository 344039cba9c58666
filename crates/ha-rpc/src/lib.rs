//! gRPC between agents, proxies and `hactl`: the generated code of `proto/ha/v1`, its conversions into the words of
//! `ha-core`, mutual TLS, who may call what, and how connections are made.
//!
//! It refuses to decide anything, and to guess: a message that cannot be read is an error value, never a default.
//!
//! Begin reading at [`access`] (one table: which role may call which RPC) and [`gate`] (where the table is applied).

#![forbid(unsafe_code)]

pub mod access;
pub mod channel;
pub mod gate;
pub mod identity;
pub mod peer_envelope;
pub mod server;
pub mod status_code;
pub mod tls;

/// Generated from `proto/ha/v1`; the files there say what the messages mean.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::semicolon_if_nothing_returned,
    reason = "generated"
)]
pub mod proto {
    tonic::include_proto!("ha.v1");
}

pub use access::{Role, Rpc};
pub use identity::PeerIdentity;
pub use tls::TlsFiles;
