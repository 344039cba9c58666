//! What a human should mend before it hurts: versions with known defects, certificates that run out, a stranger under a
//! member's name. Looked at once a minute beside the driver, logged once, shown by `hactl list`.
//!
//! It refuses to matter: nothing is decided by it, nothing waits for it, and what cannot be looked at is left out.

mod certificate;
mod database;
mod senders;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ha_config::Cluster;
use ha_core::MemberName;
use ha_store::Store;
use tokio::sync::watch;

use crate::postgres::Postgres;

/// How often everything is looked at. The shortest notice that anything here gives is a day.
const EVERY: Duration = Duration::from_secs(60);
/// After the start there is more important work.
const FIRST_AFTER: Duration = Duration::from_secs(15);

/// Sentences for people, in alphabetical order.
pub type AdviceList = Arc<[String]>;

/// Where to look.
pub struct Adviser {
    store: Arc<dyn Store>,
    postgres: Arc<Postgres>,
    addresses: BTreeMap<MemberName, IpAddr>,
    certificates: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Adviser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adviser").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl Adviser {
    /// For this host.
    pub fn new(cluster: &Cluster, store: Arc<dyn Store>, postgres: Arc<Postgres>) -> Self {
        let mut certificates = BTreeSet::from([cluster.tls.ca.clone(), cluster.tls.cert.clone()]);
        if cluster.etcd.tls {
            certificates.extend([cluster.etcd.ca.clone(), cluster.etcd.cert.clone()]);
        }
        let addresses = cluster.databases.iter().map(|host| (host.name.clone(), host.address)).collect();
        Self { store, postgres, addresses, certificates }
    }

    /// Begins to look, in the background, until nobody follows any more.
    pub fn start(self) -> watch::Receiver<AdviceList> {
        let (current, follow) = watch::channel(AdviceList::from([]));
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_AFTER).await;
            while current.receiver_count() > 0 {
                let found = self.look().await;
                current.send_if_modified(|known| {
                    for new in found.iter().filter(|advice| !known.contains(advice)) {
                        tracing::warn!("{new}");
                    }
                    std::mem::replace(known, Arc::clone(&found)) != found
                });
                tokio::time::sleep(EVERY).await;
            }
        });
        follow
    }

    async fn look(&self) -> AdviceList {
        let mut found = certificate::judge_files(&self.certificates).await;
        found.extend(store::judge(&self.store.status().await));
        found.extend(senders::judge(&self.postgres.details().senders, &self.addresses));
        match self.postgres.database_facts().await {
            Ok(facts) => found.extend(database::judge(&facts)),
            // A standby that is being cloned, a server that is down: other lines say so.
            Err(error) => tracing::debug!(%error, "the database was not looked at"),
        }
        found.sort();
        found.dedup();
        found.into()
    }
}
