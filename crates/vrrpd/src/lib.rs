//! Moves the floating address: executes the virtual routers of `vrrp` on raw sockets and netlink.
//!
//! It decides nothing about who holds an address; that is in `vrrp`. It knows nothing about PostgreSQL either: all that
//! it hears of the cluster is whether the local pg-proxy serves.
//!
//! Begin reading at `driver.rs`, which shows what goes in and out; `router.rs` and
//! `member.rs` carry out what a virtual router asks for.
//! What goes over the wire to move an address is in `raw_socket.rs`, `gratuitous_arp.rs` and
//! `neighbour_advertisement.rs`; `virtual_device.rs` is for a floating address with a hardware address of its own.

pub mod args;

mod announcer;
mod configuration;
mod drained;
mod driver;
mod followers;
mod frame_sender;
mod gratuitous_arp;
mod hook_runner;
mod interface_watch;
mod log_queue;
mod member;
mod metrics;
mod neighbour_advertisement;
mod netlink;
mod outlet;
mod peer_channel;
mod program;
mod proxy_link;
mod raw_socket;
mod reload;
mod resumption;
mod router;
mod rpc_service;
mod run;
mod short_text;
mod snapshot;
mod system_call;
mod tracker;
mod virtual_device;
mod wishes;

pub use run::{check_config, run};
