//! vrrpd as built: two of them on a link of their own, each beside a pretended proxy; and one beside keepalived or FRR. Needs
//! root (and says so). The times are upper limits for a busy machine; what is typical is printed.
#![allow(clippy::print_stdout, reason = "prints the times that it measured, and why it was skipped")]

mod captures;
mod disturbances;
mod frr;
mod ipv6;
mod keepalived;
mod link;
mod losses;
mod moving;
mod peers;
mod privileges;
mod programs;
mod reloads;
mod strain;
mod virtual_mac;
