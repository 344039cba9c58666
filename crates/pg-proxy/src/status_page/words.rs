//! Numbers as people read them.

/// A time span with its two largest units: `850 ms`, `42 s`, `3 min 5 s`, `2 h 3 min`, `4 d 1 h`.
pub(super) fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// An amount of bytes with three digits: `0 B`, `1.21 KiB`, `117 MiB`, `9.20 GiB`.
pub(super) fn bytes(amount: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if amount < 1024 {
        return format!("{amount} B");
    }
    // In hundredths of the unit: whole numbers, so nothing is rounded up to 1024.
    let mut hundredths = u128::from(amount) * 100;
    let mut unit = "B";
    for larger in UNITS {
        if hundredths < 102_400 {
            break;
        }
        hundredths /= 1024;
        unit = larger;
    }
    match (hundredths / 100, hundredths % 100) {
        (whole @ 0..10, rest) => format!("{whole}.{rest:02} {unit}"),
        (whole @ 10..100, rest) => format!("{whole}.{} {unit}", rest / 10),
        (whole, _) => format!("{whole} {unit}"),
    }
}

/// A count with its thousands apart: `40 112` (narrow no-break spaces).
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len());
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `one`, `one and two`, `one, two and three`; `nobody` for none.
pub(super) fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_short_and_stay_true() {
        for (millis, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (7_384_000, "2 h 3 min"),
            (349_200_000, "4 d 1 h"),
        ] {
            assert_eq!(span(millis), text);
        }
        for (amount, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1240, "1.21 KiB"),
            (16_384, "16.0 KiB"),
            (1_048_575, "1023 KiB"),
            (123_456_789, "117 MiB"),
            (9_876_543_210, "9.19 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
        assert_eq!(
            [7, 999, 40_112, 1_000_000].map(count),
            ["7", "999", "40\u{202f}112", "1\u{202f}000\u{202f}000"]
        );
        let names = ["pg1", "pg2", "pg3"].map(str::to_owned);
        assert_eq!(list(&names), "pg1, pg2 and pg3");
        assert_eq!((list(&names[..1]), list(&[])), ("pg1".to_owned(), "nobody".to_owned()));
    }
}
