//! What runs beside the driver because the file says so: tracks and hooks. Made anew when the file changes them.

use std::sync::Arc;

use ha_config::Cluster;
use tokio::task::JoinHandle;

use crate::hook_runner::{HookRunner, Programs};
use crate::snapshot::Shared;
use crate::tracker::Board;
use crate::wishes::Wishes;

/// All of them; they end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(crate) boards: Vec<Arc<Board>>,
    pub(crate) hooks: Vec<Arc<HookRunner>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Followers {
    /// Starts what the file names. Must be called in a runtime.
    pub(crate) fn start(cluster: &Cluster, shared: &Shared, wishes: &Wishes) -> Self {
        let address = |vip: &ha_config::Vip| vip.address.to_string();
        // Those without tracks too: what an earlier file had must count no more.
        let board = |vip| Board::new(address(vip), vip.tracks.clone(), Arc::clone(shared), wishes.clone());
        let boards: Vec<Arc<Board>> = cluster.vips.iter().map(board).collect();
        let programs = Programs::of(&cluster.hooks);
        let hook = |vip| Some(HookRunner::new(address(vip), programs.clone()?, Arc::clone(shared)));
        let hooks: Vec<Arc<HookRunner>> = cluster.vips.iter().filter_map(hook).collect();
        let mut tasks: Vec<JoinHandle<()>> = boards.iter().flat_map(Board::start).collect();
        tasks.extend(hooks.iter().map(|hook| tokio::spawn(Arc::clone(hook).run())));
        Self { boards, hooks, tasks }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
