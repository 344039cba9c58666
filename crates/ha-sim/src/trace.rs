//! The story of a run, in words: one line per thing that happened. Byte-identical for the same seed.

use crate::clock::{MS, SECOND, US};

/// Collects lines when somebody wants them.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that keeps its lines, or one that costs nothing.
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: Vec::new() }
    }

    /// Writes a line; `words` is not evaluated when nobody wants the trace.
    pub(crate) fn say(&mut self, now: u64, words: impl FnOnce() -> String) {
        if self.on {
            let (s, ms, us) = (now / SECOND, now % SECOND / MS, now % MS / US);
            self.lines.push(format!("{s:>4}.{ms:03}{us:03} {}", words()));
        }
    }

    /// All lines.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines
    }
}
