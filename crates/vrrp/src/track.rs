//! What else a router's priority may follow: scripts, files, interfaces, processes, with keepalived's counters and weights,
//! so that hosts can be replaced one by one. Sums of weights are easily chosen wrongly; where both hosts are ours, the
//! tiers of the proxy's health need none of this.

use std::fmt;
use std::sync::Arc;

use crate::priority::OWNER;

/// Lowest and highest priority that weights can lead to: 0 and 255 have meanings of their own.
const LOWEST: i32 = 1;
const HIGHEST: i32 = 254;

/// How one result after another becomes a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    rise: u32,
    fall: u32,
    /// 0 to `rise + fall - 1`; well from `rise` on.
    result: u32,
    /// The first result decides alone.
    is_new: bool,
}

/// What is known of one tracked thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Nothing yet: it neither helps nor harms.
    Unknown,
    /// It is well.
    Well,
    /// It is not.
    Failed,
    /// A file that holds a number.
    Number(i64),
}

/// What a tracked thing is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// -253 to 253. Positive: added while it is well. Negative: added while it is not. 0: while it is not, the router is
    /// in Fault. A number is multiplied by it.
    pub weight: i16,
    /// What is well counts as failed and the other way round; a number counts with the other sign.
    pub reverse: bool,
}

/// What all tracked things together are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracking {
    /// To be added to the base priority.
    pub sum: i32,
    /// What makes a fault, in words.
    pub fault: Option<Arc<str>>,
}

impl Counter {
    /// Nothing known: the first result decides alone. With `init_fail` it begins as failed, and needs the whole rise.
    /// Both numbers are at least 1.
    pub fn new(rise: u32, fall: u32, init_fail: bool) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), result: 0, is_new: !init_fail }
    }

    /// One more result.
    pub fn count(&mut self, well: bool) {
        let best = self.rise + self.fall - 1;
        self.result = match (std::mem::take(&mut self.is_new), well) {
            (true, true) => best,
            (true, false) => 0,
            // One below the border: that was the last success that was missing.
            (false, true) if self.result + 1 >= self.rise => best,
            (false, true) => self.result + 1,
            (false, false) if self.result > self.rise => self.result - 1,
            (false, false) => 0,
        };
    }

    /// What has come of the results.
    pub fn sample(&self) -> Sample {
        match (self.is_new, self.result >= self.rise) {
            (true, _) => Sample::Unknown,
            (false, true) => Sample::Well,
            (false, false) => Sample::Failed,
        }
    }
}

impl Weight {
    /// What it adds to the priority; `None` = fault.
    fn effect(self, sample: Sample) -> Option<i32> {
        let weight = i32::from(self.weight);
        let well = match sample {
            Sample::Unknown => return Some(0),
            Sample::Number(number) => return self.of_number(number),
            Sample::Well => !self.reverse,
            Sample::Failed => self.reverse,
        };
        match (weight, well) {
            (0, true) => Some(0),
            (0, false) => None,
            (weight, true) => Some(weight.max(0)),
            (weight, false) => Some(weight.min(0)),
        }
    }

    /// With weight 0 any number but 0 is a fault; what leads outside the range of priorities is one, too.
    fn of_number(self, number: i64) -> Option<i32> {
        if self.weight == 0 {
            return (number == 0).then_some(0);
        }
        let sign = if self.reverse { -1 } else { 1 };
        let product = number.checked_mul(i64::from(self.weight) * sign)?;
        i32::try_from(product).ok().filter(|product| product.abs() <= HIGHEST)
    }
}

