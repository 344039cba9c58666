//! Processes that leave nothing of a processor to others: busy loops, one process after the other, and memory that is
//! filled again and again.

use std::process::{Child, Command, Stdio};

const BUSY: &str = "while :; do :; done";
const FORKS: &str = "while :; do /bin/true; done";
const MEMORY: &str = "while :; do head -c 64M /dev/zero | tail -c 1 >/dev/null; done";

/// They end with this.
pub(crate) struct Burners(Vec<Child>);

impl Burners {
    /// Four busy loops for each processor, and two of the other kinds.
    pub(crate) fn start() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let busy = std::iter::repeat_n(BUSY, 4 * cores);
        let all = busy.chain([FORKS, FORKS, MEMORY, MEMORY]);
        Self(all.map(start).collect())
    }

    /// Whether all of them still burn.
    pub(crate) fn all_burn(&mut self) -> bool {
        self.0.iter_mut().all(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }
}

fn start(script: &str) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", script]).stdin(Stdio::null());
    command.spawn().expect("setpriv of util-linux")
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
        }
        for child in &mut self.0 {
            drop(child.wait());
        }
    }
}
