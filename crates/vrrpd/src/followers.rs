//! What runs beside the driver because the file says so: tracks and hooks. Made anew when the file changes them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_config::{Cluster, Vip};
use tokio::task::JoinHandle;

use crate::hook_runner::{HookRunner, Programs};
use crate::snapshot::Shared;
use crate::tracker::Board;
use crate::wishes::Wishes;

/// How long hooks that are told to leave are waited for: at the end of vrrpd less than `TimeoutStopSec` of its unit leaves.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(3);

/// All of them; they end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(crate) boards: Vec<Arc<Board>>,
    pub(crate) hooks: Vec<Arc<HookRunner>>,
    _looking: Vec<Task>,
    following: Mutex<Vec<(Arc<HookRunner>, Task)>>,
}

impl Followers {
    /// Starts what the file names. Must be called in a runtime.
    pub(crate) fn start(cluster: &Cluster, shared: &Shared, wishes: &Wishes) -> Self {
        // Those without tracks too: what an earlier file had must count no more.
        let board =
            |vip: &Vip| Board::new(vip.address, vip.tracks.clone(), Arc::clone(shared), wishes.clone());
        let boards: Vec<Arc<Board>> = cluster.vips.iter().map(board).collect();
        let programs = Programs::of(&cluster.hooks);
        let hook = |vip: &Vip| Some(HookRunner::new(vip.address, programs.clone()?, Arc::clone(shared)));
        let hooks: Vec<Arc<HookRunner>> = cluster.vips.iter().filter_map(hook).collect();
        let looking = boards.iter().flat_map(Board::start).map(Task).collect();
        let follow = |hook: &Arc<HookRunner>| (Arc::clone(hook), Task(tokio::spawn(Arc::clone(hook).run())));
        let following = hooks.iter().map(follow).collect();
        Self { boards, hooks, _looking: looking, following: Mutex::new(following) }
    }

    /// Takes the hooks of these addresses out, which go on.
    pub(crate) fn hooks_of(&self, is_one: impl Fn(IpAddr) -> bool) -> Leaving {
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        Leaving(following.extract_if(.., |(hook, _)| is_one(hook.address())).collect())
    }
}

/// Hooks of addresses that this host shall have no longer.
#[derive(Debug)]
pub(crate) struct Leaving(Vec<(Arc<HookRunner>, Task)>);

impl Leaving {
    /// To be called when the addresses are gone: tells that to the hooks and waits for them, no longer than `limit`. False
    /// when that was too short for one of them; it is broken off then.
    pub(crate) async fn end(self, limit: Duration) -> bool {
        self.0.iter().for_each(|(hook, _)| hook.end());
        let all = async {
            for (_, mut task) in self.0 {
                // An error is its panic, which the log has.
                drop((&mut task.0).await);
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

/// A task that ends with this.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
