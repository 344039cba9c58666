//! The agent's only loop: waits, hands events to the decider, carries out what it says. It chooses nothing.
//!
//! ```text
//!  store_link ── views, lease, outcomes ─┐                 ┌─► node_state_file   (at once, durable, before the rest)
//!  observer ──── PostgreSQL as it is ────┤                 ├─► store_link        transactions, own record
//!  jobs ──────── their ends ─────────────┼─► Decider ──────┼─► executor          jobs on PostgreSQL
//!  peers ─────── messages ───────────────┤                 ├─► peers             messages
//!  heartbeats ── who is heard ───────────┤                 ├─► heartbeats        what they say
//!  guard ─────── armed, fenced ──────────┤                 ├─► guard             deadlines
//!  followers ─── proxies hold or lead ───┤                 │
//!  rpc_service ─ operators ──────────────┤                 ├─► operators         replies
//!  signals, the decider's own timeout ───┘                 └─► log, REST, metrics, role claims (a snapshot)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ha_core::postgres_view::PostgresView;
use ha_daemon::{Asked, Signals, boottime};
use ha_decision::{Action, Decider, Event, Job, OpId, Refusal, RequestDone, RequestId};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::executor::Executor;
use crate::guard_link::GuardLink;
use crate::heartbeat::HeartbeatLink;
use crate::node_state_file::{NodeStateError, NodeStateFile};
use crate::peers::{PeerEvent, Peers};
use crate::postgres::{Postgres, UserSettings};
use crate::role_followers::RoleFollowers;
use crate::rpc_service::OperatorRequest;
use crate::snapshot::SnapshotSource;
use crate::store_link::StoreLink;
use crate::wall_clock::time_of_day;

/// Events that may wait for the decider. It needs microseconds for each; a full queue makes the sources wait, which is
/// what should happen when the machine is that overloaded.
pub const EVENTS_WAITING: usize = 256;

/// At the latest after this long the loop turns, so that liveness can be told from it.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Proxies are not waited for longer than this: the decider has long gone on.
const HOLD_WAITED_FOR: Duration = Duration::from_secs(1);
/// The same when they are to lead here.
const ROUTING_WAITED_FOR: Duration = Duration::from_secs(10);

/// Everything that the driver drives.
#[derive(Debug)]
pub struct Parts {
    /// Where durable state goes.
    pub node_state: NodeStateFile,
    /// The consensus store.
    pub store: StoreLink,
    /// PostgreSQL, for observing it.
    pub postgres: Arc<Postgres>,
    /// PostgreSQL, for changing it.
    pub executor: Arc<Executor>,
    /// The guard.
    pub guard: GuardLink,
    /// The other agents.
    pub peers: Peers,
    /// Heartbeats to and from them.
    pub heartbeats: HeartbeatLink,
    /// The proxies.
    pub followers: RoleFollowers,
    /// What REST, metrics and gRPC show.
    pub snapshot: SnapshotSource,
}

/// Where events come from.
#[derive(Debug)]
pub struct Sources {
    /// Store link, guard link, jobs and observer.
    pub events: mpsc::Receiver<Event>,
    /// The other agents.
    pub peers: mpsc::Receiver<PeerEvent>,
    /// Operators.
    pub requests: mpsc::Receiver<OperatorRequest>,
    /// Signals of the supervisor.
    pub signals: Signals,
}

/// The loop.
#[derive(Debug)]
pub struct Driver {
    decider: Decider,
    parts: Parts,
    events: mpsc::Sender<Event>,
    observe_now: Arc<Notify>,
    observe_every: watch::Sender<Duration>,
    replies: BTreeMap<RequestId, oneshot::Sender<Result<RequestDone, Refusal>>>,
    last_request: u64,
    seen: Option<PostgresView>,
}

impl Driver {
    /// A driver that has not begun to wait. `events` is the sending side of [`Sources::events`].
    pub fn new(decider: Decider, parts: Parts, events: mpsc::Sender<Event>) -> Self {
        let (observe_every, _) = watch::channel(LONGEST_WAIT);
        Self {
            decider,
            parts,
            events,
            observe_now: Arc::new(Notify::new()),
            observe_every,
            replies: BTreeMap::new(),
            last_request: 0,
            seen: None,
        }
    }

