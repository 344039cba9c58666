//! What a guard's successor must know, and its text form.

use ha_core::guard_link::{Fence, FenceMethod};
use ha_core::{BootId, Epoch, Generation, MonoTime};

use crate::lease::{Holding, Leadership, Lease};

/// Everything that survives the guard's own death. Valid only within one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What is armed and fenced.
    pub lease: Lease,
    /// A fence that no agent has acknowledged.
    pub fence: Option<Fence>,
    /// Number of the latest start.
    pub start: u64,
    /// The postmaster, if one was running.
    pub postmaster: Option<u32>,
    /// The system whose epochs these are.
    pub system_id: Option<u64>,
}

/// A state's text was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written in another boot: its times mean nothing.
    #[error("guard state: of another boot")]
    OtherBoot,
    /// Not complete or not well formed.
    #[error("guard state: line {line}: expected {expected}")]
    Malformed {
        /// Which line, from 1.
        line: usize,
        /// What should stand there.
        expected: &'static str,
    },
}

/// By their position in the text: only ever append.
const METHODS: [FenceMethod; 5] = [
    FenceMethod::CgroupKill,
    FenceMethod::SignalLoop,
    FenceMethod::FoundAtStart,
    FenceMethod::Freezer,
    FenceMethod::ProcessWalk,
];

const HEAD: &str = "matriarch-guard-state 1";

impl State {
    /// The text form, with the boot that it belongs to.
    pub fn to_text(&self, boot_id: &BootId) -> String {
        let Lease { armed, hold_until, highest, fenced } = &self.lease;
        let held =
            |h: &Holding| format!("{} {} {}", h.leadership.epoch, h.leadership.generation, h.deadline.0);
        let fence = |f: &Fence| {
            let how = METHODS.iter().position(|how| *how == f.how).unwrap_or_default();
            format!("{} {} {} {how} {}", f.epoch, f.generation, f.at.0, u8::from(f.empty))
        };
        let lines = [
            HEAD.to_owned(),
            format!("boot {}", boot_id.0),
            format!("armed {}", text(armed.as_ref().map(held))),
            format!("hold {}", text(hold_until.map(|t| t.0.to_string()))),
            format!("highest {highest}"),
            format!("fenced {}", text(fenced.map(|l| format!("{} {}", l.epoch, l.generation)))),
            format!("fence {}", text(self.fence.as_ref().map(fence))),
            format!("start {}", self.start),
            format!("postmaster {}", text(self.postmaster.map(|p| p.to_string()))),
            format!("system {}", text(self.system_id.map(|s| s.to_string()))),
            "end\n".to_owned(),
        ];
        lines.join("\n")
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// Written in another boot, or not exactly what [`Self::to_text`] writes.
    pub fn from_text(source: &str, boot_id: &BootId) -> Result<Self, StateError> {
        let mut lines = Lines { lines: source.lines(), line: 0 };
        lines.exactly(HEAD)?;
        let boot = lines.value("boot")?;
        if boot != boot_id.0 {
            return Err(StateError::OtherBoot);
        }
        let armed = lines.numbers::<3>("armed")?.map(|[epoch, generation, deadline]| Holding {
            leadership: leadership(epoch, generation),
            deadline: MonoTime(deadline),
        });
        let hold_until = lines.numbers::<1>("hold")?.map(|[until]| MonoTime(until));
        let highest = Epoch(lines.number("highest")?);
        let fenced = lines.numbers::<2>("fenced")?.map(|[epoch, generation]| leadership(epoch, generation));
        let fence = lines.numbers::<5>("fence")?.map(|[epoch, generation, at, how, empty]| Fence {
            epoch: Epoch(epoch),
            generation: Generation(generation),
            at: MonoTime(at),
            how: usize::try_from(how)
                .ok()
                .and_then(|how| METHODS.get(how).copied())
                .unwrap_or(FenceMethod::FoundAtStart),
            empty: empty != 0,
        });
        let start = lines.number("start")?;
        let postmaster = match lines.numbers::<1>("postmaster")? {
            Some([pid]) => Some(u32::try_from(pid).map_err(|_| lines.malformed("a process id"))?),
            None => None,
        };
        let system_id = lines.numbers::<1>("system")?.map(|[id]| id);
        lines.exactly("end")?;
        let lease = Lease { armed, hold_until, highest, fenced };
        Ok(Self { lease, fence, start, postmaster, system_id })
    }
}

fn leadership(epoch: u64, generation: u64) -> Leadership {
    Leadership { epoch: Epoch(epoch), generation: Generation(generation) }
}

fn text(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

struct Lines<'a> {
    lines: std::str::Lines<'a>,
    line: usize,
}

impl<'a> Lines<'a> {
    fn malformed(&self, expected: &'static str) -> StateError {
        StateError::Malformed { line: self.line, expected }
    }

    fn next(&mut self, expected: &'static str) -> Result<&'a str, StateError> {
        self.line += 1;
        self.lines.next().ok_or_else(|| self.malformed(expected))
    }

    fn exactly(&mut self, expected: &'static str) -> Result<(), StateError> {
        if self.next(expected)? == expected { Ok(()) } else { Err(self.malformed(expected)) }
    }

    fn value(&mut self, key: &'static str) -> Result<&'a str, StateError> {
        let line = self.next(key)?;
        line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| self.malformed(key))
    }

    fn number(&mut self, key: &'static str) -> Result<u64, StateError> {
        self.value(key)?.parse().map_err(|_| self.malformed(key))
    }

    fn numbers<const N: usize>(&mut self, key: &'static str) -> Result<Option<[u64; N]>, StateError> {
        let value = self.value(key)?;
        if value == "-" {
            return Ok(None);
        }
        let numbers: Result<Vec<u64>, _> = value.split(' ').map(str::parse).collect();
        let numbers = numbers.map_err(|_| self.malformed(key))?;
        numbers.try_into().map(Some).map_err(|_| self.malformed(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> State {
        State {
            lease: Lease {
                armed: Some(Holding { leadership: leadership(5, 9), deadline: MonoTime(77) }),
                hold_until: Some(MonoTime(99)),
                highest: Epoch(5),
                fenced: Some(leadership(4, 2)),
            },
            fence: Some(Fence {
                epoch: Epoch(4),
                generation: Generation(2),
                at: MonoTime(12),
                how: FenceMethod::SignalLoop,
                empty: true,
            }),
            start: 3,
            postmaster: Some(4711),
            system_id: Some(u64::MAX),
        }
    }

    #[test]
    fn a_state_reads_back() {
        let boot = BootId("b".into());
        for state in [State::default(), full()] {
            assert_eq!(State::from_text(&state.to_text(&boot), &boot), Ok(state));
        }
    }

    #[test]
    fn another_boot_or_a_cut_file_is_refused() {
        let boot = BootId("b".into());
        let text = full().to_text(&boot);
        assert_eq!(State::from_text(&text, &BootId("c".into())), Err(StateError::OtherBoot));
        for length in 0..text.len() - 1 {
            assert!(State::from_text(&text[..length], &boot).is_err(), "{length} bytes were accepted");
        }
    }
}
