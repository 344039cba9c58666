//! When something is due, and how long the protocol's intervals are.
//!
//! All arithmetic is in microseconds: in hundredths of a second the skew of a short interval would be 0, and with it
//! the spreading that keeps two Backups from firing together.

use std::time::Duration;

use ha_core::MonoTime;

use crate::version::Version;

/// Advertisements that may be missed in a row.
const MISSED: u32 = 3;

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Backup: the Active has not been heard for long enough, or has given way.
    Down,
    /// Backup: a router as healthy and less preferred has been Active for long enough.
    Preempt,
    /// Active: the next advertisement.
    Advertise,
    /// Active: the next gratuitous ARP.
    Announce,
    /// The next repetition of priority 0.
    Farewell,
    /// Active: nobody has taken the address that it wanted to give away.
    Aside,
}

const ALL: [Timer; 6] =
    [Timer::Down, Timer::Preempt, Timer::Advertise, Timer::Announce, Timer::Farewell, Timer::Aside];

/// Every timer of a virtual router.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    at: [Option<MonoTime>; ALL.len()],
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: MonoTime) {
        self.at[timer as usize] = Some(at);
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        self.at[timer as usize] = None;
    }

    pub(crate) fn clear_all(&mut self) {
        self.at = [None; ALL.len()];
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<MonoTime> {
        self.at[timer as usize]
    }

    /// Sets the timer unless it is due earlier already.
    pub(crate) fn bring_forward(&mut self, timer: Timer, at: MonoTime) {
        let earlier = self.get(timer).map_or(at, |old| old.min(at));
        self.set(timer, earlier);
    }

    pub(crate) fn next(&self) -> Option<MonoTime> {
        self.at.iter().flatten().min().copied()
    }

    /// Takes the timer that has been due for longest.
    pub(crate) fn take_due(&mut self, now: MonoTime) -> Option<Timer> {
        let due = ALL.into_iter().filter_map(|timer| Some((self.get(timer)?, timer)));
        let (_, timer) = due.filter(|(at, _)| *at <= now).min_by_key(|(at, _)| *at)?;
        self.clear(timer);
        Some(timer)
    }
}

/// Skew time: the higher the priority, the sooner. In version 2 it does not depend on the interval.
pub(crate) fn skew(version: Version, priority: u8, active_interval: Duration) -> Duration {
    let unit = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_interval,
    };
    let micros = u64::try_from(unit.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(micros.saturating_mul(256 - u64::from(priority)) / 256)
}

/// Down interval: without an advertisement for this long the Active counts as dead.
pub(crate) fn down_interval(version: Version, priority: u8, active_interval: Duration) -> Duration {
    active_interval * MISSED + skew(version, priority, active_interval)
}

/// Lifetime of the address: it must vanish before others take over, as far as whole seconds allow.
pub(crate) fn lifetime_secs(interval: Duration) -> u32 {
    u32::try_from((interval * MISSED).as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn skew_and_down_interval_are_those_of_the_standards() {
        let micros = |version, priority, interval| skew(version, priority, interval).as_micros();
        assert_eq!(micros(Version::V2, 102, ms(1000)), 601_562);
        assert_eq!(micros(Version::V2, 102, ms(10_000)), 601_562);
        assert_eq!(micros(Version::V3, 102, ms(1000)), 601_562);
        assert_eq!(micros(Version::V3, 102, ms(200)), 120_312);
        assert_eq!(micros(Version::V3, 102, ms(100)), 60_156);
        assert_eq!(micros(Version::V3, 254, ms(10)), 78, "not rounded to nothing");
        assert_eq!(down_interval(Version::V3, 102, ms(200)).as_micros(), 720_312);
        assert_eq!(down_interval(Version::V2, 102, ms(1000)).as_micros(), 3_601_562);
    }

    #[test]
    fn the_address_lives_for_three_intervals_in_whole_seconds() {
        let found = [200, 400, 999, 1000, 1500].map(|interval| lifetime_secs(ms(interval)));
        assert_eq!(found, [1, 1, 2, 3, 4]);
    }

    #[test]
    fn the_timer_due_first_comes_first() {
        let mut timers = Timers::default();
        timers.set(Timer::Announce, MonoTime(5));
        timers.set(Timer::Advertise, MonoTime(3));
        timers.bring_forward(Timer::Announce, MonoTime(9));
        assert_eq!(timers.next(), Some(MonoTime(3)));
        assert_eq!(timers.take_due(MonoTime(2)), None);
        assert_eq!(timers.take_due(MonoTime(7)), Some(Timer::Advertise));
        assert_eq!(timers.take_due(MonoTime(7)), Some(Timer::Announce));
        assert_eq!(timers.next(), None);
    }
}
