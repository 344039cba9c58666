//! From the command line to the running driver: everything is checked and put together here, in the order in which it
//! must exist.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use ha_config::{Cluster, DatabaseHost, GRPC_PORT, LayerMode, REST_PORT, Secrets};
use ha_core::BootId;
use ha_daemon::scheduling::{Locked, lock_memory};
use ha_daemon::{ExitCode, Signals};
use ha_decision::{Decider, Event};
use ha_store::{EtcdOptions, EtcdStore, Keys, Store, TlsFiles};
use tokio::sync::{mpsc, watch};

use crate::advice::Adviser;
use crate::args::Args;
use crate::driver::{Driver, EVENTS_WAITING, Parts, Sources};
use crate::executor::Executor;
use crate::guard_client::{GuardClient, GuardShown};
use crate::guard_link::GuardLink;
use crate::heartbeat::{HeartbeatLink, HeartbeatOptions};
use crate::node_state_file::NodeStateFile;
use crate::peers::{self, PeerOptions};
use crate::postgres::{DirectStarter, Place, Postgres, Starter, UserSettings};
use crate::role_followers::RoleFollowers;
use crate::snapshot::SnapshotSource;
use crate::store_link::{LinkOptions, StoreLink};
use crate::{rest, rpc_service, startup, storage_watch};

/// Operators that may wait; each holds one connection of hactl.
const REQUESTS_WAITING: usize = 16;

/// Runs the agent until it is asked to end.
pub fn run(args: &Args) -> ExitCode {
    let (cluster, secrets) = match configuration(args) {
        Ok(read) => read,
        Err(problems) => {
            tracing::error!("{problems}");
            return ExitCode::Usage;
        }
    };
    // One thread: what the agent does is waiting; what blocks goes to the pool.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(drive(args, &cluster, secrets)));
    match result {
        Ok(signal) => {
            tracing::info!(signal, "agent ends; PostgreSQL is left as it is");
            ExitCode::Ok
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::Failure
        }
    }
}

fn configuration(args: &Args) -> Result<(Cluster, Secrets), ha_config::Problems> {
    let cluster = ha_config::load(&args.config)?;
    let secrets = ha_config::load_secrets(&args.config.with_file_name("secrets.toml"))?;
    let host = cluster.this_node(args.node.as_deref())?;
    host.postgres.resolve(&cluster.name)?;
    Ok((cluster, secrets))
}

async fn drive(args: &Args, cluster: &Cluster, secrets: Secrets) -> anyhow::Result<&'static str> {
    let signals = Signals::listen().context("listening to signals")?;
    let host = cluster.this_node(args.node.as_deref())?;
    let boot = ha_daemon::boot_id().context("reading the boot id")?;
    let state_dir = PathBuf::from("/var/lib/matriarch").join(cluster.name.as_str());
    let node_state = NodeStateFile::new(&state_dir)?;
    let setup =
        startup::setup(cluster, host, node_state.load()?, boot.clone()).context("drawing a random seed")?;
    tracing::info!(cluster = %cluster.name, member = %host.name, digest = %cluster.digest, "agent starts");

    if let Err(why) = lock_memory(Locked::Touched) {
        tracing::warn!(why, "the agent");
    }
    let heartbeats = heartbeats(cluster, host, &secrets)?;
    let (events, events_in) = mpsc::channel(EVENTS_WAITING);
    let (guard, guard_shown, postgres) = server(cluster, host, secrets, state_dir, &boot, &events)?;
    storage_watch::start(&postgres.place().paths.data_dir, cluster.failover.storage_timeout, events.clone())
        .context("watching storage")?;
    let store = store(cluster)?;
    let advice = Adviser::new(cluster, Arc::clone(&store), Arc::clone(&postgres)).start();
    let store = StoreLink::start(store, link_options(cluster, host), events.clone());
    let (peers, peers_in, rpc_peers) = {
        let (peers, receiver, sender) = peers::start(PeerOptions::new(cluster, host));
        (peers, receiver, sender)
    };
    let snapshot = SnapshotSource::new(cluster, host, Arc::clone(&postgres), advice, guard_shown);
    let (requests, requests_in) = mpsc::channel(REQUESTS_WAITING);

    let followers = RoleFollowers::default();
    let rest = rest::serve(SocketAddr::new(host.address, REST_PORT), snapshot.subscribe());
    let rpc = rpc_service::serve(
        rpc_service::RpcOptions::new(cluster, SocketAddr::new(host.address, GRPC_PORT)),
        snapshot.subscribe(),
        requests,
        rpc_peers,
        followers.clone(),
    );
    let parts = Parts {
        node_state,
        store,
        executor: Arc::new(Executor::new((*postgres).clone())),
        postgres,
        guard,
        peers,
        heartbeats,
        followers,
        snapshot,
    };
    let sources = Sources { events: events_in, peers: peers_in, requests: requests_in, signals };
    let driver = Driver::new(Decider::new(setup), parts, events);
    ha_daemon::notify_ready();
    tokio::select! {
        ended = driver.run(sources) => ended.context("keeping promises durable"),
        served = rest => served.context("serving REST").and(Err(anyhow::anyhow!("REST ended"))),
        served = rpc => served.context("serving gRPC").and(Err(anyhow::anyhow!("gRPC ended"))),
    }
}

