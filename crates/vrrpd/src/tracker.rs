//! Looks at what a floating address follows beside pg-proxy, and tells the driver what it is worth. On the ordinary thread:
//! a script or a disk that hangs holds nothing up.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ha_config::{Track, Tracked};
use nix::fcntl::OFlag;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use vrrp::ProxyHealth;
use vrrp::track::{Counter, Sample, Tracking, Weight};

use crate::program;
use crate::snapshot::Shared;
use crate::wishes::{Wish, Wishes};

/// `IFF_UP` in `/sys/class/net/NAME/flags` (netdevice(7)); the carrier has a file of its own there.
const UP: u32 = 0x1;
/// A file with a number is shorter, in bytes.
const NUMBER_LIMIT: u64 = 64;

/// What all tracks of one address have come to.
#[derive(Debug)]
pub(crate) struct Board {
    /// Which address, as the driver knows it.
    address: IpAddr,
    tracks: Vec<Track>,
    samples: Mutex<Vec<Sample>>,
    wishes: Wishes,
    shared: Shared,
}

impl Board {
    pub(crate) fn new(address: IpAddr, tracks: Vec<Track>, shared: Shared, wishes: Wishes) -> Arc<Self> {
        let counter = |track: &Track| Counter::new(track.rise, track.fall, track.init_fail).sample();
        let samples = Mutex::new(tracks.iter().map(counter).collect());
        Arc::new(Self { address, tracks, samples, wishes, shared })
    }

    /// Looks for ever; must be called in a runtime.
    pub(crate) fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        self.tell();
        (0..self.tracks.len()).map(|index| tokio::spawn(Arc::clone(self).follow(index))).collect()
    }

    async fn follow(self: Arc<Self>, index: usize) {
        let Some(track) = self.tracks.get(index) else { return };
        let mut counter = Counter::new(track.rise, track.fall, track.init_fail);
        let mut reader = Reader::default();
        let mut interval = tokio::time::interval(track.interval);
        // One that takes longer than its interval is not run twice at a time, nor twice in a row.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let sample = match self.look(track, &mut reader).await {
                Sample::Number(number) => Sample::Number(number),
                seen => {
                    counter.count(seen == Sample::Well);
                    counter.sample()
                }
            };
            self.note(index, sample);
        }
    }

    async fn look(&self, track: &Track, reader: &mut Reader) -> Sample {
        let seen = match &track.what {
            Tracked::Script(words) => {
                program::run(words, Some(&track.user), track.timeout).await.is_success()
            }
            Tracked::File(path) => {
                let path = path.clone();
                return reader.look(track.timeout, move || number_in(&path)).await;
            }
            Tracked::Interface(name) => is_running(name),
            Tracked::Process(name) => has_process(Path::new("/proc"), name),
            Tracked::Proxy => self.shared.load().proxy >= ProxyHealth::Alive,
        };
        if seen { Sample::Well } else { Sample::Failed }
    }

    fn note(&self, index: usize, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut samples[index], sample);
        drop(samples);
        if old != sample {
            tracing::info!(address = %self.address, track = self.tracks[index].name(), %old, new = %sample, "tracked");
        }
        // Told each time: a wish may be lost.
        self.tell();
    }

    fn tell(&self) {
        let tracking = self.tracking();
        self.wishes.wish(Wish::Tracking { address: self.address, tracking });
    }

    fn tracking(&self) -> Tracking {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<String> = self.tracks.iter().map(Track::name).collect();
        let all = self.tracks.iter().zip(&names).zip(&*samples);
        Tracking::of(all.map(|((track, name), sample)| {
            (name.as_str(), Weight { weight: track.weight, reverse: track.reverse }, *sample)
        }))
    }

    /// Each in words, for people.
    pub(crate) fn shown(&self) -> Vec<String> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.tracks.iter().zip(&*samples);
        all.map(|(track, sample)| format!("{}: {sample} (weight {})", track.name(), track.weight)).collect()
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether it looks at these tracks for this address.
    pub(crate) fn is_of(&self, address: IpAddr, tracks: &[Track]) -> bool {
        (self.address, &*self.tracks) == (address, tracks)
    }
}

/// Reads on another thread, which hangs as long as a mount does.
#[derive(Debug, Default)]
struct Reader {
    /// One that took too long. There is no second one beside it, however often it is looked.
    late: Option<JoinHandle<Sample>>,
}

impl Reader {
    /// What `read` finds; failed when that takes longer than `limit`, or an earlier one has not come to its end yet.
    async fn look(&mut self, limit: Duration, read: impl FnOnce() -> Sample + Send + 'static) -> Sample {
        if self.late.as_ref().is_some_and(|late| !late.is_finished()) {
            return Sample::Failed;
        }
        // What came too late is too old as well.
        self.late = None;
        let mut reading = tokio::task::spawn_blocking(read);
        if let Ok(read) = tokio::time::timeout(limit, &mut reading).await {
            return read.unwrap_or(Sample::Failed);
        }
        self.late = Some(reading);
        Sample::Failed
    }
}

