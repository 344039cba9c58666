//! When gratuitous ARP is sent.
