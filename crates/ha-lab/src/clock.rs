//! The machine's monotonic clock. All namespaces share it, so times from different hosts of a lab can be compared.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot on `CLOCK_MONOTONIC`.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .expect("the monotonic clock can always be read")
}
