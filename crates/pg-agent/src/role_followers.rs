//! The proxies that follow this member's role: which of them hold new sessions for a planned change of leader, and which
//! lead new sessions here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ha_core::MemberName;
use tokio::sync::watch;

/// All followers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct RoleFollowers {
    proxies: Arc<watch::Sender<BTreeMap<MemberName, Streams>>>,
    streams: Arc<AtomicU64>,
}

/// The streams of one proxy, by number; never empty. The newest counts: the end of an older one may be noticed late, and a
/// process that was replaced follows as long as it has sessions.
type Streams = BTreeMap<u64, Follower>;

/// One stream of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Follower {
    /// First claim of those, up to now, that asked without interruption to hold new sessions.
    holding_from: Option<u64>,
    /// The same for claims to take writes.
    writes_from: Option<u64>,
    in_force: u64,
}

impl Follower {
    fn holds(&self) -> bool {
        self.holding_from.is_some_and(|from| self.in_force >= from)
    }

    fn leads_here(&self) -> bool {
        self.writes_from.is_some_and(|from| self.in_force >= from)
    }
}

impl RoleFollowers {
    /// A proxy follows until the result is dropped.
    pub fn join(&self, proxy: MemberName) -> Following {
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        self.proxies.send_modify(|all| {
            all.entry(proxy.clone()).or_default().insert(stream, Follower::default());
        });
        Following { followers: self.clone(), proxy, stream }
    }

    /// Waits until every proxy that follows has put a claim with `holding` in force, and says how many follow; at once
    /// when none does.
    pub async fn all_hold(&self) -> u32 {
        self.all(Follower::holds).await
    }

    /// The same for a claim by which this member takes writes.
    pub async fn all_lead_here(&self) -> u32 {
        self.all(Follower::leads_here).await
    }

    async fn all(&self, wanted: impl Fn(&Follower) -> bool) -> u32 {
        let mut proxies = self.proxies.subscribe();
        // Fails only when the sender is gone, which `self` holds.
        let newest = |streams: &Streams| streams.values().next_back().is_none_or(&wanted);
        let followers = proxies.wait_for(|all| all.values().all(newest)).await.map_or(0, |all| all.len());
        u32::try_from(followers).unwrap_or(u32::MAX)
    }
}

/// One stream of a proxy.
#[derive(Debug)]
pub struct Following {
    followers: RoleFollowers,
    proxy: MemberName,
    stream: u64,
}

impl Following {
    /// A claim is being sent.
    pub fn claimed(&self, sequence: u64, holding: bool, takes_writes: bool) {
        let since = |known: Option<u64>, still: bool| if still { known.or(Some(sequence)) } else { None };
        self.update(|follower| {
            follower.holding_from = since(follower.holding_from, holding);
            follower.writes_from = since(follower.writes_from, takes_writes);
        });
    }

    /// The proxy's routing rests on this claim.
    pub fn confirmed(&self, sequence: u64) {
        self.update(|follower| follower.in_force = follower.in_force.max(sequence));
    }

    /// Its process takes no new sessions any more: nobody waits for it. It may go on to listen.
    pub fn step_aside(&self) {
        self.followers.proxies.send_if_modified(|all| {
            let Some(streams) = all.get_mut(&self.proxy) else { return false };
            let was_there = streams.remove(&self.stream).is_some();
            if streams.is_empty() {
                all.remove(&self.proxy);
            }
            was_there
        });
    }

    fn update(&self, change: impl FnOnce(&mut Follower)) {
        self.followers.proxies.send_if_modified(|all| {
            let Some(follower) = all.get_mut(&self.proxy).and_then(|streams| streams.get_mut(&self.stream))
            else {
                return false;
            };
            let before = follower.clone();
            change(follower);
            *follower != before
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.step_aside();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn name(text: &str) -> MemberName {
        text.parse().unwrap()
    }

    fn names(followers: &RoleFollowers) -> Vec<MemberName> {
        followers.proxies.borrow().keys().cloned().collect()
    }

    fn held(followers: &RoleFollowers) -> bool {
        followers.all_hold().now_or_never().is_some()
    }

    #[test]
    fn every_proxy_that_follows_must_have_the_hold_in_force() {
        let followers = RoleFollowers::default();
        assert!(held(&followers), "nobody needs to be waited for");
        let (ha1, ha2) = (followers.join(name("ha1")), followers.join(name("ha2")));
        assert!(!held(&followers));
        for proxy in [&ha1, &ha2] {
            proxy.claimed(1, false, true);
            proxy.confirmed(1);
            proxy.claimed(2, true, true);
            proxy.claimed(3, true, true);
        }
        assert!(!held(&followers), "what is in force is older than the hold");
        ha1.confirmed(2);
        assert!(!held(&followers));
        ha2.confirmed(3);
        assert!(held(&followers));
        ha2.claimed(4, false, true);
        assert!(!held(&followers), "released");
        drop(ha2);
        assert!(held(&followers), "a proxy that left is not waited for");
        assert_eq!(names(&followers), [name("ha1")]);
    }

    #[test]
    fn proxies_lead_here_once_a_claim_to_take_writes_is_in_force() {
        let followers = RoleFollowers::default();
        let leads_here = || followers.all_lead_here().now_or_never();
        assert_eq!(leads_here(), Some(0));
        let (ha1, ha2) = (followers.join(name("ha1")), followers.join(name("ha2")));
        for proxy in [&ha1, &ha2] {
            proxy.claimed(1, false, false);
            proxy.confirmed(1);
        }
        ha1.claimed(2, false, true);
        ha1.confirmed(2);
        ha2.claimed(2, false, true);
        assert_eq!(leads_here(), None, "what is in force in ha2 is older than the writes");
        ha2.confirmed(2);
        assert_eq!(leads_here(), Some(2));
        ha1.claimed(3, false, false);
        assert_eq!(leads_here(), None, "no writes any more");
    }

    #[test]
    fn the_newest_stream_of_a_proxy_counts() {
        let followers = RoleFollowers::default();
        let old = followers.join(name("ha1"));
        old.claimed(1, true, true);
        old.confirmed(1);
        let new = followers.join(name("ha1"));
        assert!(!held(&followers), "the new stream has said nothing yet");
        old.confirmed(2);
        drop(old);
        assert_eq!(names(&followers), [name("ha1")]);
        new.claimed(1, true, true);
        new.confirmed(1);
        assert!(held(&followers));
    }
    #[test]
    fn a_process_that_was_replaced_hides_its_successor_from_nobody() {
        let followers = RoleFollowers::default();
        let old = followers.join(name("ha1"));
        let new = followers.join(name("ha1"));
        new.claimed(1, true, true);
        new.confirmed(1);
        assert!(held(&followers));
        // The old one lost its stream and made another.
        drop(old);
        let old = followers.join(name("ha1"));
        assert!(!held(&followers), "who it is has not been said yet");
        old.step_aside();
        assert!(held(&followers));
        new.claimed(2, false, true);
        assert!(!held(&followers), "the new one is asked");
        drop(old);
        assert_eq!(names(&followers), [name("ha1")]);
        drop(new);
        assert!(names(&followers).is_empty());
    }
}
