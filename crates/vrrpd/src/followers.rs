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
    running: Mutex<Running>,
}

/// What they run as.
#[derive(Debug, Default)]
struct Running {
    looking: Vec<(Arc<Board>, Vec<Task>)>,
    following: Vec<(Arc<HookRunner>, Task)>,
}

impl Followers {
    /// Starts what the file names. What ran before for the same goes on: a track that was started anew would count nothing
    /// at first, and a hook that was would be run again. Must be called in a runtime.
    pub(crate) fn start(cluster: &Cluster, shared: &Shared, wishes: &Wishes, earlier: &Self) -> Self {
        let mut earlier = earlier.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Those without tracks too: what an earlier file had must count no more.
        let look = |vip: &Vip| {
            let same = |(board, _): &mut (Arc<Board>, _)| board.is_of(vip.address, &vip.tracks);
            earlier.looking.extract_if(.., same).next().unwrap_or_else(|| {
                let board = Board::new(vip.address, vip.tracks.clone(), Arc::clone(shared), wishes.clone());
                let tasks = board.start().into_iter().map(Task).collect();
                (board, tasks)
            })
        };
        let looking: Vec<_> = cluster.vips.iter().map(look).collect();
        let programs = Programs::of(&cluster.hooks);
        let follow = |vip: &Vip| {
            let programs = programs.as_ref()?;
            let same = |(hook, _): &mut (Arc<HookRunner>, _)| hook.is_of(vip.address, programs);
            let kept = earlier.following.extract_if(.., same).next();
            Some(kept.unwrap_or_else(|| {
                let hook = HookRunner::new(vip.address, programs.clone(), Arc::clone(shared));
                let task = Task(tokio::spawn(Arc::clone(&hook).run()));
                (hook, task)
            }))
        };
        let following: Vec<_> = cluster.vips.iter().filter_map(follow).collect();
        Self {
            boards: looking.iter().map(|(board, _)| Arc::clone(board)).collect(),
            hooks: following.iter().map(|(hook, _)| Arc::clone(hook)).collect(),
            running: Mutex::new(Running { looking, following }),
        }
    }

    /// Takes the hooks of these addresses out, which go on.
    pub(crate) fn hooks_of(&self, is_one: impl Fn(IpAddr) -> bool) -> Leaving {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        Leaving(running.following.extract_if(.., |(hook, _)| is_one(hook.address())).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;

    const VIP: &str = "[[vip]]\naddress = \"10.0.1.10/24\"\npriority_model = \"keepalived\"\n";
    const TRACK: &str = "[[vip.track]]\nfile = \"/nowhere\"\nweight = 2\n";
    const OTHER: &str = "[[vip]]\naddress = \"10.0.1.9/24\"\n";

    #[tokio::test]
    async fn what_the_file_does_not_change_goes_on() {
        let shared: Shared = Arc::new(arc_swap::ArcSwap::from_pointee(one_active()));
        let (wishes, _wishes_in) = crate::wishes::wishes().unwrap();
        let start = |vips: &str, hook: &str, earlier: &Followers| {
            let hooks = format!("[hooks]\nvip_changed = \"{hook}\"\n");
            let file = crate::configuration::tests::read("ha1", &format!("{vips}{hooks}"), None).unwrap();
            Followers::start(&file.cluster, &shared, &wishes, earlier)
        };
        let first = start(&format!("{VIP}{TRACK}"), "/bin/true", &Followers::default());
        let second = start(&format!("{OTHER}{VIP}{TRACK}"), "/bin/true", &first);
        assert!(Arc::ptr_eq(&first.boards[0], &second.boards[1]));
        assert!(Arc::ptr_eq(&first.hooks[0], &second.hooks[1]));
        drop(first);
        assert!(second.running.lock().unwrap().following.iter().all(|(_, task)| !task.0.is_finished()));
        let third = start(&format!("{VIP}{TRACK}").replace("= 2", "= 3"), "/bin/true", &second);
        assert!(!Arc::ptr_eq(&third.boards[0], &second.boards[1]), "another weight");
        assert!(Arc::ptr_eq(&third.hooks[0], &second.hooks[1]));
        // Of an address that goes, the hook is left to whoever tells it so.
        assert_eq!(second.hooks_of(|_| true).0.len(), 1);
        let fourth = start(VIP, "/bin/false", &third);
        assert!(!Arc::ptr_eq(&fourth.hooks[0], &third.hooks[0]), "another program");
    }
}
