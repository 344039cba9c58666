//! One endpoint: a task keeps a connection to it, replaces it when it breaks and tests it when it is doubted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;

use super::answer::{self, Failure};
use super::{EtcdOptions, TlsFiles, tls};

/// First and longest pause between attempts to connect.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A doubted endpoint comes last for this long.
const SHUN_FOR: Duration = Duration::from_secs(2);

/// Pings of HTTP/2 are only the second net (deadlines and the watch's own questions notice silence sooner): more often
/// than every 5 s an etcd with default settings closes the connection for "too many pings".
const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(2));

/// A connection without open streams may not ping at all; the kernel asks instead.
const TCP_KEEPALIVE: Duration = Duration::from_secs(2);

/// Why an endpoint is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It has trouble of its own, such as no leader. The connection is fine.
    Trouble,
    /// It was silent too long: test the connection.
    Slow,
    /// The connection failed: replace it.
    Broken,
}

struct State {
    /// The client of the present connection, or why there is none.
    client: Result<Client, String>,
    shun_until: Option<Instant>,
    /// When it last answered anything.
    answered: Option<Instant>,
    doubt: Option<Doubt>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

pub(super) struct Link {
    pub(super) endpoint: String,
    state: Mutex<State>,
    doubted: Notify,
    /// Bumped when this or a sibling link comes up.
    came_up: watch::Sender<u64>,
}

/// What a connection attempt needs.
#[derive(Debug, Clone)]
struct Dial {
    address: Endpoint,
    tls: Option<TlsFiles>,
    deadline: Duration,
}

impl Link {
    /// A link that begins to connect, and the task that does it.
    pub(super) fn start(
        endpoint: &str,
        options: &EtcdOptions,
        came_up: watch::Sender<u64>,
    ) -> Result<(Arc<Self>, AbortHandle), String> {
        let address = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|error| format!("{endpoint}: {}", answer::chain(&error)))?;
        let tls = match (address.uri().scheme_str(), &options.tls) {
            (Some("https"), Some(files)) => Some(files.clone()),
            (Some("https"), None) => return Err(format!("{endpoint}: needs certificates")),
            (Some("http"), _) => None,
            _ => return Err(format!("{endpoint}: expected http://host:port or https://host:port")),
        };
        let state = State {
            client: Err("not connected yet".to_owned()),
            shun_until: None,
            answered: None,
            doubt: None,
        };
        let link = Arc::new(Self {
            endpoint: endpoint.to_owned(),
            state: Mutex::new(state),
            doubted: Notify::new(),
            came_up,
        });
        let dial = Dial { address, tls, deadline: options.call_deadline };
        let task = tokio::spawn(Arc::clone(&link).maintain(dial)).abort_handle();
        Ok((link, task))
    }

    /// The client of the present connection, or why there is none.
    pub(super) fn client(&self) -> Result<Client, String> {
        self.state().client.clone()
    }

    pub(super) fn is_shunned(&self) -> bool {
        self.state().shun_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn praise(&self) {
        let mut state = self.state();
        state.shun_until = None;
        state.answered = Some(Instant::now());
    }

    /// Whether it answered something within this time.
    pub(super) fn answered_within(&self, time: Duration) -> bool {
        self.state().answered.is_some_and(|at| at.elapsed() < time)
    }

    pub(super) fn doubt(&self, doubt: Doubt) {
        let mut state = self.state();
        state.shun_until = Some(Instant::now() + SHUN_FOR);
        if doubt != Doubt::Trouble {
            // A broken connection stays broken, even if it was also slow.
            if state.doubt != Some(Doubt::Broken) {
                state.doubt = Some(doubt);
            }
            self.doubted.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn maintain(self: Arc<Self>, dial: Dial) {
        let mut pause = RETRY_AFTER.0;
        loop {
            match dial.connect().await {
                Ok(client) => {
                    pause = RETRY_AFTER.0;
                    self.up(client.clone());
                    let reason = self.watch_over(client, dial.deadline).await;
                    tracing::debug!(endpoint = self.endpoint, reason, "connection to etcd given up");
                    self.state().client = Err(reason);
                }
                Err(reason) => {
                    tracing::debug!(endpoint = self.endpoint, reason, "no connection to etcd");
                    self.state().client = Err(reason);
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_AFTER.1);
                }
            }
        }
    }

    fn up(&self, client: Client) {
        let mut state = self.state();
        state.client = Ok(client);
        state.doubt = None;
        drop(state);
        self.came_up.send_modify(|count| *count += 1);
    }

    /// Waits until the connection has to be replaced; returns why.
    async fn watch_over(&self, client: Client, deadline: Duration) -> String {
        loop {
            self.doubted.notified().await;
            let doubt = self.state().doubt.take();
            match doubt {
                Some(Doubt::Broken) => return "the connection broke".to_owned(),
                Some(Doubt::Slow) => {
                    if let Err(reason) = probe(client.clone(), deadline).await {
                        return reason;
                    }
                }
                Some(Doubt::Trouble) | None => {}
            }
        }
    }
}

impl Dial {
    async fn connect(&self) -> Result<Client, String> {
        let mut address = self
            .address
            .clone()
            .connect_timeout(self.deadline)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .tcp_keepalive_interval(Some(TCP_KEEPALIVE))
            .tcp_keepalive_retries(Some(2))
            .http2_keep_alive_interval(HTTP2_PING.0)
            .keep_alive_timeout(HTTP2_PING.1)
            .keep_alive_while_idle(false);
        if let Some(files) = &self.tls {
            let config = tls::read(files).await?;
            address = address.tls_config(config).map_err(|error| answer::chain(&error))?;
        }
        let connecting = timeout(self.deadline, address.connect()).await;
        let channel = connecting
            .map_err(|_| format!("no connection within {:?}", self.deadline))?
            .map_err(|error| answer::chain(&error))?;
        // A member without leader shall say so instead of waiting, and close streams instead of leaving them silent.
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(Channel::Tonic(channel), Some(options)).await;
        let client = client.map_err(|error| answer::chain(&error))?;
        // With TLS 1.3 a server refuses our certificate only after we believe to be connected.
        probe(client.clone(), self.deadline).await?;
        Ok(client)
    }
}

/// Whether etcd answers on this connection, if only to complain.
async fn probe(mut client: Client, deadline: Duration) -> Result<(), String> {
    match timeout(deadline, client.status()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error @ Error::GRpcStatus(_))) => match Failure::of(error) {
            Failure::Unclear { reason, broken: true } => Err(reason),
            _ => Ok(()),
        },
        Ok(Err(error)) => Err(answer::chain(&error)),
        Err(_) => Err(format!("no answer within {deadline:?}")),
    }
}
