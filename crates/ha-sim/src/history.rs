//! The history of leaderships as agents complete it in the store. Its time of day is the host's own virtual clock.

use ha_core::MonoTime;
use ha_decision::HistoryCompletion;
use ha_store::Txn;
use ha_store::model::Model;

use crate::store_link::PREFIX;

/// Reads, and writes what was made of it unless something came between; whether it was written.
pub(crate) fn complete(model: &mut Model, now: MonoTime, completion: &HistoryCompletion) -> bool {
    let Ok(snapshot) = model.snapshot(now) else { return false };
    let key = |key: &ha_core::cluster_view::StoreKey| format!("{PREFIX}{}", key.relative());
    let at = format!("{} after boot", completion.decided);
    let present = |of: &_| snapshot.get(&key(of)).map(|entry| entry.value.clone());
    let Some(puts) = completion.puts(&at, present) else { return false };
    let txn = puts.into_iter().fold(Txn::new(), |txn, (of, value)| {
        let key = key(&of);
        let revision = snapshot.mod_revision(&key);
        txn.when(key.clone(), revision).put(key, value)
    });
    model.txn(now, &txn).is_won()
}
