//! From the command line to the running driver: everything is checked and put together here, in the order in which it
//! must exist.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ha_config::{Balance, Cluster, GRPC_PORT, ProxyHost, REST_PORT, ReadConsistency};
use ha_core::MemberName;
use ha_daemon::{ExitCode, Signals};
use ha_routing::{Router, Setup};
use ha_rpc::TlsFiles;
use tokio::sync::{mpsc, watch};

use crate::args::Args;
use crate::data_path::{DataPath, Options, Port};
use crate::drain::{ANNOUNCE, Drain};
use crate::driver::{Driver, Parts, Sources};
use crate::health_probe::HealthProbe;
use crate::local_link::{LinkState, LocalLink};
use crate::read_lease::ReadLeases;
use crate::rpc_service::RpcService;
use crate::snapshot::SnapshotSource;
use crate::status_page::StatusPage;
use crate::topology_watch::{TopologyWatch, WatchOptions};

/// A claim that is older is no evidence. Agents speak at least every 500 ms; two may be lost.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long the last known leader stays in use without any sign of life: a lease. By then its guard has ended it or
/// another one leads.
const STALE_LIMIT: Duration = Duration::from_secs(10);

/// Operators' wishes that may wait for the driver.
const WISHES_WAITING: usize = 16;

/// Runs the proxy until it is asked to end.
pub fn run(args: &Args) -> ExitCode {
    let (cluster, host) = match configuration(args) {
        Ok(read) => read,
        Err(problems) => {
            tracing::error!("{problems}");
            return ExitCode::Usage;
        }
    };
    // One thread for everything but sessions; those have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(drive(args, &cluster, &host)));
    match result {
        Ok(signal) => {
            tracing::info!(signal, "proxy ends");
            ExitCode::Ok
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::Failure
        }
    }
}

fn configuration(args: &Args) -> Result<(Cluster, ProxyHost), ha_config::Problems> {
    let cluster = ha_config::load(&args.config)?;
    let host = cluster.this_proxy(args.node.as_deref())?.clone();
    Ok((cluster, host))
}

async fn drive(args: &Args, cluster: &Cluster, host: &ProxyHost) -> anyhow::Result<&'static str> {
    let signals = Signals::listen().context("listening to signals")?;
    tracing::info!(cluster = %cluster.name, proxy = %host.name, digest = %cluster.digest, "proxy starts");
    let routing = &cluster.routing;
    let own = |port| SocketAddr::new(host.address, port);
    let router = Router::new(setup(cluster), ha_daemon::boottime());
    let table = Arc::new(ArcSwap::new(router.table()));

    let (reports, reports_in) = mpsc::unbounded_channel();
    let read_leases = read_leases(cluster);
    let options = data_options(cluster, host, read_leases.clone());
    let data = DataPath::start(options, Arc::clone(&table), reports);
    let data = Arc::new(data.context("starting to take sessions")?);
    let snapshot = Arc::new(SnapshotSource::new(cluster, &host.name, router.table(), Arc::clone(&data)));
    let page = StatusPage::bind(own(routing.status_port), Arc::clone(&snapshot)).await?;
    let tls = tls_files(cluster);
    let (wishes, wishes_in) = mpsc::channel(WISHES_WAITING);
    let source = Arc::clone(&snapshot);
    let rpc = RpcService::bind(own(routing.grpc_port), cluster.name.clone(), &tls, source, wishes)?;
    let link = LocalLink::bind(&args.link_socket).await?;

    let (topology, heard) = TopologyWatch::start(&WatchOptions {
        proxy: host.name.clone(),
        agents: on_port(cluster, GRPC_PORT),
        tls,
        read_leases,
    });
    let (probe, checks) = HealthProbe::new(on_port(cluster, REST_PORT), routing.check_timeout);
    let (link_state, link_states) = watch::channel(LinkState::default());
    let announce = if cluster.vips.is_empty() { Duration::ZERO } else { ANNOUNCE };
    let parts = Parts {
        table,
        data,
        watch: topology,
        probe,
        link: link_state,
        snapshot,
        drain: Drain::new(announce, routing.drain_timeout),
    };
    let driver = Driver::new(router, parts);
    ha_daemon::notify_ready();
    tokio::select! {
        signal = driver.run(Sources { heard, checks, reports: reports_in, wishes: wishes_in, signals }) => Ok(signal),
        served = page.serve() => served.and(Err(anyhow::anyhow!("the status page ended"))),
        served = rpc.serve() => served.context("serving gRPC").and(Err(anyhow::anyhow!("gRPC ended"))),
        error = link.serve(link_states) => Err(error).context("serving the local link"),
    }
}

fn setup(cluster: &Cluster) -> Setup {
    let routing = &cluster.routing;
    Setup {
        members: upstreams(cluster),
        check_interval: routing.check_interval,
        check_rise: routing.check_rise,
        check_fall: routing.check_fall,
        hold_timeout: routing.hold_timeout,
        maximum_read_lag: routing.maximum_read_lag_bytes,
        read_from_leader: routing.read_from_leader,
        silence: SILENCE,
        stale_limit: STALE_LIMIT,
    }
}

fn read_leases(cluster: &Cluster) -> Option<Arc<ReadLeases>> {
    let wanted = cluster.routing.reads == ReadConsistency::Linearizable;
    wanted.then(|| Arc::new(ReadLeases::new(cluster.databases.len(), cluster.failover.detection)))
}

fn data_options(cluster: &Cluster, host: &ProxyHost, read_leases: Option<Arc<ReadLeases>>) -> Options {
    let routing = &cluster.routing;
    // Floating addresses come and go; the port is there before the address.
    let addresses = std::iter::once(host.address).chain(cluster.vips.iter().map(|vip| vip.address));
    let listeners = addresses.flat_map(|address| {
        [(Port::Writes, routing.write_port), (Port::Reads, routing.read_port)]
            .map(|(kind, port)| (kind, SocketAddr::new(address, port)))
    });
    Options {
        listeners: listeners.collect(),
        workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        max_connections: routing.max_connections,
        upstream_connections: routing.upstream_connections,
        queue_timeout: routing.queue_timeout,
        hold_timeout: routing.hold_timeout,
        connect_timeout: routing.connect_timeout,
        balance: match routing.balance {
            Balance::RoundRobin => ha_routing::balance::Balance::RoundRobin,
            Balance::LeastConnections => ha_routing::balance::Balance::LeastConnections,
        },
        other_proxies: cluster.proxies.len() > 1,
        log_sessions: routing.log_sessions,
        read_leases,
        upstreams: upstreams(cluster),
    }
}

fn upstreams(cluster: &Cluster) -> Vec<(MemberName, SocketAddr)> {
    let hosts = cluster.databases.iter();
    hosts.map(|host| (host.name.clone(), SocketAddr::new(host.address, host.postgres.port))).collect()
}

fn on_port(cluster: &Cluster, port: u16) -> Vec<(MemberName, SocketAddr)> {
    let hosts = cluster.databases.iter();
    hosts.map(|host| (host.name.clone(), SocketAddr::new(host.address, port))).collect()
}

fn tls_files(cluster: &Cluster) -> TlsFiles {
    let tls = &cluster.tls;
    TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() }
}
