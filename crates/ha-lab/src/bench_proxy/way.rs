//! The ways from a client to PostgreSQL.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::usage::Usage;
use crate::front::WRITE_PORT;
use crate::lab::Lab;

/// PostgreSQL's host.
pub(super) const SERVER: &str = "pg1";
/// PgBouncer's usual port.
const POOLER_PORT: u16 = 6432;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// Without any proxy.
    Direct,
    PgProxy,
    HaProxy,
    PgBouncer,
    /// A relay without anything around it: tokio's `copy_bidirectional`.
    Copy,
    /// The same by splice(2).
    Splice,
    /// The same by BPF sockmap.
    Sockmap,
    /// pg-proxy with `routing.reads` as by default.
    Fresh,
    /// pg-proxy with `routing.reads = "linearizable"`.
    Linearizable,
}

impl Way {
    /// What people use.
    pub(super) const PRODUCTS: [Self; 4] = [Self::Direct, Self::PgProxy, Self::HaProxy, Self::PgBouncer];
    /// Ways to pass bytes on.
    pub(super) const RELAYS: [Self; 6] =
        [Self::Direct, Self::PgProxy, Self::HaProxy, Self::Copy, Self::Splice, Self::Sockmap];

    /// What an answer may be worth.
    pub(super) const READS: [Self; 2] = [Self::Fresh, Self::Linearizable];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PgProxy => "pg-proxy",
            Self::HaProxy => "HAProxy",
            Self::PgBouncer => "PgBouncer",
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Sockmap => "sockmap",
            Self::Fresh => "fresh",
            Self::Linearizable => "linearizable",
        }
    }

    /// Host and service of the proxy.
    pub(super) fn service(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Direct => None,
            Self::PgProxy | Self::Fresh => Some(("ha1", "pg-proxy")),
            Self::Linearizable => Some(("ha2", "pg-proxy")),
            Self::HaProxy => Some(("ha2", "haproxy")),
            Self::PgBouncer => Some(("ha2", "pgbouncer")),
            Self::Copy => Some(("ha2", "relay-copy")),
            Self::Splice => Some(("ha2", "relay-splice")),
            Self::Sockmap => Some(("ha2", "relay-sockmap")),
        }
    }

    /// Where a client connects to.
    pub(super) fn address(self, lab: &Lab) -> Result<(Ipv4Addr, u16)> {
        let host = self.service().map_or(SERVER, |(host, _)| host);
        Ok((lab.address(host)?, self.port()))
    }

    pub(super) fn port(self) -> u16 {
        match self {
            Self::Direct => 5432,
            Self::PgProxy | Self::HaProxy | Self::Fresh | Self::Linearizable => WRITE_PORT,
            Self::PgBouncer => POOLER_PORT,
            Self::Copy => 6001,
            Self::Splice => 6002,
            Self::Sockmap => 6003,
        }
    }

    /// What the proxy's process has used up to now; nothing for the direct way.
    pub(super) fn usage(self, lab: &Lab) -> Result<Option<Usage>> {
        let Some((host, unit)) = self.service() else { return Ok(None) };
        let status = lab.host_status(host)?;
        let pid = status.units.iter().find(|of| of.name == unit).and_then(|of| of.pid);
        Usage::of(lab, host, pid.with_context(|| format!("{unit} does not run on {host}"))?).map(Some)
    }
}