fn server(
    cluster: &Cluster,
    host: &DatabaseHost,
    secrets: Secrets,
    state_dir: PathBuf,
    boot: &BootId,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<(GuardLink, GuardShown, Arc<Postgres>)> {
    let paths = host.postgres.resolve(&cluster.name)?;
    let place = Place::new(cluster, host, paths, secrets, state_dir);
    let user = UserSettings { parameters: host.postgres.parameters.clone(), hba: host.postgres.hba.clone() };
    let (link, shown, starter): (GuardLink, GuardShown, Arc<dyn Starter>) =
        if cluster.guard.mode == LayerMode::Off {
            let (_, nothing) = watch::channel(None);
            (GuardLink::off(events.clone()), nothing, Arc::new(DirectStarter::new(place.clone())))
        } else {
            let (client, notices) = GuardClient::start(cluster.guard.socket.clone(), boot.clone());
            let link = GuardLink::start(client.clone(), notices, boot.clone(), events.clone());
            (link, client.follow(), Arc::new(client))
        };
    Ok((link, shown, Arc::new(Postgres::new(place, user, starter))))
}

fn heartbeats(cluster: &Cluster, host: &DatabaseHost, secrets: &Secrets) -> anyhow::Result<HeartbeatLink> {
    match HeartbeatOptions::new(cluster, host, secrets.heartbeat_key.as_ref()) {
        Some(options) => HeartbeatLink::start(options).context("listening to heartbeats"),
        None => {
            tracing::warn!(
                "no heartbeat_key in secrets.toml: without heartbeats the loss of a host is noticed later"
            );
            Ok(HeartbeatLink::off())
        }
    }
}

fn store(cluster: &Cluster) -> anyhow::Result<Arc<dyn Store>> {
    let etcd = &cluster.etcd;
    let tls =
        etcd.tls.then(|| TlsFiles { ca: etcd.ca.clone(), cert: etcd.cert.clone(), key: etcd.key.clone() });
    let options = EtcdOptions::new(etcd.endpoints.clone(), tls, cluster.failover.call_deadline);
    let store = EtcdStore::new(&options, &Keys::new(&cluster.name)).context("setting up etcd")?;
    Ok(Arc::new(store))
}

fn link_options(cluster: &Cluster, host: &DatabaseHost) -> LinkOptions {
    LinkOptions {
        prefix: Keys::new(&cluster.name).prefix().to_owned(),
        me: host.name.clone(),
        lease_ttl: cluster.failover.lease_ttl,
        member_ttl: cluster.failover.member_ttl,
        renew_interval: cluster.failover.renew_interval,
    }
}
