//! vrrpd: arguments, configuration, logging, driver, exit code.

use clap::Parser as _;
use ha_daemon::ExitCode;
use vrrpd::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    if args.check_config {
        return vrrpd::check_config(&args);
    }
    ha_daemon::init_logging();
    vrrpd::run(&args)
}
