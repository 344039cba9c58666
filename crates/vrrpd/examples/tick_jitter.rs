//! How late advertisements would be on a busy machine: runs the waiting part of vrrpd's loop (absolute timerfd of
//! CLOCK_BOOTTIME, poll) at several intervals at once beside busy loops, and prints the gaps between ticks.
//!
//! `cargo run --release -p vrrpd --example tick_jitter -- [--real-time] [--seconds 60] [--busy 4]`
#![allow(clippy::print_stdout, reason = "a measuring program prints its table")]

use std::os::fd::AsFd as _;
use std::process::{Child, Command};

use std::time::Duration;

use ha_daemon::boottime;
use ha_daemon::scheduling::{Locked, RealTime, become_real_time, lock_memory};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// As vrrpd's own.
const PRIORITY: i32 = 20;
/// Advertisement intervals, in milliseconds.
const INTERVALS: [u64; 3] = [100, 200, 250];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    if has("--burn") {
        burn();
    }
    let (real_time, seconds, busy) = (has("--real-time"), number("--seconds", 60), number("--busy", 4));
    let _burners = Burners::start(busy)?;
    let threads = INTERVALS.map(|interval| std::thread::spawn(move || gaps_of(interval, seconds, real_time)));
    println!("{} busy loops, {seconds} s, real-time priority: {real_time}", busy);
    println!("interval_ms  ticks  median_ms  p99_ms  p99.9_ms  max_ms  over_1.5  over_3  wrong_takeovers");
    for (interval, thread) in INTERVALS.into_iter().zip(threads) {
        let gaps = thread.join().map_err(|_| anyhow::anyhow!("a ticking thread panicked"))??;
        print(interval, gaps);
    }
    Ok(())
}

/// The gaps between ticks, as the receiver of the advertisements would see them on a perfect link.
fn gaps_of(interval_ms: u64, seconds: u64, real_time: bool) -> anyhow::Result<Vec<Duration>> {
    if real_time {
        lock_memory(Locked::All).map_err(anyhow::Error::msg)?;
        become_real_time(RealTime::Fifo, PRIORITY).map_err(anyhow::Error::msg)?;
    }
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    let interval = Duration::from_millis(interval_ms);
    let begin = boottime();
    let mut last = begin;
    let mut gaps = Vec::new();
    while boottime().since(begin) < Duration::from_secs(seconds) {
        // As the virtual router does it: the next advertisement is due one interval after the last one went out.
        let due = last + interval;
        let time = TimeSpec::new(
            i64::try_from(due.0 / 1_000_000_000)?,
            i64::try_from(due.0 % 1_000_000_000)?.max(1),
        );
        timer.set(Expiration::OneShot(time), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        poll(&mut [PollFd::new(timer.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
        let now = boottime();
        gaps.push(now.since(last));
        last = now;
    }
    Ok(gaps)
}

fn print(interval_ms: u64, mut gaps: Vec<Duration>) {
    gaps.sort_unstable();
    let ticks = gaps.len();
    let at = |per_mille: usize| {
        let index = (ticks * per_mille / 1000).min(ticks.saturating_sub(1));
        gaps.get(index).map_or(0.0, |gap| gap.as_secs_f64() * 1000.0)
    };
    let interval = Duration::from_millis(interval_ms);
    let over = |factor: f64| gaps.iter().filter(|gap| **gap > interval.mul_f64(factor)).count();
    // A Backup of priority 150 takes over after 3 intervals and the skew time (RFC 9568 section 6.1).
    let down = interval.mul_f64(3.0 + 106.0 / 256.0);
    let wrong = gaps.iter().filter(|gap| **gap > down).count();
    println!(
        "{interval_ms:11}  {ticks:5}  {:9.2}  {:6.2}  {:8.2}  {:6.2}  {:8}  {:6}  {wrong:15}",
        at(500),
        at(990),
        at(999),
        at(1000),
        over(1.5),
        over(3.0),
    );
}

/// Other processes that want the CPU; ended with this one.
struct Burners(Vec<Child>);

impl Burners {
    fn start(count: u64) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut burners = Self(Vec::new());
        for _ in 0..count {
            burners.0.push(Command::new(&own).arg("--burn").spawn()?);
        }
        Ok(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn burn() -> ! {
    let mut value = 1_u64;
    let parent = nix::unistd::getppid();
    loop {
        for _ in 0..10_000_000_u64 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        if nix::unistd::getppid() != parent {
            std::process::exit(0);
        }
    }
}
