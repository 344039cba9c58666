//! A joined session: both directions in one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ha_routing::Refusal;
use ha_routing::commit_watch::CommitWatch;
use ha_routing::idleness::Idleness;
use ha_routing::login::LoginWatcher;
use ha_routing::opt_out_watch::OptOutWatch;
use ha_routing::silence::Side;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Settings;
use super::cancel_keys::{CancelKeys, KnownKey};
use super::client_stream::ClientStream;
use super::farewell::farewell;
use super::places::Place;
use super::pump::{Broken, Pump};
use super::scratch;
use super::session_log::{self, Ended, Record};
use super::worker::{CutOrder, Seat, Shared};

/// How long one direction may stay silent when the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// What the log and the client are told.
const LEASE_OVER: &str = "the leader's read lease has run out";

/// What can be said about the server's bytes.
#[derive(Debug)]
pub(super) enum Watch {
    /// They are encrypted.
    Nothing,
    /// They are messages.
    Messages {
        /// Whether one of our own messages may follow, and whether anything is under way.
        idleness: Idleness,
        /// Whether a commit waited for its standbys; `None` where nobody asks.
        commits: Option<CommitWatch>,
        /// Whether a statement may lower what commits wait for; `None` where nobody asks.
        statements: Option<Box<OptOutWatch>>,
        /// Until the login is done.
        login: Option<Box<LoginWatcher>>,
        /// What the server gave for cancelling.
        key: Option<KnownKey>,
    },
}

impl Watch {
    /// For a login; nothing of the server's answer has been seen.
    pub(super) fn login(login: Option<Box<LoginWatcher>>) -> Self {
        Self::Messages { idleness: Idleness::default(), commits: None, statements: None, login, key: None }
    }

    /// From now on what weakens commits is noticed, as far as these settings want it.
    fn attend(&mut self, settings: &Settings) {
        if let Self::Messages { commits, statements, .. } = self {
            *commits = settings.refuse_cancelled_commits.then(CommitWatch::default);
            *statements = settings.refuse_lowered_commits.then(Box::default);
        }
    }

    /// Sees bytes before the client does: when it reads its cancel key, the key is known here. Says where to stop, if
    /// what follows there is not true.
    fn see(&mut self, bytes: &[u8], keys: &Arc<CancelKeys>, upstream: usize) -> Option<usize> {
        let Self::Messages { idleness, commits, login, key, .. } = self else { return None };
        let stop = idleness.server(bytes, |piece| commits.as_mut().is_some_and(|commits| commits.see(piece)));
        if let Some(watcher) = login {
            watcher.watch(bytes);
            if key.is_none()
                && let Some(given) = watcher.key()
            {
                *key = Some(keys.remember(upstream, given.pid, &given.key));
            }
            if watcher.is_done() {
                *login = None;
            }
        }
        stop
    }

    /// Sees bytes of the client. Says whether they must not reach the server: what went before ends inside a message then,
    /// and is not carried out.
    fn refuses(&mut self, bytes: &[u8]) -> bool {
        let Self::Messages { idleness, statements, .. } = self else { return false };
        idleness
            .client(bytes, |piece| statements.as_mut().is_some_and(|statements| statements.see(piece)))
            .is_some()
    }

    fn is_idle(&self) -> bool {
        matches!(self, Self::Messages { idleness, .. } if idleness.is_idle())
    }

    fn between_messages(&self) -> bool {
        matches!(self, Self::Messages { idleness, .. } if idleness.server_is_between_messages())
    }
}

/// The pair of sockets and what belongs to it. This is what an idle session costs: keep it small.
#[derive(Debug)]
pub(super) struct Relay {
    client: ClientStream,
    server: TcpStream,
    up: Pump,
    down: Pump,
    watch: Watch,
    /// A statement was refused.
    refused: bool,
    /// An answer came when the leader's read lease was over.
    lease_over: bool,
    place: Place,
    seat: Seat,
    /// The last seconds of a session of which one direction has ended.
    closing: Option<Pin<Box<Sleep>>>,
    /// Bytes passed since `closing` was wound up.
    moved: bool,
    client_gone: bool,
    first_end: Option<Side>,
    /// Who has said something since this was looked at last.
    spoke: Option<Side>,
    /// Bytes to the server and to the client.
    passed: (u64, u64),
    record: Option<Box<Record>>,
}

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// Both sides ended, or one is gone and the other was told.
    Done,
    /// One side ended and the other neither said nor took anything for too long.
    Stalled,
    /// The server is gone without an end.
    ServerLost,
    /// It was ordered.
    Cut(CutOrder),
    /// The server would have reported a commit that did not wait for its standbys.
    Unconfirmed,
    /// A statement named `synchronous_commit`.
    LowersCommits,
    /// The server answered when it was not certain any more that nobody else leads.
    LeaseOver,
}

