//! What a process needs that takes the place of one that was killed: which addresses that one held, in which holding. It
//! lies in memory (`/run`) and is written by the ordinary thread. Whether it still counts is decided by the kernel's
//! list of addresses: it says whether an address is there because of a vrrpd, and when it was refreshed last.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_core::BootId;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use vrrp::{ProxyHealth, State};

use crate::netlink::Address;
use crate::snapshot::{Shared, Snapshot};

/// How often it is looked whether something else is to be written down.
const LOOK: Duration = Duration::from_millis(50);

/// What an earlier process of this boot has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Earlier {
    /// Holdings by address.
    pub(crate) holdings: BTreeMap<IpAddr, u64>,
    /// Whether its proxy served.
    pub(crate) served: bool,
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct ResumptionFile {
    path: PathBuf,
    boot: BootId,
}

impl ResumptionFile {
    pub(crate) fn new(path: &Path, boot: BootId) -> Self {
        Self { path: path.to_owned(), boot }
    }

    /// What an earlier process of this boot has left; nothing when it ended properly or the file says nothing usable.
    pub(crate) fn read(&self) -> Earlier {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if value["boot"].as_str() != Some(&self.boot.0) {
            return Earlier::default();
        }
        let held = value["held"].as_object().into_iter().flatten();
        let holdings =
            held.filter_map(|(address, epoch)| Some((address.parse().ok()?, epoch.as_u64()?))).collect();
        Earlier { holdings, served: value["served"].as_bool().unwrap_or(false) }
    }

    /// Writes down what changes, for ever.
    pub(crate) async fn keep(self, shared: Shared) {
        let mut written = None;
        let mut told = false;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let now = now_of(&shared.load());
            if written.as_ref() == Some(&now) {
                continue;
            }
            match self.write(&now) {
                Ok(()) => (written, told) = (Some(now), false),
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(%error, path = %self.path.display(), "a process that is killed cannot be resumed");
                }
                Err(_) => {}
            }
        }
    }

    fn write(&self, now: &Earlier) -> std::io::Result<()> {
        let text = json!({ "boot": self.boot.0, "held": now.holdings, "served": now.served }).to_string();
        let beside = self.path.with_extension("new");
        fs::write(&beside, text)?;
        fs::rename(&beside, &self.path)
    }
}

fn now_of(snapshot: &Snapshot) -> Earlier {
    let active =
        snapshot.routers.iter().filter(|router| router.holds && router.status.state == State::Active);
    let holdings = active.map(|router| (router.address, router.status.held_epoch)).collect();
    Earlier { holdings, served: snapshot.proxy == ProxyHealth::Serving }
}

/// Whether an address is here because of a vrrpd that refreshed it within `limit`.
pub(crate) fn is_fresh(address: &Address, limit: Duration) -> bool {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return false };
    let hundredths = now.tv_sec() * 100 + now.tv_nsec() / 10_000_000;
    // The kernel's counter begins with the boot and is cut to 32 bits.
    let now = u32::try_from(hundredths.rem_euclid(1 << 32)).unwrap_or(0);
    let age = Duration::from_millis(u64::from(now.wrapping_sub(address.refreshed)) * 10);
    address.ours && age <= limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;

    #[test]
    fn what_was_held_is_found_again_within_the_same_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vrrpd.state");
        let file = |boot: &str| ResumptionFile::new(&path, BootId(boot.to_owned()));
        assert_eq!(file("a").read(), Earlier::default());
        let now = now_of(&one_active());
        assert_eq!((now.holdings.get(&IpAddr::from([10, 0, 1, 10])), now.served), (Some(&1), true));
        file("a").write(&now).unwrap();
        assert_eq!((file("a").read(), file("b").read()), (now, Earlier::default()));
        fs::write(&path, "{").unwrap();
        assert_eq!(file("a").read(), Earlier::default());
    }
}
