//! A changed file while vrrpd runs: read whole and checked first, on the ordinary thread; then what may change is put in
//! force, and what may not is named until the next start. A file that is refused changes nothing.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_config::Cluster;
use tokio::sync::Notify;

use crate::args::Args;
use crate::configuration::{Configuration, RouterPlan, configuration};
use crate::followers::{Followers, LEAVE_LIMIT, Leaving};
use crate::snapshot::Shared;
use crate::wishes::{Wish, Wishes};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is looked whether an address has gone.
const GONE_LOOK: Duration = Duration::from_millis(50);

/// What is in force, and what is not.
#[derive(Debug)]
pub(crate) struct Reload {
    args: Args,
    shared: Shared,
    wishes: Wishes,
    asked: Arc<Notify>,
    pub(crate) followers: ArcSwap<Followers>,
    state: Mutex<InForce>,
}

#[derive(Debug)]
struct InForce {
    cluster: Cluster,
    /// As in [`Configuration::routers`].
    groups: Vec<Vec<RouterPlan>>,
    /// Digest of the file that was read last and accepted.
    digest: String,
    /// What a human should know of the file, in words.
    notes: Vec<String>,
}

/// What tells one content of a file from another without reading it.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let seen = std::fs::metadata(path).ok()?;
    Some((seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
}

impl Reload {
    pub(crate) fn new(
        args: &Args,
        running: &Configuration,
        shared: Shared,
        wishes: Wishes,
        asked: Arc<Notify>,
    ) -> Arc<Self> {
        let (cluster, groups) = (running.cluster.clone(), running.routers.clone());
        let digest = cluster.digest.clone();
        let state = Mutex::new(InForce { cluster, groups, digest, notes: Vec::new() });
        let followers = ArcSwap::default();
        Arc::new(Self { args: args.clone(), shared, wishes, asked, followers, state })
    }

    /// Digest of the file in force, and what should be known of it.
    pub(crate) fn shown(&self) -> (String, Vec<String>) {
        let state = self.locked();
        (state.digest.clone(), state.notes.clone())
    }

    /// Starts what runs beside the driver, and watches the file for ever.
    pub(crate) async fn watch(self: Arc<Self>) {
        let cluster = self.locked().cluster.clone();
        let followers = Followers::start(&cluster, &self.shared, &self.wishes, &Followers::default());
        self.followers.store(Arc::new(followers));
        let path = self.args.config.clone();
        let (mut read, mut last) = (stamp(&path), stamp(&path));
        loop {
            let asked = tokio::time::timeout(LOOK, self.asked.notified()).await.is_ok();
            let now = stamp(&path);
            // What is being copied is not whole yet: a change counts once it has stayed from one look to the next.
            let stays = std::mem::replace(&mut last, now) == now;
            if !asked && (!stays || now.is_none() || now == read) {
                continue;
            }
            read = now;
            let args = self.args.clone();
            // A hung disk must not hold up whoever else is served here.
            let Ok(found) = tokio::task::spawn_blocking(move || configuration(&args)).await else { return };
            match found {
                Ok(found) => self.accept(&found, asked),
                Err(problems) => {
                    tracing::error!("the file is refused, what was in force stays:\n{problems}");
                    self.locked().notes = vec![format!("cluster.toml is refused: {problems}")];
                }
            }
        }
    }

    fn accept(&self, found: &Configuration, asked: bool) {
        let mut state = self.locked();
        let changes = Changes::between(&state.groups, &found.routers);
        let groups = changes.made_to(&state.groups);
        let at_start = needs_restart(&groups, found);
        for note in &at_start {
            tracing::warn!("the file was read: {note}");
        }
        if asked || found.cluster.digest != state.digest {
            tracing::info!(digest = found.cluster.digest, "the file was read");
        }
        state.digest.clone_from(&found.cluster.digest);
        state.notes = at_start;
        let taken = changes.is_none() || self.wishes.wish(changes.wish(found));
        if taken {
            state.groups.clone_from(&groups);
        }
        let both = groups.iter().flatten().filter_map(|old| Some((old, plan_of(found, old)?)));
        let tunings = both.map(|(old, new)| (old.setup.address, new.setup.tuning())).collect();
        if !taken || !self.wishes.wish(Wish::Tuned { tunings, times: found.cluster.vrrp.clone() }) {
            state.notes.push("cluster.toml: the driver takes nothing; send SIGHUP again".to_owned());
            return;
        }
        let beside = |cluster: &Cluster| {
            let tracks = cluster.vips.iter().map(|vip| (vip.address, vip.tracks.clone())).collect::<Vec<_>>();
            (tracks, cluster.hooks.clone())
        };
        if beside(&state.cluster) != beside(&found.cluster) {
            let old = self.followers.load_full();
            let followers = Followers::start(&found.cluster, &self.shared, &self.wishes, &old);
            // Those that are not kept end with their last reader, but for what there is to do yet for addresses that go.
            self.followers.store(Arc::new(followers));
            let gone = changes.gone();
            let leaving = old.hooks_of(|address| gone.contains(&address));
            tokio::spawn(leave(leaving, gone, Arc::clone(&self.shared)));
        }
        state.cluster = found.cluster.clone();
    }

    /// Nothing in here panics with the lock held.
    fn locked(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells hooks to leave when the addresses are no longer here.
async fn leave(hooks: Leaving, gone: Vec<IpAddr>, shared: Shared) {
    let is_here = || {
        let snapshot = shared.load();
        snapshot.routers.iter().any(|router| gone.contains(&router.address))
    };
    while is_here() {
        tokio::time::sleep(GONE_LOOK).await;
    }
    if !hooks.end(LEAVE_LIMIT).await {
        tracing::warn!("a hook of an address that has gone did not leave within {LEAVE_LIMIT:?}");
    }
}

/// Which virtual routers or groups come and go as a whole.
#[derive(Debug, Default)]
struct Changes {
    added: Vec<Vec<RouterPlan>>,
    removed: Vec<Vec<RouterPlan>>,
}

impl Changes {
    fn between(running: &[Vec<RouterPlan>], found: &[Vec<RouterPlan>]) -> Self {
        let removed = strangers(running, found);
        let mut added = strangers(found, running);
        // An identifier that is another router's until the next start is not free yet.
        let stays = |group: &&Vec<RouterPlan>| !removed.contains(group);
        let identity = |plan: &RouterPlan| (plan.setup.vrid, plan.setup.address.is_ipv4());
        added.retain(|group| {
            let mut others = running.iter().filter(stays).flatten();
            !others.any(|other| group.iter().any(|plan| identity(plan) == identity(other)))
        });
        Self { added, removed }
    }

    fn is_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// What runs once they are made.
    fn made_to(&self, running: &[Vec<RouterPlan>]) -> Vec<Vec<RouterPlan>> {
        let stay = running.iter().filter(|group| !self.removed.contains(group));
        stay.chain(&self.added).cloned().collect()
    }

    fn wish(&self, found: &Configuration) -> Wish {
        let leader = |group: &Vec<RouterPlan>| group.first().map(|plan| plan.setup.address);
        Wish::Changed {
            added: self.added.clone(),
            removed: self.removed.iter().filter_map(leader).collect(),
            floating: found
                .routers
                .iter()
                .flatten()
                .next()
                .map(|plan| plan.wanted.floating.clone())
                .unwrap_or_default(),
        }
    }

    fn gone(&self) -> Vec<IpAddr> {
        self.removed.iter().flatten().map(|plan| plan.setup.address).collect()
    }
}

/// Those groups that have no address in common with any of the others.
fn strangers(groups: &[Vec<RouterPlan>], others: &[Vec<RouterPlan>]) -> Vec<Vec<RouterPlan>> {
    let known =
        |plan: &RouterPlan| others.iter().flatten().any(|other| other.setup.address == plan.setup.address);
    groups.iter().filter(|group| !group.iter().any(known)).cloned().collect()
}

/// What of the file waits for the next start.
fn needs_restart(running: &[Vec<RouterPlan>], found: &Configuration) -> Vec<String> {
    let mut notes = Vec::new();
    let running = || running.iter().flatten();
    for old in running() {
        let address = old.setup.address;
        match plan_of(found, old) {
            None => {
                notes
                    .push(format!("cluster.toml no longer has {address}: in force after a restart of vrrpd"));
            }
            Some(new)
                if new.setup.clone().tuned(old.setup.tuning()) != old.setup
                    || !new.wanted.asks_the_same(&old.wanted) =>
            {
                notes.push(format!(
                    "cluster.toml changes how {address} is advertised: in force after a restart of vrrpd"
                ));
            }
            Some(_) => {}
        }
    }
    for new in found
        .routers
        .iter()
        .flatten()
        .filter(|new| running().all(|old| old.setup.address != new.setup.address))
    {
        notes.push(format!("cluster.toml adds {}: in force after a restart of vrrpd", new.setup.address));
    }
    notes
}

fn plan_of<'p>(found: &'p Configuration, like: &RouterPlan) -> Option<&'p RouterPlan> {
    found.routers.iter().flatten().find(|plan| plan.setup.address == like.setup.address)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For tests of others.
    pub(crate) fn without_a_file(shared: Shared, wishes: Wishes) -> Arc<Reload> {
        let running =
            crate::configuration::tests::read("ha1", "[[vip]]\naddress = \"10.0.1.10/24\"\n", None).unwrap();
        let nowhere = || Path::new("/nowhere").to_owned();
        let args = Args {
            config: nowhere(),
            node: None,
            check_config: false,
            proxy_socket: nowhere(),
            resumption_file: nowhere(),
            state_dir: nowhere(),
        };
        Reload::new(&args, &running, shared, wishes, Arc::default())
    }

    #[test]
    fn what_is_on_the_wire_waits_for_a_restart_and_the_rest_does_not() {
        let read = |vips: &str| crate::configuration::tests::read("ha1", vips, None).unwrap();
        let running = read("[[vip]]\naddress = \"10.0.1.10/24\"\n");
        let notes = |vips: &str| {
            let found = read(vips);
            let changes = Changes::between(&running.routers, &found.routers);
            needs_restart(&changes.made_to(&running.routers), &found)
        };
        let now = "[[vip]]\naddress = \"10.0.1.10/24\"\npreempt = false\npreempt_delay = \"1s\"\npreference = [\"ha2\"]\n";
        assert_eq!(notes(now), [""; 0]);
        // Addresses come and go at once, but not into or out of a group, nor with an identifier that is not free.
        let two =
            "[[vip]]\naddress = \"10.0.1.10/24\"\ninterval = \"1s\"\n[[vip]]\naddress = \"10.0.1.9/24\"\n";
        let later = notes(two);
        assert!(later.len() == 1 && later[0].contains("how 10.0.1.10 is advertised"), "{later:?}");
        assert_eq!(notes("[[vip]]\naddress = \"10.0.1.9/24\"\nvrid = 10\n"), [""; 0]);
        let group = two.replace("interval = \"1s\"", "group = \"front\"") + "group = \"front\"\n";
        let later = notes(&group);
        assert!(later.len() == 1 && later[0].contains("adds 10.0.1.9"), "{later:?}");
        let later = notes(
            &two.replace("interval = \"1s\"", "vrid = 77").replace("1.9/24\"\n", "1.9/24\"\nvrid = 10\n"),
        );
        assert!(later.len() == 2 && later[1].contains("adds 10.0.1.9"), "{later:?}");
        let own = notes("[[vip]]\naddress = \"10.0.1.10/24\"\nvirtual_mac = true\n");
        assert!(own.len() == 1 && own[0].contains("changes how 10.0.1.10 is advertised"), "{own:?}");
    }

    #[test]
    fn what_comes_and_goes_is_told_as_a_whole() {
        let read = |vips: &str| crate::configuration::tests::read("ha1", vips, None).unwrap();
        let running = read("[[vip]]\naddress = \"10.0.1.10/24\"\n[[vip]]\naddress = \"10.0.1.9/24\"\n");
        let found = read("[[vip]]\naddress = \"10.0.1.9/24\"\n[[vip]]\naddress = \"10.0.1.8/24\"\n");
        let changes = Changes::between(&running.routers, &found.routers);
        let Wish::Changed { added, removed, floating } = changes.wish(&found) else { panic!("{changes:?}") };
        let addresses = |groups: &[Vec<RouterPlan>]| -> Vec<IpAddr> {
            groups.iter().flatten().map(|plan| plan.setup.address).collect()
        };
        let ip = |last: u8| IpAddr::from([10, 0, 1, last]);
        assert_eq!((addresses(&added), removed), (vec![ip(8)], vec![ip(10)]));
        assert_eq!(addresses(&changes.made_to(&running.routers)), [ip(9), ip(8)]);
        assert_eq!((changes.gone().len(), floating.len()), (1, 2));
        assert!(Changes::between(&found.routers, &found.routers).is_none());
    }
}
