//! Reads the cluster file again, when somebody asks for it and when the file has changed. Reads on a thread of its own: a
//! hung disk must not hold up the loop that decides. What becomes of what was read is the driver's business.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ha_config::{Cluster, Problems};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::configuration;

/// How often the file is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file was read.
#[derive(Debug)]
pub struct FileRead {
    /// What it says, or every problem.
    pub found: Result<Box<Cluster>, Problems>,
    /// Somebody asked for it; otherwise the file was seen to change.
    pub asked: bool,
}

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds. The time of the last change of the inode too: a copy may keep the time of its original.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file as it is now; none while it is not there.
    pub fn of(path: &Path) -> Option<Self> {
        let seen = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: seen.ino(),
            length: seen.len(),
            modified: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
        })
    }
}

/// Which file is watched, for whom.
#[derive(Debug, Clone)]
pub struct ConfigWatch {
    /// The file.
    pub path: PathBuf,
    /// The proxy host, as on the command line.
    pub node: Option<String>,
    /// The stamp from before it was read at the start.
    pub read_as: Option<Stamp>,
}

impl ConfigWatch {
    /// Begins to watch. Each message on the sender asks for the file; the receiver has what was read. Must be called in a
    /// runtime.
    pub fn start(self) -> (mpsc::Sender<()>, mpsc::Receiver<FileRead>) {
        // One wish that waits is as good as many: the file is read after it.
        let (ask, asked) = mpsc::channel(1);
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.run(asked, sender));
        (ask, receiver)
    }

    async fn run(self, mut asked: mpsc::Receiver<()>, reads: mpsc::Sender<FileRead>) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen { read: self.read_as, last: self.read_as };
        loop {
            let asked = tokio::select! {
                wish = asked.recv() => match wish {
                    Some(()) => true,
                    None => return,
                },
                _ = interval.tick() => false,
            };
            let Some(now) = self.aside(Stamp::of).await else { return };
            if !seen.is_to_be_read(now) && !asked {
                continue;
            }
            seen.read = now;
            let node = self.node.clone();
            let read = move |path: &Path| configuration::read(path, node.as_deref());
            let Some(found) = self.aside(read).await else { return };
            let found = found.map(|(cluster, _)| Box::new(cluster));
            if reads.send(FileRead { found, asked }).await.is_err() {
                return;
            }
        }
    }

    /// On a thread of its own; none when the process ends meanwhile.
    async fn aside<T: Send + 'static>(&self, work: impl FnOnce(&Path) -> T + Send + 'static) -> Option<T> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || work(&path)).await.ok()
    }
}

/// What was seen of the file.
#[derive(Debug)]
struct Seen {
    /// When it was read.
    read: Option<Stamp>,
    /// When it was looked at last.
    last: Option<Stamp>,
}

impl Seen {
    /// A change is read when it has stayed the same from one look to the next: what is being copied is not whole yet.
    fn is_to_be_read(&mut self, now: Option<Stamp>) -> bool {
        let stays = std::mem::replace(&mut self.last, now) == now;
        stays && now.is_some() && now != self.read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_has_stayed() {
        let stamp =
            |length| Some(Stamp { inode: 1, length, modified: (5, 0), changed: (5, u32::MAX.into()) });
        let mut seen = Seen { read: stamp(1), last: stamp(1) };
        assert!(!seen.is_to_be_read(stamp(1)), "unchanged");
        assert!(!seen.is_to_be_read(stamp(2)), "just changed");
        assert!(!seen.is_to_be_read(stamp(3)), "still growing");
        assert!(seen.is_to_be_read(stamp(3)));
        seen.read = stamp(3);
        assert!(!seen.is_to_be_read(stamp(3)), "read once");
        assert!(!seen.is_to_be_read(None) && !seen.is_to_be_read(None), "not there");
        assert!(!seen.is_to_be_read(stamp(3)), "back as it was read");
    }
}
