//! `[vrrp]`: what all floating addresses of a host have in common.

use std::time::Duration;

use crate::reader::Table;

/// When a proxy without a primary counts as worse off than one that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// How long another proxy must have had a primary that this one lacks.
    pub no_primary_hold: Duration,
    /// How long this one must have had it again.
    pub primary_hysteresis: Duration,
}

impl Default for Vrrp {
    fn default() -> Self {
        Self { no_primary_hold: Duration::from_secs(5), primary_hysteresis: Duration::from_secs(10) }
    }
}

impl Vrrp {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        // Proxies notice a failover of the database at slightly different moments; a shorter hold would move the address.
        let range = || Duration::from_secs(1)..=Duration::from_secs(3600);
        Self {
            no_primary_hold: table.duration("no_primary_hold", range()).unwrap_or(default.no_primary_hold),
            primary_hysteresis: table
                .duration("primary_hysteresis", range())
                .unwrap_or(default.primary_hysteresis),
        }
    }
}
