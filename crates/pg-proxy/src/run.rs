//! From the command line to the running driver: everything is checked and put together here, in the order in which it
//! must exist.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use ha_config::{Cluster, GRPC_PORT, ProxyHost, REST_PORT};
use ha_daemon::{ExitCode, Inherited, Signals, boottime};
use ha_routing::{Event, Router};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::args::Args;
use crate::client_tls::ClientTls;
use crate::config_watch::{ConfigWatch, Stamp};
use crate::configuration;
use crate::data_path::{DataPath, Options};
use crate::drain::Drain;
use crate::driver::{Driver, Parts, Sources};
use crate::endpoints::{self, Endpoints, Given, Misfits, Purpose};
use crate::health_probe::HealthProbe;
use crate::launch::OwnProgram;
use crate::local_link::{LinkState, LocalLink};
use crate::phase::{self, Phase};
use crate::replaced::Replaced;
use crate::rpc_service::RpcService;
use crate::snapshot::SnapshotSource;
use crate::status_page::StatusPage;
use crate::succession::{self, Succession};
use crate::topology_watch::{TopologyWatch, WatchOptions};

/// How long a process whose sessions are gone answers what was asked of it before a successor did.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Operators' wishes that may wait for the driver.
const WISHES_WAITING: usize = 16;

/// Runs the proxy until it is asked to end.
pub fn run(args: &Args) -> ExitCode {
    let mut inherited = match ha_daemon::inherited_sockets() {
        Ok(inherited) => inherited,
        Err(why) => {
            tracing::error!("{why}");
            return ExitCode::Usage;
        }
    };
    let direct = endpoints::take_streams(&mut inherited, Purpose::Predecessor).pop();
    let ancestors = endpoints::take_streams(&mut inherited, Purpose::Ancestor);
    let mut replaced = Replaced::new(direct, ancestors);
    let start = match Start::prepare(args, inherited) {
        Ok(start) => start,
        Err(why) => return failed(ExitCode::Usage, &why, &replaced),
    };
    // One thread for everything but sessions; those have threads of their own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(ExitCode::Failure, &format!("starting the runtime: {error}"), &replaced);
        }
    };
    let result = runtime.block_on(async {
        match prepare(args, start).await {
            Ok(running) => running.run(std::mem::take(&mut replaced)).await,
            Err(error) => Err(error),
        }
    });
    match result {
        Ok(signal) => {
            tracing::info!(signal, "proxy ends");
            ExitCode::Ok
        }
        Err(error) => failed(ExitCode::Failure, &format!("{error:#}"), &replaced),
    }
}

/// It cannot go on. A predecessor can, and says why in its own log.
fn failed(code: ExitCode, why: &str, replaced: &Replaced) -> ExitCode {
    tracing::error!("{why}");
    replaced.say_failed(why);
    code
}

/// What is known before anything runs.
struct Start {
    program: OwnProgram,
    stamp: Option<Stamp>,
    cluster: Cluster,
    host: ProxyHost,
    given: Given,
    tls: Option<Arc<ClientTls>>,
}

impl Start {
    fn prepare(args: &Args, inherited: Inherited) -> Result<Self, String> {
        let program = OwnProgram::note().map_err(|error| format!("finding this program: {error}"))?;
        // Before it is read: a change in between is one more reading, not a change that nobody sees.
        let stamp = Stamp::of(&args.config);
        let (cluster, host) = configuration::read(&args.config, args.node.as_deref())
            .map_err(|problems| problems.to_string())?;
        let tls = ClientTls::load(&cluster.routing).map_err(|problems| problems.to_string())?.map(Arc::new);
        let given =
            Given::sort(inherited, &cluster, &host).map_err(|misfits: Misfits| misfits.to_string())?;
        Ok(Self { program, stamp, cluster, host, given, tls })
    }
}

/// Everything that runs, put together.
struct Running {
    router: Router,
    parts: Parts,
    sources: Sources,
    page: StatusPage,
    rpc: RpcService,
    link: LocalLink,
    link_states: watch::Receiver<LinkState>,
    phase: watch::Receiver<Phase>,
}

