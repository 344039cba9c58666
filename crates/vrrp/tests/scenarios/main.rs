//! Virtual routers on a simulated link: who holds the address, when, and why.

mod conflicts;
mod groups;
mod health;
mod interruptions;
mod ipv6;
mod keepalived;
mod link;
mod peer_channel;
mod properties;
mod signing;
mod takeover;
mod weights;
