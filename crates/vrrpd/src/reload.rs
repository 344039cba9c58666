//! A changed file while vrrpd runs: read whole and checked first, on the ordinary thread; then what may change is put in
//! force, and what may not is named until the next start. A file that is refused changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ha_config::Cluster;
use tokio::sync::Notify;

use crate::args::Args;
use crate::configuration::{Configuration, RouterPlan, configuration};
use crate::followers::Followers;
use crate::snapshot::Shared;
use crate::wishes::{Wish, Wishes};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

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
    plans: Vec<RouterPlan>,
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
        let (cluster, plans) = (running.cluster.clone(), running.routers.iter().flatten().cloned().collect());
        let digest = cluster.digest.clone();
        let state = Mutex::new(InForce { cluster, plans, digest, notes: Vec::new() });
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
        self.followers.store(Arc::new(Followers::start(&cluster, &self.shared, &self.wishes)));
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
        let at_start = needs_restart(&state, found);
        for note in &at_start {
            tracing::warn!("the file was read: {note}");
        }
        if asked || found.cluster.digest != state.digest {
            tracing::info!(digest = found.cluster.digest, "the file was read");
        }
        state.digest.clone_from(&found.cluster.digest);
        state.notes = at_start;
        let both = state.plans.iter().filter_map(|old| Some((old, plan_of(found, old)?)));
        let tunings = both.map(|(old, new)| (old.setup.address.to_string(), new.setup.tuning())).collect();
        if !self.wishes.wish(Wish::Tuned { tunings, times: found.cluster.vrrp.clone() }) {
            state.notes.push("cluster.toml: the driver takes nothing; send SIGHUP again".to_owned());
            return;
        }
        let beside = |cluster: &Cluster| {
            let tracks = cluster.vips.iter().map(|vip| (vip.address, vip.tracks.clone())).collect::<Vec<_>>();
            (tracks, cluster.hooks.clone())
        };
        if beside(&state.cluster) != beside(&found.cluster) {
            let followers = Followers::start(&found.cluster, &self.shared, &self.wishes);
            // The old ones end with their last reader.
            self.followers.store(Arc::new(followers));
        }
        state.cluster = found.cluster.clone();
    }

    /// Nothing in here panics with the lock held.
    fn locked(&self) -> std::sync::MutexGuard<'_, InForce> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of the file waits for the next start.
fn needs_restart(state: &InForce, found: &Configuration) -> Vec<String> {
    let mut notes = Vec::new();
    for old in &state.plans {
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
        .filter(|new| state.plans.iter().all(|old| old.setup.address != new.setup.address))
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
            let (cluster, plans) =
                (running.cluster.clone(), running.routers.iter().flatten().cloned().collect());
            let state = InForce { cluster, plans, digest: String::new(), notes: Vec::new() };
            needs_restart(&state, &read(vips))
        };
        let now = "[[vip]]\naddress = \"10.0.1.10/24\"\npreempt = false\npreempt_delay = \"1s\"\npreference = [\"ha2\"]\n";
        assert_eq!(notes(now), [""; 0]);
        let later = notes(
            "[[vip]]\naddress = \"10.0.1.10/24\"\ninterval = \"1s\"\n[[vip]]\naddress = \"10.0.1.9/24\"\n",
        );
        assert!(
            later.len() == 2 && later[0].contains("advertised") && later[1].contains("adds 10.0.1.9"),
            "{later:?}"
        );
        let own = notes("[[vip]]\naddress = \"10.0.1.10/24\"\nvirtual_mac = true\n");
        assert!(own.len() == 1 && own[0].contains("changes how 10.0.1.10 is advertised"), "{own:?}");
        assert!(notes("[[vip]]\naddress = \"10.0.1.9/24\"\n")[0].contains("no longer has 10.0.1.10"));
    }
}
