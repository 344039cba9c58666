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
use tokio::sync::Notify;

use crate::args::Args;
use crate::configuration::{Configuration, configuration};
use crate::drained::DrainMark;
use crate::driver::{Driver, Outlets, block_signals};
use crate::followers::LEAVE_LIMIT;
use crate::log_queue::{log_queue, write_records};
use crate::peer_channel::{Peers, peer_queue};
use crate::reload::Reload;
use crate::resumption::ResumptionFile;
use crate::rpc_service::Beside;
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
    let asked = Arc::new(Notify::new());
    // Before there are threads: a signal must reach nobody but the driver.
    block_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let Configuration { cluster, host, routers } = configuration.clone();
    tracing::info!(cluster = %cluster.name, host = %host.name, digest = %cluster.digest, "vrrpd starts");

    let shared: Shared = Arc::new(ArcSwap::from_pointee(Snapshot::empty(boottime())));
    let (wishes, wishes_in) = wishes().context("open an eventfd")?;
    let inside = runtime.enter();
    let (log, records) = log_queue().context("open an eventfd")?;
    let (peer_queue, outgoing) = peer_queue().context("open an eventfd")?;
    drop(inside);
    let resumption =
        ResumptionFile::new(&args.resumption_file, ha_daemon::boot_id().context("read the boot's id")?);
    let earlier = resumption.read();
    let mark = DrainMark::new(&args.state_dir);
    let drained = mark.is_set();
    let times = cluster.vrrp.clone();
    let (socket, published) = (args.proxy_socket.clone(), Arc::clone(&shared));
    let driver = move || -> anyhow::Result<()> {
        let outlets = Outlets { log, peers: peer_queue, shared: published };
        let driver = Driver::begin(&routers, &times, &socket, drained, earlier, wishes_in, outlets)?;
        ha_daemon::notify_ready();
        driver.run()
    };
    let thread = std::thread::Builder::new().name("vrrp".to_owned()).stack_size(STACK_LEN).spawn(driver);
    let thread = thread.context("start the driver's thread")?;

    let about = rpc_service::About {
        cluster: cluster.name.clone(),
        host: host.name.to_string(),
        mark,
        tls: TlsFiles { ca: cluster.tls.ca, cert: cluster.tls.cert, key: cluster.tls.key },
    };
    let others = cluster.proxies.iter().filter(|other| other.name != host.name);
    let others = others.map(|other| (other.name.clone(), other.address));
    let peers = Peers::new(others, Arc::clone(&shared), wishes.clone(), Arc::clone(&asked));
    let tls = about.tls.clone();
    let reload = Reload::new(args, &configuration, Arc::clone(&shared), wishes.clone(), asked);
    let beside = Beside { peers: Arc::clone(&peers), reload: Arc::clone(&reload) };
    let grpc_address = SocketAddr::new(host.address, VRRPD_GRPC_PORT);
    let metrics_address = SocketAddr::new(host.address, VRRPD_METRICS_PORT);
    runtime.block_on(async {
        tokio::spawn(resumption.keep(Arc::clone(&shared)));
        let watch = tokio::spawn(Arc::clone(&reload).watch());
        tokio::select! {
            // Ends when the driver has ended and its last record is written.
            () = write_records(records) => {}
            () = serve_for_ever(|| {
                let (shared, wishes) = (Arc::clone(&shared), wishes.clone());
                rpc_service::serve(about.clone(), grpc_address, shared, wishes, beside.clone())
            }) => {}
            () = Arc::clone(&peers).talk(tls, outgoing) => {}
            () = serve_for_ever(|| metrics::serve(metrics_address, Arc::clone(&shared))) => {}
        }
        // No file changes them any more.
        watch.abort();
        if !reload.followers.load().hooks_of(|_| true).end(LEAVE_LIMIT).await {
            tracing::warn!("a hook did not leave within {LEAVE_LIMIT:?} and is broken off");
        }
    });
    // What hangs on a disk is not waited for.
    runtime.shutdown_background();
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
