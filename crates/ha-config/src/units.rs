//! Durations and sizes as people write them.

use std::fmt::Write as _;
use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u32); 5] = [("kB", 10), ("MB", 20), ("GB", 30), ("TB", 40), ("B", 0)];

/// `500ms`, `5s`, `2m`, `1h`: a whole number and a unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// `16MB`, `1GB`: a whole number and one of PostgreSQL's units, which are powers of 1024.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, shift) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(1_u64.checked_shl(*shift)?)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// The shortest way to write a duration that [`parse_duration`] reads back (to the millisecond).
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if (millis > 0 && millis.is_multiple_of(size)) || unit == "ms" {
            write!(text, "{}{unit}", millis / size).expect("writing to a string cannot fail");
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_a_unit_and_fit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("2min"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_secs(3600)));
        for bad in
            ["", "5", "s", "-5s", "1.5s", "5 s", "5S", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(parse_duration(bad), None, "{bad:?}");
        }
        assert_eq!(parse_size("1MB"), Some(1_048_576));
        assert_eq!(parse_size("8B"), Some(8));
        for bad in ["1Mb", "1", "MB", "99999999TB"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for text in ["100ms", "1s", "90s", "2m", "1h", "1500ms", "0ms"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
    }
}
