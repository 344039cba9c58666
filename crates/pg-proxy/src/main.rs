//! pg-proxy: arguments, configuration, logging, driver, exit code.

use clap::Parser as _;
use ha_daemon::ExitCode;
use pg_proxy::args::Args;
use pg_proxy::client_tls::ClientTls;

fn main() -> ExitCode {
    if let Some(code) = pg_proxy::launch() {
        return code;
    }
    let args = Args::parse();
    if args.check_config {
        let files = |cluster: &ha_config::Cluster| ClientTls::load(&cluster.routing).map(drop);
        return match ha_config::run_check_proxy_config(&args.config, args.node.as_deref(), files) {
            0 => ExitCode::Ok,
            _ => ExitCode::Usage,
        };
    }
    ha_daemon::init_logging();
    pg_proxy::run(&args)
}
