//! Bounded waits on conditions. A wait that fails says what was awaited and what was seen last.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks at a condition. Short against every time that the tests measure, long enough not to load two cores.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at a condition until it holds. `look` returns what it found, or in words what it saw instead.
///
/// # Errors
/// It did not hold within `limit`; the message names it and the last observation.
pub fn wait_for<T>(awaited: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T> {
    let start = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if start.elapsed() >= limit {
            bail!("waited {:.1} s for: {awaited}\n  last seen: {seen}", start.elapsed().as_secs_f64());
        }
        thread::sleep(PAUSE);
    }
}

/// Checks that a condition goes on holding for the whole of `duration`.
///
/// # Errors
/// It was broken; the message says what was seen.
pub fn holds_for(
    condition: &str,
    duration: Duration,
    mut look: impl FnMut() -> Result<(), String>,
) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(seen) = look() {
            bail!("after {:.1} s no longer: {condition}\n  seen: {seen}", start.elapsed().as_secs_f64());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_condition_and_the_last_observation() {
        let mut looks = 0;
        let error = wait_for::<()>("a leader", Duration::from_millis(50), || {
            looks += 1;
            Err(format!("look {looks}"))
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("for: a leader"), "{error}");
        assert!(error.contains(&format!("last seen: look {looks}")), "{error}");
    }
}
