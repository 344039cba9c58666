//! Completes records of the history: reads, and writes unless somebody came between. Nothing waits for it; the decider
//! asks again as long as it sees the record incomplete.

use std::sync::Arc;

use ha_core::cluster_view::StoreKey;
use ha_decision::HistoryCompletion;

use super::{Shared, StoreLink};

impl StoreLink {
    /// Completes a record in the background; `at` is the time of the decision for people, RFC 3339.
    pub fn complete_history(&self, completion: HistoryCompletion, at: String) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { shared.complete_history(&completion, &at).await });
    }
}

impl Shared {
    async fn complete_history(&self, completion: &HistoryCompletion, at: &str) {
        let snapshot = match self.store.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::debug!(%error, "reading the history");
                return;
            }
        };
        let present = |key: &StoreKey| snapshot.get(&self.key(key)).map(|entry| entry.value.clone());
        let Some(puts) = completion.puts(at, present) else { return };
        let mut txn = ha_store::Txn::new();
        for (key, value) in puts {
            let key = self.key(&key);
            txn = txn.when(key.clone(), snapshot.mod_revision(&key)).put(key, value);
        }
        let outcome = self.store.txn(txn).await;
        if !outcome.is_won() {
            tracing::debug!(?outcome, "the history was not completed");
        }
    }
}
