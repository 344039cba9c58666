//! What the virtual router follows besides the wire: the local proxy.

use std::fmt;

/// The local proxy, as the program sees it over its local link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyHealth {
    /// It is gone, or has been silent for too long.
    Dead,
    /// It is alive and wants to get rid of its clients.
    Draining,
    /// It takes clients. Whether there is a primary behind it does not matter: an address that moves because the
    /// database has no primary helps nobody.
    Serving,
}

impl fmt::Display for ProxyHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "dead",
            Self::Draining => "draining",
            Self::Serving => "serving",
        })
    }
}