impl Relay {
    /// Joins the two. `early` is what the client said before, `said` what the server said; both were read, not yet
    /// passed on, and `watch` has not seen them.
    #[expect(clippy::too_many_arguments, reason = "everything that the beginning of a session has gathered")]
    pub(super) fn new(
        client: ClientStream,
        server: TcpStream,
        early: Vec<u8>,
        said: Vec<u8>,
        mut watch: Watch,
        place: Place,
        seat: Seat,
        record: Option<Box<Record>>,
    ) -> Self {
        watch.attend(&seat.shared().settings.load());
        let refused = watch.refuses(&early);
        let early = if refused { Vec::new() } else { early };
        // A login holds no commit.
        let _ = watch.see(&said, &seat.shared().cancel_keys, place.upstream());
        let counters = &seat.counters()[place.upstream()];
        counters.to_client.add(said.len() as u64);
        counters.to_upstream.add(early.len() as u64);
        let passed = (early.len() as u64, said.len() as u64);
        seat.heard(Side::Server);
        Self {
            client,
            server,
            up: Pump::with(early),
            down: Pump::with(said),
            watch,
            refused,
            lease_over: false,
            place,
            seat,
            closing: None,
            moved: false,
            client_gone: false,
            first_end: None,
            spoke: None,
            passed,
            record,
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(order) = self.seat.poll_cut(context) {
            return Poll::Ready(End::Cut(order));
        }
        if self.refused {
            return Poll::Ready(End::LowersCommits);
        }
        let ended = scratch::with(|scratch| {
            if let Some(end) = self.poll_up(context, scratch) {
                return Some(end);
            }
            self.poll_down(context, scratch)
        });
        if let Some(side) = self.spoke.take() {
            self.seat.heard(side);
        }
        if let Some(end) = ended {
            return Poll::Ready(end);
        }
        if self.up.over() && self.down.over() {
            return Poll::Ready(End::Done);
        }
        // After both directions: what the client has sent was seen, and its answer was passed on.
        if self.seat.worker().leaves() && self.watch.is_idle() {
            return Poll::Ready(End::Cut(CutOrder::ShuttingDown));
        }
        self.poll_closing(context)
    }

    fn poll_up(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> Option<End> {
        if self.up.over() {
            return None;
        }
        let count = &self.seat.counters()[self.place.upstream()].to_upstream;
        let (moved, passed, spoke) = (&mut self.moved, &mut self.passed.0, &mut self.spoke);
        let (watch, refused) = (&mut self.watch, &mut self.refused);
        let see = |bytes: &[u8]| {
            *refused |= watch.refuses(bytes);
            if *refused {
                return Some(0);
            }
            *spoke = Some(Side::Client);
            count.add(bytes.len() as u64);
            *passed += bytes.len() as u64;
            *moved = true;
            None
        };
        match self.up.poll(context, &mut self.client, &mut self.server, scratch, see) {
            Poll::Pending | Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(Broken::Sender)) => self.lose_client(context),
            Poll::Ready(Err(Broken::Stopped)) => return Some(End::LowersCommits),
            // The server may have said why before it went: let the client read that.
            Poll::Ready(Err(Broken::Receiver)) => {
                self.up.discard();
                context.waker().wake_by_ref();
            }
        }
        if self.first_end.is_none() && self.up.ended() {
            self.first_end = Some(Side::Client);
        }
        None
    }

    fn poll_down(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> Option<End> {
        if self.down.over() {
            return None;
        }
        let upstream = self.place.upstream();
        let count = &self.seat.counters()[upstream].to_client;
        let keys = &self.seat.shared().cancel_keys;
        let (watch, place, moved) = (&mut self.watch, &mut self.place, &mut self.moved);
        let (passed, spoke, lease_over) = (&mut self.passed.1, &mut self.spoke, &mut self.lease_over);
        let leases = self.seat.shared().options.read_leases.as_deref();
        let see = |bytes: &[u8]| {
            // Now that they are read: whatever happens to them from here on, they were said in time.
            if !place.may_answer(leases) {
                *lease_over = true;
                return Some(0);
            }
            *spoke = Some(Side::Server);
            count.add(bytes.len() as u64);
            *passed += bytes.len() as u64;
            place.opened();
            *moved = true;
            watch.see(bytes, keys, upstream)
        };
        let polled = self.down.poll(context, &mut self.server, &mut self.client, scratch, see);
        if self.first_end.is_none() && self.down.ended() {
            self.first_end = Some(Side::Server);
        }
        match polled {
            Poll::Pending | Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(Broken::Sender)) if self.client_gone => Some(End::Done),
            Poll::Ready(Err(Broken::Sender)) => Some(End::ServerLost),
            Poll::Ready(Err(Broken::Stopped)) if self.lease_over => Some(End::LeaseOver),
            Poll::Ready(Err(Broken::Stopped)) => Some(End::Unconfirmed),
            Poll::Ready(Err(Broken::Receiver)) => {
                self.lose_client(context);
                None
            }
        }
    }

    /// The client is gone without an end. The server is told by a mere end: a reset would fill its log. What it still
    /// says is thrown away.
    fn lose_client(&mut self, context: &mut Context<'_>) {
        self.client_gone = true;
        self.up.end();
        drop(Pin::new(&mut self.server).poll_shutdown(context));
        self.down.discard();
        context.waker().wake_by_ref();
    }

    /// Runs only while one direction has ended and the other has not.
    fn poll_closing(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if !self.up.ended() && !self.down.ended() && !self.client_gone {
            return Poll::Pending;
        }
        if self.closing.is_none() {
            self.moved = false;
        }
        let closing = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED)));
        loop {
            ready!(closing.as_mut().poll(context));
            if !std::mem::take(&mut self.moved) {
                return Poll::Ready(End::Stalled);
            }
            closing.as_mut().reset(Instant::now() + HALF_CLOSED);
        }
    }

    /// Lets go of the server and tells the client, where words can be put between two messages; elsewhere a reset
    /// says that the end is none. A cut answer must never look whole.
    pub(super) async fn finish(self, end: End) {
        let Self {
            client, server, mut down, watch, place, seat, client_gone, first_end, passed, record, ..
        } = self;
        let shared = seat.shared();
        session_log::ended(shared, record, Some(place.upstream()), passed, || match &end {
            End::Done if client_gone => Ended::ClientLost,
            End::Done if first_end == Some(Side::Server) => Ended::ByServer,
            End::Done => Ended::ByClient,
            End::Stalled => Ended::HalfClosed,
            End::ServerLost => Ended::ServerLost,
            End::Cut(order) => Ended::Cut(order.clone()),
            End::Unconfirmed => Ended::Unconfirmed,
            End::LowersCommits => Ended::LowersCommits,
            End::LeaseOver => Ended::Cut(CutOrder::RoleLost(LEASE_OVER.into())),
        });
        let member = shared.member(place.upstream()).as_str();
        let words = match end {
            End::Done => None,
            End::Stalled => Some(None),
            End::ServerLost => Some(Some(Refusal::server_lost(member))),
            End::Unconfirmed => Some(Some(Refusal::commit_unconfirmed())),
            End::LowersCommits => Some(Some(Refusal::lowers_commits())),
            End::Cut(CutOrder::ShuttingDown) => Some(Some(Refusal::shutting_down())),
            End::Cut(CutOrder::Silent(side)) => Some(Some(silent(shared, side, member))),
            End::Cut(CutOrder::RoleLost(why)) => {
                seat.counters()[place.upstream()].cut.add(1);
                Some(Some(Refusal::role_lost(&why)))
            }
            End::LeaseOver => {
                seat.worker().counters.lease_cuts.add(1);
                Some(Some(Refusal::role_lost(LEASE_OVER)))
            }
        };
        let may_speak = watch.between_messages();
        drop((server, watch, place));
        let ended = down.ended();
        let mut rest = down.take_rest();
        match words {
            _ if client_gone || (ended && rest.is_empty()) => {}
            None => {}
            Some(Some(words)) if !ended && may_speak => {
                rest.extend(words.to_bytes());
                farewell(client, &rest).await;
            }
            Some(_) => client.reset_on_close(),
        }
    }
}

/// What a client is told when one side was silent for too long.
fn silent(shared: &Shared, side: Side, member: &str) -> Refusal {
    let settings = shared.settings.load();
    match side {
        Side::Client => Refusal::client_silent(settings.client_timeout.unwrap_or_default()),
        Side::Server => Refusal::server_silent(member, settings.server_timeout.unwrap_or_default()),
    }
}
