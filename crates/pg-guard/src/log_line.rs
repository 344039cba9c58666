//! The log: one line per change on standard error, written by a thread of its own, because a reader that stopped
//! reading must not stop the fence.
//!
//! That thread has ordinary priority. So it shares no lock with the one that fences, which would wait for it on a host whose
//! processors are taken by others: lines are copied into places that are there from the beginning, so that it never
//! calls the allocator, and it sleeps on a descriptor and not on the queue, whose list of sleepers has a lock.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Lines waiting to be written. A guard changes state a few times per start; this covers a burst of refusals, and what
/// does not fit is dropped.
const LINES: usize = 64;
/// Bytes of a line, its end included; the rest is cut.
const LINE_MAX: usize = 512;
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
    lines: SyncSender<Line>,
    wake: Option<Arc<EventFd>>,
    finished: Receiver<()>,
}

impl Log {
    /// Starts the writing thread.
    pub(crate) fn to_stderr() -> Self {
        let (lines, queue) = sync_channel(LINES);
        let (tell, finished) = sync_channel(1);
        // Without descriptor or thread there is no log, but still a guard: the queue's end is gone and lines are dropped.
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).ok().map(Arc::new);
        if let Some(woken) = wake.clone() {
            let write = move || {
                write_lines(&queue, &woken);
                drop(tell);
            };
            drop(std::thread::Builder::new().name("log".into()).stack_size(STACK_BYTES).spawn(write));
        }
        Self { lines, wake, finished }
    }

    /// Writes a line; never waits.
    pub(crate) fn line(&self, level: Level, text: &str) {
        let text = format!("{} {level:5} pg-guard: {}", timestamp(SystemTime::now()), one_line(text));
        drop(self.lines.try_send(Line::new(&text)));
        awaken(self.wake.as_deref());
    }

    /// Waits a moment until what was logged is written.
    pub(crate) fn finish(self) {
        let Self { lines, wake, finished } = self;
        drop(lines);
        awaken(wake.as_deref());
        let _ = finished.recv_timeout(FINISH_PATIENCE);
    }
}

fn awaken(wake: Option<&EventFd>) {
    if let Some(wake) = wake {
        // It fails only where the thread has been woken 2^64 times without having run.
        let _ = wake.write(1);
    }
}

/// Until the guard has finished with its log.
fn write_lines(queue: &Receiver<Line>, woken: &EventFd) {
    loop {
        match queue.try_recv() {
            // Nobody can be told if standard error is gone.
            Ok(line) => drop(std::io::stderr().write_all(line.as_bytes())),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                // What counts is the queue.
                let _ = woken.read();
            }
        }
    }
}

/// A line in its place.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_MAX],
    length: usize,
}

impl Line {
    fn new(text: &str) -> Self {
        let fits = |length: &usize| text.is_char_boundary(*length);
        let length = (0..=text.len().min(LINE_MAX - 1)).rev().find(fits).unwrap_or(0);
        let mut bytes = [0; LINE_MAX];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        bytes[length] = b'\n';
        Self { bytes, length: length + 1 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
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

    #[test]
    fn what_is_too_long_for_a_line_is_cut_between_characters() {
        assert_eq!(Line::new("short").as_bytes(), b"short\n");
        for text in ["x".repeat(LINE_MAX - 1), "x".repeat(LINE_MAX), "ä".repeat(LINE_MAX)] {
            let line = Line::new(&text);
            let (end, written) = line.as_bytes().split_last().unwrap();
            assert_eq!(*end, b'\n');
            assert!(text.starts_with(std::str::from_utf8(written).unwrap()) && written.len() >= LINE_MAX - 3);
        }
    }
}
