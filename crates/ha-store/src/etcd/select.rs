//! Choosing among the endpoints: the last good one first, doubted ones last, a second one when the first is silent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::Client;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::EtcdOptions;
use super::answer::Failure;
use super::link::{Doubt, Link};
use crate::error::StoreError;
use crate::store::Refusal;

/// An endpoint with a connection that stands.
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) endpoint: String,
    pub(super) client: Client,
}

#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Arc<Link>>,
    preferred: AtomicUsize,
    came_up: watch::Sender<u64>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Links {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Links {
    pub(super) fn start(options: &EtcdOptions) -> Result<Self, StoreError> {
        let came_up = watch::Sender::new(0);
        let mut started =
            Self { links: Vec::new(), preferred: AtomicUsize::new(0), came_up, tasks: Vec::new() };
        if options.endpoints.is_empty() {
            return Err(StoreError::Configuration { reason: "no endpoint of etcd is given".to_owned() });
        }
        for endpoint in &options.endpoints {
            let (link, task) = Link::start(endpoint, options, started.came_up.clone())
                .map_err(|reason| StoreError::Configuration { reason })?;
            started.links.push(link);
            started.tasks.push(task);
        }
        Ok(started)
    }

    /// Each endpoint with its connection, or why it has none.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, Result<Client, String>)> + '_ {
        self.links.iter().map(|link| (link.endpoint.clone(), link.client()))
    }

    /// Remembers who answered last.
    pub(super) fn prefer(&self, index: usize) {
        self.preferred.store(index, Ordering::Relaxed);
        if let Some(link) = self.links.get(index) {
            link.praise();
        }
    }

    pub(super) fn doubt(&self, index: usize, doubt: Doubt) {
        if let Some(link) = self.links.get(index) {
            link.doubt(doubt);
        }
    }

    /// Doubts an endpoint as far as its failure to answer deserves it.
    pub(super) fn doubt_after(&self, index: usize, failure: &Failure) {
        match failure {
            Failure::Refused(_) => {}
            // Not sent means no leader, or a connection that could not be made again.
            Failure::NotSent(_) => self.doubt(index, Doubt::Slow),
            Failure::Unclear { broken: true, .. } => self.doubt(index, Doubt::Broken),
            Failure::Unclear { broken: false, .. } => self.doubt(index, Doubt::Trouble),
        }
    }

    /// The connected endpoints, best first. Waits for the first connection, at most until `deadline`.
    pub(super) async fn candidates(&self, deadline: Instant) -> VecDeque<Candidate> {
        let mut came_up = self.came_up.subscribe();
        loop {
            let found = self.connected();
            if !found.is_empty() || timeout_at(deadline, came_up.changed()).await.is_err() {
                return found;
            }
        }
    }

    fn connected(&self) -> VecDeque<Candidate> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let connected = self.links.iter().enumerate().filter_map(|(index, link)| {
            let client = link.client().ok()?;
            let rank = (link.is_shunned(), index != preferred, index);
            Some((rank, Candidate { index, endpoint: link.endpoint.clone(), client }))
        });
        let mut connected: Vec<_> = connected.collect();
        connected.sort_by_key(|(rank, _)| *rank);
        connected.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// Whether the endpoint that would be asked first answered something within this time.
    pub(super) fn first_answered_within(&self, time: Duration) -> bool {
        let first = self.connected().front().map(|candidate| candidate.index);
        first.and_then(|index| self.links.get(index)).is_some_and(|link| link.answered_within(time))
    }

    fn doubt_silent(&self, asked: &[usize]) {
        for index in asked {
            self.doubt(*index, Doubt::Slow);
        }
    }

    fn why_unconnected(&self) -> String {
        let reasons = self.links.iter().filter_map(|link| {
            let reason = link.client().err()?;
            Some(format!("{}: {reason}", link.endpoint))
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Asks one endpoint after the other until one answers: the next at once after a failure, and after `hedge` of
    /// silence beside the first. Only for what may be done twice. `first` names the endpoint to begin with.
    pub(super) async fn ask<T, Fut>(
        &self,
        operation: &'static str,
        patience: Duration,
        hedge: Option<Duration>,
        first: Option<usize>,
        attempt: impl Fn(Candidate) -> Fut,
    ) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + patience;
        let mut waiting = self.candidates(deadline).await;
        if let Some(place) = waiting.iter().position(|candidate| Some(candidate.index) == first) {
            waiting.swap(0, place);
        }
        let begin = |candidate: Candidate| {
            let index = candidate.index;
            let asking = attempt(candidate);
            async move { (index, asking.await) }
        };
        let mut running = FuturesUnordered::new();
        let mut asked: Vec<usize> = Vec::new();
        let mut failure = None;
        let mut ask_next = true;
        loop {
            if ask_next && let Some(candidate) = waiting.pop_front() {
                asked.push(candidate.index);
                running.push(begin(candidate));
            }
            if running.is_empty() {
                break;
            }
            let wait_until = match hedge {
                Some(hedge) if !waiting.is_empty() => deadline.min(Instant::now() + hedge),
                _ => deadline,
            };
            // Silence until then, or a failure: either way it is the next one's turn.
            ask_next = true;
            match timeout_at(wait_until, running.next()).await {
                Ok(Some((index, Ok(answer)))) => {
                    asked.retain(|other| *other != index);
                    self.doubt_silent(&asked);
                    self.prefer(index);
                    return Ok(answer);
                }
                Ok(Some((index, Err(failed)))) => {
                    asked.retain(|other| *other != index);
                    self.doubt_after(index, &failed);
                    if let Failure::Refused(refusal) = failed {
                        return Err(refused(operation, refusal));
                    }
                    failure = Some(failed);
                }
                Err(_) if Instant::now() >= deadline => {
                    self.doubt_silent(&asked);
                    return Err(StoreError::Timeout { operation });
                }
                Ok(None) | Err(_) => {}
            }
        }
        let reason = match failure {
            Some(Failure::NotSent(reason) | Failure::Unclear { reason, .. }) => reason,
            Some(Failure::Refused(refusal)) => refusal.to_string(),
            None => self.why_unconnected(),
        };
        Err(StoreError::Unavailable { operation, reason })
    }
}

/// A refusal of a call that is no transaction.
fn refused(operation: &'static str, refusal: Refusal) -> StoreError {
    match refusal {
        Refusal::NoSpace => StoreError::NoSpace { operation },
        Refusal::Unauthenticated(reason) => StoreError::Unauthenticated { operation, reason },
        Refusal::PermissionDenied(reason) => StoreError::PermissionDenied { operation, reason },
        Refusal::Overloaded(reason) | Refusal::NotSent(reason) => {
            StoreError::Unavailable { operation, reason }
        }
        Refusal::LeaseNotFound | Refusal::Invalid(_) => {
            StoreError::Unexpected { operation, reason: refusal.to_string() }
        }
    }
}
