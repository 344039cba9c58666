//! Median, least and greatest: what a few repetitions of a measurement are worth.

use serde::Serialize;

/// Median, least and greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Nothing when there are no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, greatest })
    }

    /// Seconds, the median in front.
    pub(crate) fn in_seconds(&self) -> String {
        let Self { median, least, greatest } = self;
        format!("{median:.2} s ({least:.2}-{greatest:.2})")
    }

    /// The three with this many decimals.
    pub(crate) fn with(&self, decimals: usize) -> String {
        let Self { median, least, greatest } = self;
        format!("{median:.decimals$} ({least:.decimals$}-{greatest:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, greatest: 10.0 });
        assert_eq!(Spread::of([7.0].into_iter()).unwrap().with(1), "7.0 (7.0-7.0)");
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
