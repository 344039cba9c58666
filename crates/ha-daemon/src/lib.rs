//! What every daemon needs around its driver: logging, signals, exit codes, readiness, and the clock of the machine.
//!
//! It refuses to know about PostgreSQL, etcd or leadership; of the project's own words it uses only those for time.
//! Begin reading at [`logging`] and [`shutdown`].

#![deny(unsafe_code)]

pub mod clock;
pub mod exit_code;
pub mod inherited;
pub mod logging;
pub mod memory;
pub mod readiness;
pub mod scheduling;
pub mod shutdown;

pub use clock::{boot_id, boottime};
pub use exit_code::ExitCode;
pub use inherited::{Giver, Inherited, inherited_sockets};
pub use logging::init_logging;
pub use readiness::{Watchdog, notify_main_process, notify_ready, notify_reloading, notify_stopping};
pub use shutdown::{Asked, Signals};
