//! The log: one line per change on standard error, written by a thread of its own, because a reader that stopped
//! reading must not stop the fence.

use std::fmt;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lines waiting to be written. A guard changes state a few times per start; 256 covers a burst of refusals, and what
/// does not fit is dropped.
const LINES: usize = 256;
/// Enough to format one line; the default of 2 MiB would only look bad in process lists.
const STACK_BYTES: usize = 64 * 1024;
/// How long the end of the guard waits for the last lines.
const FINISH_PATIENCE: Duration = Duration::from_secs(1);

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// A change of state.
    Info,
    /// Unexpected, but the guard goes on.
    Warn,
    /// Someone must look.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log {
    lines: SyncSender<String>,
    finished: Receiver<()>,
}

impl Log {
    /// Starts the writing thread.
    pub(crate) fn to_stderr() -> Self {
        let (lines, queue) = sync_channel::<String>(LINES);
        let (tell, finished) = sync_channel(1);
        let write = move || {
            for line in queue {
                // Nobody can be told if standard error is gone.
                drop(std::io::stderr().write_all(line.as_bytes()));
            }
            drop(tell);
        };
        // Without the thread there is no log, but still a guard: the queue's end is gone and lines are dropped.
        drop(std::thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(write));
        Self { lines, finished }
    }

    /// Writes a line; never waits.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let line = format!("{} {level:5} pg-guard: {}\n", timestamp(SystemTime::now()), one_line(text));
        drop(self.lines.try_send(line));
    }

    /// Waits a moment until what was logged is written.
    pub(crate) fn finish(self) {
        let Self { lines, finished } = self;
        drop(lines);
        let _ = finished.recv_timeout(FINISH_PATIENCE);
    }
}

fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "; ")
}

/// RFC 3339 in UTC, for people; no decision sees it.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a day since 1970, counted in years that begin in March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(one_line("a\nb\n"), "a; b");
    }
}
