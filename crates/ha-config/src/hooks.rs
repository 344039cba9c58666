//! `[hooks]`: programs that are told about changes.

use std::path::PathBuf;
use std::time::Duration;

use crate::reader::Table;

/// Programs that are told about changes. None may delay or veto a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Started after this host's role has changed.
    pub role_changed: Option<PathBuf>,
    /// Makes a floating address lead here, or no longer, where announcements on the link are not enough: called by vrrpd
    /// until it succeeds.
    pub vip_changed: Option<PathBuf>,
    /// Looks whether what `vip_changed` has done still holds.
    pub vip_check: Option<PathBuf>,
    /// How often.
    pub vip_check_interval: Duration,
    /// How long either may run.
    pub vip_timeout: Duration,
    /// Whom both run as; `None` = as vrrpd.
    pub vip_user: Option<String>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            role_changed: None,
            vip_changed: None,
            vip_check: None,
            vip_check_interval: Duration::from_secs(30),
            vip_timeout: Duration::from_secs(60),
            vip_user: None,
        }
    }
}

impl Hooks {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let duration = |name, default| {
            let range = Duration::from_secs(1)..=Duration::from_secs(3600);
            table.duration(name, range).unwrap_or(default)
        };
        let user = table.read("vip_user", "the name of a user of the host", |value| {
            value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        let hooks = Self {
            role_changed: table.path("role_changed"),
            vip_changed: table.path("vip_changed"),
            vip_check: table.path("vip_check"),
            vip_check_interval: duration("vip_check_interval", default.vip_check_interval),
            vip_timeout: duration("vip_timeout", default.vip_timeout),
            vip_user: user.map(|at| at.value),
        };
        if hooks.vip_check.is_some() && hooks.vip_changed.is_none() {
            table.refuse(
                "vip_check",
                "a program",
                "vip_changed beside it: what it finds wrong is mended by that",
            );
        }
        hooks
    }
}
