//! etcd as a [`Store`].
//!
//! The client library is a thin wrapper: it neither fails over, nor repairs streams, nor ends a wait. So this module
//! keeps one connection per endpoint (`link`), chooses among them (`select`), puts a deadline on everything,
//! repairs streams itself (`keep_alive`, `follow`) and decides from each error whether the request may have been
//! done (`answer`). An idle store writes nothing to etcd: renewals, reads and watches are no writes there.

mod answer;
mod follow;
mod keep_alive;
mod link;
mod select;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client as etcd;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use self::answer::Failure;
use self::keep_alive::Keepers;
use self::link::Doubt;
use self::select::Links;
use crate::error::StoreError;
use crate::keys::Keys;
use crate::model::whole_seconds;
use crate::store::{
    KeepAlive, Lease, LeaseId, MemberStatus, Refusal, Snapshot, Store, StoreStatus, Txn, TxnOutcome,
};
use crate::watch::Watch;

/// How long one endpoint may keep a read or renewal waiting before a second endpoint is asked as well.
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// How long ago an endpoint may have answered for a transaction to go there untried.
const TRIED_WITHIN: Duration = Duration::from_millis(200);

/// The files of TLS to etcd. They are read again at each connect, so replaced files count from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that sign etcd's servers, PEM.
    pub ca: PathBuf,
    /// Our client certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Where etcd is, and how long to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// One URL per member, such as `https://10.0.0.1:2379`; the one listed first is tried first.
    pub endpoints: Vec<String>,
    /// Needed for `https` endpoints.
    pub tls: Option<TlsFiles>,
    /// Every call ends after this long, whatever etcd does. It also paces how fast a silent watch is noticed
    /// (after two and a half of it).
    pub call_deadline: Duration,
    /// How often a watch reads everything again, in case it missed something.
    pub resync_interval: Duration,
}

impl EtcdOptions {
    /// Options with a resync every 10 s.
    pub fn new(endpoints: Vec<String>, tls: Option<TlsFiles>, call_deadline: Duration) -> Self {
        Self { endpoints, tls, call_deadline, resync_interval: Duration::from_secs(10) }
    }
}

#[derive(Debug)]
struct Inner {
    prefix: String,
    call_deadline: Duration,
    resync_interval: Duration,
    links: Links,
    keepers: Keepers,
}

/// etcd, seen through the prefix of one cluster. Clones share their connections.
#[derive(Debug, Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

