//! From the command line to the running driver: everything is checked and put together here.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ha_config::{VRRPD_GRPC_PORT, VRRPD_METRICS_PORT};
use ha_daemon::{ExitCode, boottime};
use ha_rpc::TlsFiles;

use crate::args::Args;
use crate::configuration::{Configuration, configuration};
use crate::driver::{Driver, block_signals};
use crate::log_queue::{log_queue, write_records};
use crate::snapshot::{Shared, Snapshot};
use crate::wishes::wishes;
use crate::{metrics, rpc_service};

/// A server that could not listen tries again after this long: the host's own address may come later than we do.
const SERVE_AGAIN: Duration = Duration::from_secs(2);
/// The driver's thread does little and deeply recursive nothing; a small stack keeps locked memory small.
const STACK_LEN: usize = 256 * 1024;

/// Checks the files and says what is wrong with them.
pub fn check_config(args: &Args) -> ExitCode {
    if let Err(problems) = configuration(args) {
        drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{problems}\n")));
        return ExitCode::Usage;
    }
    match ha_config::run_check_proxy_config(&args.config, args.node.as_deref(), |_| Ok(())) {
        0 => ExitCode::Ok,
        _ => ExitCode::Usage,
    }
}

/// Runs until it is asked to end.
pub fn run(args: &Args) -> ExitCode {
    let configuration = match configuration(args) {
        Ok(configuration) => configuration,
        Err(problems) => {
            tracing::error!("{problems}");
            return ExitCode::Usage;
        }
    };
    match drive(args, configuration) {
        Ok(()) => {
            tracing::info!("ended; no floating address is left here");
            ExitCode::Ok
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::Failure
        }
    }
}

fn drive(args: &Args, configuration: Configuration) -> anyhow::Result<()> {
    let Configuration { cluster, host, routers } = configuration;
    // Before there are threads: a signal must reach nobody but the driver.
    block_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    tracing::info!(cluster = %cluster.name, host = %host.name, digest = %cluster.digest, "vrrpd starts");

    let shared: Shared = Arc::new(ArcSwap::from_pointee(Snapshot::empty(boottime())));
    let (log, records) = log_queue();
    let (wishes, wishes_in) = wishes().context("open an eventfd")?;
    let (socket, published) = (args.proxy_socket.clone(), Arc::clone(&shared));
    let driver = move || -> anyhow::Result<()> {
        let driver = Driver::begin(&routers, &socket, wishes_in, log, published)?;
        ha_daemon::notify_ready();
        driver.run()
    };
    let thread = std::thread::Builder::new().name("vrrp".to_owned()).stack_size(STACK_LEN).spawn(driver);
    let thread = thread.context("start the driver's thread")?;

    let about = rpc_service::About {
        cluster: cluster.name.clone(),
        host: host.name.to_string(),
        file_digest: cluster.digest.clone(),
        tls: TlsFiles { ca: cluster.tls.ca, cert: cluster.tls.cert, key: cluster.tls.key },
    };
    let grpc_address = SocketAddr::new(host.address, VRRPD_GRPC_PORT);
    let metrics_address = SocketAddr::new(host.address, VRRPD_METRICS_PORT);
    runtime.block_on(async {
        tokio::select! {
            // Ends when the driver has ended and its last record is written.
            () = write_records(records) => {}
            () = serve_for_ever(|| rpc_service::serve(about.clone(), grpc_address, Arc::clone(&shared), wishes.clone())) => {}
            () = serve_for_ever(|| metrics::serve(metrics_address, Arc::clone(&shared))) => {}
        }
    });
    thread.join().map_err(|_| anyhow::anyhow!("the driver's thread panicked"))?
}

/// Those who look on must not stop what they look at: a server that fails is logged once and started again.
async fn serve_for_ever<E: Into<anyhow::Error>, F: Future<Output = Result<(), E>>>(serve: impl Fn() -> F) {
    let mut told = String::new();
    loop {
        if let Err(error) = serve().await {
            let text = format!("{:#}", error.into());
            if text != told {
                tracing::warn!("not serving: {text}; trying again every {SERVE_AGAIN:?}");
                told = text;
            }
        }
        tokio::time::sleep(SERVE_AGAIN).await;
    }
}
