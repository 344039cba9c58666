//! vrrpd: arguments, configuration, logging, driver, exit code.

use ha_daemon::ExitCode;

fn main() -> ExitCode {
    ExitCode::Usage
}
