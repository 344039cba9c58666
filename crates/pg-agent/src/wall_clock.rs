//! What time it is for people. Nothing is decided by it.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;

/// The moment that was so long ago by now, RFC 3339 in UTC with milliseconds.
pub fn time_of_day(now: SystemTime, ago: Duration) -> String {
    let then = OffsetDateTime::from(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    // Fails for no date that a clock shows.
    then.format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_utc_with_milliseconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_912_013_042);
        assert_eq!(time_of_day(now, Duration::ZERO), "2026-11-29T00:26:53.042Z");
        assert_eq!(time_of_day(now, Duration::from_millis(53_100)), "2026-11-29T00:25:59.942Z");
    }
}