async fn prepare(args: &Args, start: Start) -> anyhow::Result<Running> {
    let signals = Signals::listen().context("listening to signals")?;
    let upgrades = signal(SignalKind::user_defined2()).context("listening to signals")?;
    let Start { program, stamp, cluster, host, given, tls } = start;
    tracing::info!(cluster = %cluster.name, proxy = %host.name, digest = %cluster.digest, "proxy starts");
    let mut router = Router::new(configuration::setup(&cluster), boottime());
    for (member, state) in succession::administered_before() {
        router.handle_event(boottime(), Event::Administered { member, state });
    }
    let table = Arc::new(ArcSwap::new(router.table()));

    let listeners = endpoints::open(given, &cluster, &host)?;
    let kept = Arc::new(Endpoints::default());
    for (port, listener) in &listeners.clients {
        kept.keep(Purpose::from(*port), listener)?;
    }
    kept.keep(Purpose::Status, &listeners.status)?;
    kept.keep(Purpose::Grpc, &listeners.grpc)?;

    let (reports, reports_in) = mpsc::unbounded_channel();
    let read_leases = configuration::read_leases(&cluster);
    let mut options = data_options(&cluster, &host, tls);
    options.read_leases.clone_from(&read_leases);
    let data = DataPath::start_on(listeners.clients, options, Arc::clone(&table), reports);
    let data = Arc::new(data.context("starting to take sessions")?);
    let snapshot = Arc::new(SnapshotSource::new(&cluster, &host.name, router.table(), Arc::clone(&data)));
    let page = StatusPage::on(listeners.status, Arc::clone(&snapshot))?;
    let tls = configuration::tls_files(&cluster);
    let (wishes, wishes_in) = mpsc::channel(WISHES_WAITING);
    let rpc = RpcService::on(listeners.grpc, cluster.name.clone(), &tls, Arc::clone(&snapshot), wishes)?;
    let (phase, phases) = watch::channel(Phase::Arriving);
    let link = match listeners.link {
        Some(listener) => LocalLink::take_over(&args.link_socket, listener, phases.clone())?,
        None => LocalLink::bind(&args.link_socket, phases.clone()).await?,
    };
    kept.keep(Purpose::Link, link.listener())?;

    let (topology, heard) = TopologyWatch::start(&WatchOptions {
        proxy: host.name.clone(),
        agents: configuration::on_port(&cluster, GRPC_PORT),
        tls,
        read_leases,
    });
    let rest = configuration::on_port(&cluster, REST_PORT);
    let (probe, checks) = HealthProbe::new(rest, cluster.routing.check_timeout);
    let (link_state, link_states) = watch::channel(LinkState::default());
    let watched = ConfigWatch { path: args.config.clone(), node: args.node.clone(), read_as: stamp };
    let (read_file, files) = watched.start();
    let (succession, news) = Succession::new(program, kept);
    let parts = Parts {
        table,
        data,
        watch: topology,
        probe,
        link: Some(link_state),
        snapshot,
        drain: Drain::new(configuration::drain_limits(&cluster)),
        cluster,
        read_file,
        succession,
        replaced: Replaced::default(),
        phase,
    };
    let sources =
        Sources { heard, checks, reports: reports_in, wishes: wishes_in, signals, upgrades, news, files };
    Ok(Running { router, parts, sources, page, rpc, link, link_states, phase: phases })
}

impl Running {
    async fn run(self, replaced: Replaced) -> anyhow::Result<&'static str> {
        let Self { router, parts, sources, page, rpc, link, link_states, phase } = self;
        let mut doors = JoinSet::new();
        doors.spawn(door("the status page", phase.clone(), page.serve(phase.clone())));
        doors.spawn(door("gRPC", phase.clone(), rpc.serve(phase.clone())));
        let linked = async {
            link.serve(link_states).await;
            anyhow::Ok(())
        };
        doors.spawn(door("the local link", phase.clone(), linked));
        let driver = Driver::new(router, Parts { replaced, ..parts }).run(sources);
        tokio::pin!(driver);
        let signal = loop {
            tokio::select! {
                signal = &mut driver => break signal,
                Some(ended) = doors.join_next() => ended.context("a door")??,
            }
        };
        if *phase.borrow() == Phase::HandedOver {
            // Whoever asked something here is answered here.
            let answered = async { while doors.join_next().await.is_some() {} };
            drop(tokio::time::timeout(LAST_ANSWERS, answered).await);
        }
        Ok(signal)
    }
}

/// Serves at one of the doors from when this process serves. A door that closes before a successor serves is a reason to end.
async fn door<E>(
    name: &'static str,
    phase: watch::Receiver<Phase>,
    served: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()>
where
    Result<(), E>: anyhow::Context<(), E>,
{
    phase::serving(phase.clone()).await;
    served.await.context(name)?;
    anyhow::ensure!(*phase.borrow() != Phase::Serving, "{name} ended");
    Ok(())
}

fn data_options(cluster: &Cluster, host: &ProxyHost, tls: Option<Arc<ClientTls>>) -> Options {
    Options {
        listeners: configuration::listeners(cluster, host),
        workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        pin_threads: cluster.routing.pin_threads,
        other_proxies: cluster.proxies.len() > 1,
        upstreams: configuration::upstreams(cluster),
        shares: configuration::shares(cluster, host),
        read_leases: None,
        tls,
        proxy_protocol_from: cluster.routing.proxy_protocol_from.clone(),
        at_start: configuration::settings(cluster),
    }
}