impl EtcdStore {
    /// Begins to connect, in the background, to every endpoint. Calls wait for a connection within their deadline. Must
    /// be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Configuration`] if there is no endpoint or one of them is no usable URL.
    pub fn new(options: &EtcdOptions, keys: &Keys) -> Result<Self, StoreError> {
        let inner = Inner {
            prefix: keys.prefix().to_owned(),
            call_deadline: options.call_deadline,
            resync_interval: options.resync_interval,
            links: Links::start(options)?,
            keepers: Keepers::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let hedge = Some(HEDGE_AFTER);
        self.links
            .ask("read", self.call_deadline, hedge, None, |mut candidate| async move {
                let options = etcd::GetOptions::new().with_prefix();
                let read = candidate.client.get(self.prefix.as_str(), Some(options)).await;
                answer::snapshot(&read.map_err(Failure::of)?)
            })
            .await
    }

    fn request(&self, txn: &Txn) -> etcd::Txn {
        let compares: Vec<etcd::Compare> = txn.compares.iter().map(answer::compare).collect();
        let puts = txn.puts.iter().map(|put| {
            let lease = put.lease.unwrap_or(LeaseId::NONE).0;
            let options = etcd::PutOptions::new().with_lease(lease);
            etcd::TxnOp::put(put.key.as_str(), put.value.clone(), Some(options))
        });
        let deletes = txn.deletes.iter().map(|key| etcd::TxnOp::delete(key.as_str(), None));
        let writes: Vec<etcd::TxnOp> = puts.chain(deletes).collect();
        // A lost comparison brings the present state along, at the revision at which it was lost.
        let everything = etcd::TxnOp::get(self.prefix.as_str(), Some(etcd::GetOptions::new().with_prefix()));
        etcd::Txn::new().when(compares).and_then(writes).or_else([everything])
    }

    /// Finds an endpoint that answers before a transaction goes there: a transaction cannot be asked of a second one while
    /// the first, which may have just lost power, is silent. A linearizable read can, and it also tells a member that has
    /// lost its majority.
    async fn try_endpoints(&self) -> Result<(), StoreError> {
        if self.links.first_answered_within(TRIED_WITHIN) {
            return Ok(());
        }
        let patience = self.call_deadline / 2;
        self.links
            .ask("read before a transaction", patience, Some(HEDGE_AFTER), None, |mut candidate| async move {
                let options = etcd::GetOptions::new().with_prefix().with_limit(1).with_keys_only();
                candidate.client.get(self.prefix.as_str(), Some(options)).await.map_err(Failure::of)
            })
            .await
            .map(drop)
    }

    /// Never hedged: applied through one endpoint, the other would answer "lost". The next endpoint is tried only
    /// when the request provably never left through the one before.
    async fn txn(&self, txn: &Txn) -> TxnOutcome {
        let request = self.request(txn);
        if let Err(error) = self.try_endpoints().await {
            return TxnOutcome::Refused { reason: unsent(error) };
        }
        let deadline = Instant::now() + self.call_deadline;
        let mut unsent = "no endpoint is connected".to_owned();
        for mut candidate in self.links.candidates(deadline).await {
            let Ok(answered) = timeout_at(deadline, candidate.client.txn(request.clone())).await else {
                self.links.doubt(candidate.index, Doubt::Slow);
                let reason = format!("no answer of {} within {:?}", candidate.endpoint, self.call_deadline);
                return TxnOutcome::Unknown { reason };
            };
            match answered {
                Ok(response) => {
                    self.links.prefer(candidate.index);
                    return answer::outcome(&response);
                }
                Err(error) => {
                    let failure = Failure::of(error);
                    self.links.doubt_after(candidate.index, &failure);
                    match failure {
                        Failure::NotSent(reason) => unsent = reason,
                        Failure::Refused(reason) => return TxnOutcome::Refused { reason },
                        Failure::Unclear { reason, .. } => return TxnOutcome::Unknown { reason },
                    }
                }
            }
        }
        TxnOutcome::Refused { reason: Refusal::NotSent(unsent) }
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let seconds = i64::try_from(whole_seconds(ttl).as_secs()).unwrap_or(i64::MAX);
        // Asking a second endpoint may make a second lease; nobody renews it, so it ends by itself.
        self.links
            .ask("lease grant", self.call_deadline, None, None, |mut candidate| async move {
                let granted = candidate.client.lease_grant(seconds, None).await.map_err(Failure::of)?;
                Ok(Lease { id: LeaseId(granted.id()), ttl: answer::seconds(granted.ttl()) })
            })
            .await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.keepers.forget(lease);
        self.links
            .ask("lease revocation", self.call_deadline, None, None, |mut candidate| async move {
                match candidate.client.lease_revoke(lease.0).await.map_err(Failure::of) {
                    Ok(_) | Err(Failure::Refused(Refusal::LeaseNotFound)) => Ok(()),
                    Err(failure) => Err(failure),
                }
            })
            .await
    }

    async fn status(&self) -> StoreStatus {
        let asked = self.links.each().map(|(endpoint, connected)| async move {
            let status = match connected {
                Ok(mut client) => match timeout(self.call_deadline, client.status()).await {
                    Ok(Ok(status)) => Ok(status),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer within {:?}", self.call_deadline)),
                },
                Err(reason) => Err(reason),
            };
            answer::member_status(endpoint, status)
        });
        let members: Vec<MemberStatus> = join_all(asked).await;
        StoreStatus { members }
    }
}

/// Why a transaction was not even sent.
fn unsent(error: StoreError) -> Refusal {
    match error {
        StoreError::Unauthenticated { reason, .. } => Refusal::Unauthenticated(reason),
        StoreError::PermissionDenied { reason, .. } => Refusal::PermissionDenied(reason),
        StoreError::Unavailable { reason, .. } => Refusal::NotSent(reason),
        other => Refusal::NotSent(other.to_string()),
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot().await
    }

    async fn txn(&self, txn: Txn) -> TxnOutcome {
        self.inner.txn(&txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, StoreError> {
        keep_alive::renew(&self.inner, lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    fn watch(&self) -> Watch {
        Watch::spawn(|events| follow::follow(Arc::clone(&self.inner), events))
    }

    async fn status(&self) -> StoreStatus {
        self.inner.status().await
    }
}
