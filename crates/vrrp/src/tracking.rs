//! What the virtual router follows besides the wire: the local proxy.

use std::fmt;

/// The local proxy, as the program sees it over its local link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyHealth {
    /// It is gone, or has been silent for too long.
    Dead,
    /// It is alive and wants to get rid of its clients.
    Draining,
    /// It takes clients and has no primary for them, while another host's proxy has had one for a while: what
    /// [`crate::PrimaryWatch`] makes of a serving proxy then.
    Alive,
    /// It takes clients. Whether there is a primary behind it does not matter as long as no other host has one: an
    /// address that moves because the database has no primary helps nobody.
    Serving,
}

impl fmt::Display for ProxyHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "dead",
            Self::Draining => "draining",
            Self::Alive => "without a primary that another proxy has",
            Self::Serving => "serving",
        })
    }
}