impl Tracking {
    /// All of them: name, what each is worth, and what is known of it.
    pub fn of<'a>(all: impl IntoIterator<Item = (&'a str, Weight, Sample)>) -> Self {
        let mut tracking = Self::default();
        for (name, weight, sample) in all {
            match weight.effect(sample) {
                Some(effect) => tracking.sum += effect,
                None if tracking.fault.is_none() => tracking.fault = Some(format!("{name}: {sample}").into()),
                None => {}
            }
        }
        tracking
    }

    /// A base priority with the weights, as it is advertised.
    pub fn priority(&self, base: u8) -> u8 {
        if base == OWNER {
            return OWNER;
        }
        let clamped = (i32::from(base) + self.sum).clamp(LOWEST, HIGHEST);
        u8::try_from(clamped).unwrap_or(1)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not known yet"),
            Self::Well => f.write_str("well"),
            Self::Failed => f.write_str("failed"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sample::{Failed, Number, Unknown, Well};

    fn weight(weight: i16) -> Weight {
        Weight { weight, reverse: false }
    }

    fn reversed(weight: i16) -> Weight {
        Weight { weight, reverse: true }
    }

    fn counted(mut counter: Counter, results: &str) -> Vec<Sample> {
        let count = |result: char| {
            counter.count(result == '+');
            counter.sample()
        };
        results.chars().map(count).collect()
    }

    #[test]
    fn a_new_counter_needs_one_result_and_then_the_whole_rise_or_fall() {
        assert_eq!(Counter::new(3, 2, false).sample(), Unknown);
        assert_eq!(
            counted(Counter::new(3, 2, false), "+--++-+++--"),
            [Well, Well, Failed, Failed, Failed, Failed, Failed, Failed, Well, Well, Failed]
        );
        assert_eq!(counted(Counter::new(3, 2, false), "-+++"), [Failed, Failed, Failed, Well]);
        assert_eq!(counted(Counter::new(1, 1, false), "+-+"), [Well, Failed, Well]);
    }

    #[test]
    fn a_failure_between_successes_begins_the_rise_anew_and_the_other_way_round() {
        assert_eq!(counted(Counter::new(2, 3, false), "+--+--+"), [Well; 7]);
        assert_eq!(counted(Counter::new(2, 3, false), "+---"), [Well, Well, Well, Failed]);
        assert_eq!(counted(Counter::new(3, 1, false), "-++-++"), [Failed; 6]);
    }

    #[test]
    fn one_that_begins_as_failed_needs_the_whole_rise() {
        assert_eq!(Counter::new(2, 2, true).sample(), Failed);
        assert_eq!(counted(Counter::new(2, 2, true), "++"), [Failed, Well]);
    }

    #[test]
    fn weights_count_as_in_keepalived() {
        let effects = |weight: Weight| [Unknown, Well, Failed].map(|sample| weight.effect(sample));
        assert_eq!(effects(weight(2)), [Some(0), Some(2), Some(0)]);
        assert_eq!(effects(weight(-20)), [Some(0), Some(0), Some(-20)]);
        assert_eq!(effects(weight(0)), [Some(0), Some(0), None]);
        assert_eq!(effects(reversed(2)), [Some(0), Some(0), Some(2)]);
        assert_eq!(effects(reversed(-20)), [Some(0), Some(-20), Some(0)]);
        assert_eq!(effects(reversed(0)), [Some(0), None, Some(0)]);
    }

    #[test]
    fn a_number_is_multiplied_and_must_stay_in_the_range_of_priorities() {
        assert_eq!(weight(2).effect(Number(-10)), Some(-20));
        assert_eq!(reversed(2).effect(Number(-10)), Some(20));
        assert_eq!((weight(1).effect(Number(254)), weight(1).effect(Number(255))), (Some(254), None));
        assert_eq!((weight(0).effect(Number(0)), weight(0).effect(Number(1))), (Some(0), None));
        assert_eq!(weight(253).effect(Number(i64::MAX)), None);
    }

    #[test]
    fn sums_are_clamped_and_the_first_fault_is_named() {
        let all = [("a", weight(250), Well), ("b", weight(250), Well), ("c", weight(0), Well)];
        assert_eq!(Tracking::of(all), Tracking { sum: 500, fault: None });
        assert_eq!(Tracking::of(all).priority(100), 254);
        let all = [("a", weight(-250), Failed), ("b", weight(0), Failed), ("c", weight(0), Failed)];
        let tracking = Tracking::of(all);
        assert_eq!((tracking.priority(100), tracking.fault.as_deref()), (1, Some("b: failed")));
    }

    #[test]
    fn the_guides_pair_has_the_guides_priorities() {
        // The table of 101 and 100 with weight 2: (check of ha1, check of ha2) -> (priority of ha1, of ha2).
        let priority = |base, sample| Tracking::of([("proxy", weight(2), sample)]).priority(base);
        for ((one, two), expected) in [
            ((Well, Well), (103, 102)),
            ((Failed, Well), (101, 102)),
            ((Well, Failed), (103, 100)),
            ((Failed, Failed), (101, 100)),
        ] {
            assert_eq!((priority(101, one), priority(100, two)), expected);
        }
    }
}
