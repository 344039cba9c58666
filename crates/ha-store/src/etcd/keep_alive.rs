//! Renewing leases: one stream per lease that stays open, and a new one elsewhere as soon as it is silent or broken.
//!
//! Only a message with a positive time to live is a renewal, and only if it answers the request of this very call:
//! callers count the lease from the moment they called. A late answer to an earlier request would prove less, so a
//! stream that ever kept a call waiting too long is thrown away together with what may still come from it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use etcd_client as etcd;

use super::answer::{self, Failure};
use super::select::Candidate;
use super::{HEDGE_AFTER, Inner};
use crate::error::StoreError;
use crate::store::{KeepAlive, LeaseId};

#[derive(Debug)]
struct OpenStream {
    /// The endpoint that it goes to.
    index: usize,
    requests: etcd::LeaseKeeper,
    answers: etcd::LeaseKeepAliveStream,
}

/// The streams that stand idle, ready for the next renewal.
#[derive(Debug, Default)]
pub(super) struct Keepers(Mutex<BTreeMap<LeaseId, OpenStream>>);

impl Keepers {
    pub(super) fn forget(&self, lease: LeaseId) {
        self.streams().remove(&lease);
    }

    fn streams(&self) -> MutexGuard<'_, BTreeMap<LeaseId, OpenStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews `lease`. Two endpoints may be asked at once: renewing twice does no harm.
pub(super) async fn renew(inner: &Inner, lease: LeaseId) -> Result<KeepAlive, StoreError> {
    // Out of the map while in use: whatever happens, nobody reads a stream with an answer outstanding.
    let standing = inner.keepers.streams().remove(&lease);
    let first = standing.as_ref().map(|stream| stream.index);
    let standing = Mutex::new(standing);
    let attempt = |candidate: Candidate| {
        let take = |stream: &OpenStream| stream.index == candidate.index;
        let usable = standing.lock().unwrap_or_else(PoisonError::into_inner).take_if(|stream| take(stream));
        renew_through(candidate, usable, lease)
    };
    let (answer, stream) =
        inner.links.ask("lease renewal", inner.call_deadline, Some(HEDGE_AFTER), first, attempt).await?;
    if let Some(stream) = stream {
        inner.keepers.streams().insert(lease, stream);
    }
    Ok(answer)
}

async fn renew_through(
    mut candidate: Candidate,
    usable: Option<OpenStream>,
    lease: LeaseId,
) -> Result<(KeepAlive, Option<OpenStream>), Failure> {
    // A stream that stood idle may have ended unnoticed, that says nothing about the endpoint: open a new one.
    if let Some(mut stream) = usable
        && let Ok(answer) = ask(&mut stream).await
    {
        return Ok(with_stream(answer, stream));
    }
    match candidate.client.lease_keep_alive(lease.0).await {
        Ok((requests, answers)) => {
            // Opening it renewed the lease already, but hides the time to live: ask once more.
            let mut stream = OpenStream { index: candidate.index, requests, answers };
            let answer = ask(&mut stream).await?;
            Ok(with_stream(answer, stream))
        }
        Err(etcd::Error::LeaseKeepAliveError(words)) if words.contains("not found") => {
            Ok((KeepAlive::Gone, None))
        }
        Err(error) => Err(Failure::of(error)),
    }
}

fn with_stream(answer: KeepAlive, stream: OpenStream) -> (KeepAlive, Option<OpenStream>) {
    let keep = answer != KeepAlive::Gone;
    (answer, keep.then_some(stream))
}

async fn ask(stream: &mut OpenStream) -> Result<KeepAlive, Failure> {
    stream.requests.keep_alive().await.map_err(Failure::of)?;
    match stream.answers.message().await.map_err(Failure::of)? {
        Some(answer) if answer.ttl() > 0 => Ok(KeepAlive::Renewed { ttl: answer::seconds(answer.ttl()) }),
        Some(_) => Ok(KeepAlive::Gone),
        None => Err(Failure::Unclear { reason: "the renewal stream ended".to_owned(), broken: false }),
    }
}
