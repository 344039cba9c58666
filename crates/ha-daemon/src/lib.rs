//! What every daemon needs around its driver: logging, signals, exit codes, readiness, and the clock of the machine.
//!
//! It refuses to know about PostgreSQL, etcd or leadership; of the project's own words it uses only those for time.
//! Begin reading at [`logging`] and [`shutdown`].

#![deny(unsafe_code)]

pub mod clock;
pub mod exit_code;
pub mod logging;
pub mod readiness;
pub mod scheduling;
pub mod shutdown;

pub use clock::{boot_id, boottime};
pub use exit_code::ExitCode;
pub use logging::init_logging;
pub use readiness::notify_ready;
pub use shutdown::{Asked, Signals};