    /// Runs until a signal asks for the end. PostgreSQL is left as it is: stopping the agent does not stop it.
    ///
    /// # Errors
    /// When the node state cannot be made durable: an agent that cannot keep its promises must not go on.
    pub async fn run(mut self, mut sources: Sources) -> Result<&'static str, NodeStateError> {
        let observer = tokio::spawn(observe(
            Arc::clone(&self.parts.postgres),
            self.events.clone(),
            Arc::clone(&self.observe_now),
            self.observe_every.subscribe(),
        ));
        let signal = loop {
            tokio::select! {
                Some(event) = sources.events.recv() => self.handle(event),
                Some(event) = sources.peers.recv() => self.handle(from_peer(event)),
                Some(request) = sources.requests.recv() => self.accept(request),
                asked = sources.signals.next() => match asked {
                    Asked::Shutdown(signal) => break signal,
                    Asked::Reload => self.request(ha_decision::Request::Reload, None),
                },
                () = tokio::time::sleep(self.wait()) => {
                    self.hear_heartbeats();
                    self.decider.handle_timeout(boottime());
                }
            }
            self.carry_out()?;
            self.show();
        };
        observer.abort();
        Ok(signal)
    }

    fn wait(&self) -> Duration {
        let now = boottime();
        self.decider.poll_timeout().map_or(LONGEST_WAIT, |at| at.since(now)).min(LONGEST_WAIT)
    }

    fn handle(&mut self, event: Event) {
        match &event {
            Event::Postgres(view) => self.seen = Some(view.clone()),
            Event::Store(view) => {
                if let Some(config) = &view.config {
                    let (parameters, hba) = (config.record.parameters.clone(), config.record.hba.clone());
                    self.parts.postgres.set_user_settings(UserSettings { parameters, hba });
                }
            }
            // The decider waits for an observation that began after the job's end.
            Event::JobDone { .. } => self.observe_now.notify_one(),
            _ => {}
        }
        tracing::trace!(?event, "event");
        self.hear_heartbeats();
        self.decider.handle_event(boottime(), event);
    }

    /// Nothing is judged by an older picture of who is heard than there is.
    fn hear_heartbeats(&mut self) {
        let heard = self.parts.heartbeats.heard();
        self.decider.handle_event(boottime(), Event::Heartbeats(heard));
    }

    fn accept(&mut self, request: OperatorRequest) {
        tracing::info!(request = ?request.request, "an operator asks");
        self.request(request.request, Some(request.reply));
    }

    fn request(
        &mut self,
        request: ha_decision::Request,
        reply: Option<oneshot::Sender<Result<RequestDone, Refusal>>>,
    ) {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        if let Some(reply) = reply {
            self.replies.insert(id, reply);
        }
        self.hear_heartbeats();
        self.decider.handle_event(boottime(), Event::Request { id, request });
    }

    fn carry_out(&mut self) -> Result<(), NodeStateError> {
        while let Some(action) = self.decider.poll_action() {
            match action {
                Action::Persist(state) => self.parts.node_state.save(&state)?,
                Action::Txn { id, txn } => {
                    tracing::debug!(purpose = txn.purpose, "transaction");
                    self.parts.store.submit(id, txn);
                }
                Action::Job { id, job } => self.begin_job(id, job),
                Action::Send { to, message } => self.parts.peers.send(&to, message),
                Action::Guard(command) => self.parts.guard.command(command),
                Action::ReadStore { at_least } => self.parts.store.read(at_least),
                Action::Publish(record) => self.parts.store.publish(record),
                Action::Reply { id, answer } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        // The operator may have gone away; the decision stands.
                        drop(reply.send(answer));
                    }
                }
                Action::HoldSessions { id } => self.await_hold(id),
                Action::AwaitRouting { id } => self.await_routing(id),
                Action::CompleteHistory(completion) => {
                    let at = time_of_day(SystemTime::now(), boottime().since(completion.decided));
                    self.parts.store.complete_history(*completion, at);
                }
                Action::KeepSlots { members } => {
                    let executor = Arc::clone(&self.parts.executor);
                    tokio::spawn(async move { executor.keep_slots(members).await });
                }
                Action::Observe => self.observe_now.notify_one(),
                Action::Note(reason) if reason.needs_a_look() => tracing::warn!("{reason}"),
                Action::Note(reason) => tracing::info!("{reason}"),
            }
        }
        self.parts.heartbeats.say(self.decider.beats_for(), self.decider.detection());
        self.observe_every.send_if_modified(|every| {
            let wanted = self.decider.observe_every();
            std::mem::replace(every, wanted) != wanted
        });
        Ok(())
    }

    fn begin_job(&self, id: OpId, job: Job) {
        let executor = Arc::clone(&self.parts.executor);
        let events = self.events.clone();
        tokio::spawn(async move {
            let began = boottime();
            tracing::debug!(?job, "job begins");
            let result = executor.run(job).await;
            tracing::debug!(
                ok = result.is_ok(),
                elapsed_ms = boottime().since(began).as_millis(),
                "job ended"
            );
            // A closed channel means that the driver has ended.
            drop(events.send(Event::JobDone { id, result }).await);
        });
    }

    /// The claims that ask for it are made from the picture that is shown after this.
    fn await_hold(&self, id: OpId) {
        let (followers, events) = (self.parts.followers.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Ok(proxies) = tokio::time::timeout(HOLD_WAITED_FOR, followers.all_hold()).await {
                // A closed channel means that the driver has ended.
                drop(events.send(Event::SessionsHeld { id, proxies }).await);
            }
        });
    }

    fn await_routing(&self, id: OpId) {
        let (followers, events) = (self.parts.followers.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Ok(proxies) = tokio::time::timeout(ROUTING_WAITED_FOR, followers.all_lead_here()).await {
                // A closed channel means that the driver has ended.
                drop(events.send(Event::Rerouted { id, proxies }).await);
            }
        });
    }

    fn show(&self) {
        if let Some(postgres) = &self.seen {
            let heartbeats = self.parts.heartbeats.figures();
            let status = self.decider.status();
            self.parts.snapshot.show(self.decider.view(), postgres, status, heartbeats, boottime());
        }
    }
}

fn from_peer(event: PeerEvent) -> Event {
    match event {
        PeerEvent::Message { from, message } => Event::Peer { from, message },
        PeerEvent::Lost { from } => Event::PeerLost { from },
    }
}

/// Observes PostgreSQL as often as the decider wants, and at once when a job has ended.
async fn observe(
    postgres: Arc<Postgres>,
    events: mpsc::Sender<Event>,
    now: Arc<Notify>,
    mut every: watch::Receiver<Duration>,
) {
    loop {
        let view = postgres.observe().await;
        if events.send(Event::Postgres(view)).await.is_err() {
            return;
        }
        let pause = *every.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = now.notified() => {}
            () = postgres.postmaster_ended() => {}
            changed = every.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