/// What the file holds; 0 when there is none, as there is nothing to be added then. What is no number has failed.
fn number_in(path: &Path) -> Sample {
    match short_text(path) {
        Ok(text) => text.trim().parse().map_or(Sample::Failed, Sample::Number),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Sample::Number(0),
        Err(_) => Sample::Failed,
    }
}

/// The text of a file that is no pipe, no device and not long.
fn short_text(path: &Path) -> io::Result<String> {
    // Not to wait for somebody at the other end before it can be seen that it is a pipe.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    let length = file.take(NUMBER_LIMIT).read_to_string(&mut text)?;
    if length as u64 == NUMBER_LIMIT { Err(io::ErrorKind::InvalidData.into()) } else { Ok(text) }
}

fn is_running(name: &str) -> bool {
    let read =
        |file: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{file}")).unwrap_or_default();
    let flags = u32::from_str_radix(read("flags").trim().trim_start_matches("0x"), 16).unwrap_or(0);
    flags & UP != 0 && read("carrier").trim() == "1"
}

fn has_process(proc: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(proc) else { return false };
    let is_pid = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    entries.flatten().filter(|entry| is_pid(&entry.file_name())).any(|entry| {
        // One that ends meanwhile is none.
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;
    use crate::wishes::wishes;

    /// Upper limit for a busy machine.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn files_processes_and_interfaces_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("weight");
        assert_eq!(number_in(&file), Sample::Number(0));
        std::fs::write(&file, "-20\n").unwrap();
        assert_eq!(number_in(&file), Sample::Number(-20));
        std::fs::write(&file, "many").unwrap();
        assert_eq!(number_in(&file), Sample::Failed);
        std::fs::write(&file, format!("1{:64}2", "")).unwrap();
        assert_eq!(number_in(&file), Sample::Failed, "too long");
        assert_eq!(number_in(dir.path()), Sample::Failed);
        std::fs::create_dir(dir.path().join("77")).unwrap();
        std::fs::write(dir.path().join("77/comm"), "pg-proxy\n").unwrap();
        assert!(has_process(dir.path(), "pg-proxy") && !has_process(dir.path(), "haproxy"));
        assert!(!is_running("no-such-one"));
    }

    #[tokio::test]
    async fn a_read_that_hangs_has_failed_in_time_and_there_is_no_second_beside_it() {
        // A pipe: whoever opens it waits until somebody writes.
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let started = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let read = || {
            let (pipe, started) = (pipe.clone(), Arc::clone(&started));
            move || {
                started.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let text = std::fs::read_to_string(pipe).unwrap();
                Sample::Number(text.parse().unwrap())
            }
        };
        let mut reader = Reader::default();
        let begun = std::time::Instant::now();
        for _ in 0..5 {
            assert_eq!(reader.look(Duration::from_millis(20), read()).await, Sample::Failed);
        }
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        // The one that hangs gets this, too late to count; only then there is another.
        std::fs::write(&pipe, "7").unwrap();
        let end = std::time::Instant::now() + LONG;
        while reader.look(LONG, || Sample::Number(8)).await != Sample::Number(8) {
            assert!(std::time::Instant::now() < end, "it has what it waited for");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(started.load(std::sync::atomic::Ordering::SeqCst), 1);
        // As a tracked file it is none, and nobody waits for it.
        assert_eq!(number_in(&pipe), Sample::Failed);
    }

    #[tokio::test]
    async fn a_script_that_fails_often_enough_changes_what_the_driver_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let flag = dir.path().join("flag");
        std::fs::write(&flag, "").unwrap();
        let track = Track {
            what: Tracked::Script(vec![
                "/usr/bin/test".to_owned(),
                "-e".to_owned(),
                flag.display().to_string(),
            ]),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(10),
            rise: 2,
            fall: 2,
            weight: 2,
            init_fail: false,
            reverse: false,
            user: nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name,
        };
        let (wishes, wishes_in) = wishes().unwrap();
        let shared = Arc::new(arc_swap::ArcSwap::from_pointee(one_active()));
        let board = Board::new([10, 0, 1, 10].into(), vec![track], shared, wishes);
        let _tasks = board.start();
        let sum = async |expected: i32| {
            let end = std::time::Instant::now() + Duration::from_secs(20);
            loop {
                let told = std::iter::from_fn(|| wishes_in.take())
                    .any(|wish| matches!(wish, Wish::Tracking { tracking, .. } if tracking.sum == expected));
                if told {
                    return;
                }
                assert!(std::time::Instant::now() < end, "never told {expected}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        sum(2).await;
        assert!(board.shown()[0].ends_with("well (weight 2)"), "{:?}", board.shown());
        std::fs::remove_file(&flag).unwrap();
        sum(0).await;
        std::fs::write(&flag, "").unwrap();
        sum(2).await;
    }
}
