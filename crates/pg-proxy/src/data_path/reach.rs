//! The way to a server: wait for a place, connect, greet; and again with another one when that fails.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ha_routing::Refusal;
use ha_routing::login::LoginWatcher;
use tokio::net::TcpStream;

use super::begin::{Client, Stop};
use super::client_stream::ClientStream;
use super::greeting::Greeting;
use super::places::{NoPlace, Place};
use super::worker::{CutOrder, Seat, Shared};
use super::{Port, SessionReport, scratch, sockets};

/// What a client may say while it waits for the server's first word. More is left in the kernel.
const LONGEST_EARLY: usize = 16 * 1024;

/// A client's turn among those who wait; kept when its server fails and it has to wait again.
#[derive(Debug, Default)]
pub(super) struct Turn {
    since: Option<Instant>,
    number: Option<u64>,
}

/// A server that has said its first word.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) server: TcpStream,
    pub(super) place: Place,
    /// What it said.
    pub(super) said: Vec<u8>,
    /// For a login; has seen nothing of `said`.
    pub(super) login: Option<Box<LoginWatcher>>,
}

/// Why one attempt failed.
enum Failure {
    /// The server is of no use now.
    Server(String),
    /// This host has no descriptor, port or memory for one more connection: no fault of the server.
    Shortage(String),
    /// The server lost the role meanwhile.
    Rerouted,
    /// Nobody confirms that nobody else leads: an answer could not be passed on.
    NoLease,
}

/// Finds a server for the client. `connected` is one that it was led to before and that has not seen a login yet.
///
/// # Errors
/// When the client left, broke the protocol, or waited in vain.
pub(super) async fn reach(
    client: &mut Client,
    turn: &mut Turn,
    greeting: Greeting<'_>,
    mut connected: Option<Reached>,
) -> Result<Reached, Stop> {
    let Client { stream, early, seat, came, .. } = client;
    let shared = seat.shared();
    // The server that the last attempt failed with.
    let mut failed: Option<usize> = None;
    loop {
        let (mut place, open) = match connected.take() {
            Some(reached) => (reached.place, Some(reached.server)),
            None => (wait(stream, early, seat, turn, greeting).await?, None),
        };
        let fresh = open.is_none();
        let upstream = place.upstream();
        seat.concern(Some(upstream));
        if let Some(before) = failed.take() {
            let count = &seat.counters()[before];
            if before == upstream { &count.retries } else { &count.redispatches }.add(1);
        }
        let attempt = tokio::select! {
            biased;
            order = seat.cut() => match order {
                CutOrder::ShuttingDown => return Err(Stop::NoServer(Refusal::draining())),
                CutOrder::RoleLost(_) | CutOrder::Silent(_) => Err(Failure::Rerouted),
            },
            stop = listen(stream, early, greeting) => match stop {
                Ok(never) => match never {},
                Err(stop) => return Err(stop),
            },
            // In a box of its own: a client that waits for its turn has no use for it.
            reached = Box::pin(attempt(seat, &mut place, open, greeting)) => reached,
        };
        match attempt {
            Ok((server, said, login)) => {
                if !matches!(greeting, Greeting::DirectTls) {
                    place.opened();
                }
                if fresh {
                    note_reached(seat, shared, upstream);
                    seat.counters()[upstream].first_word.add(came.elapsed());
                }
                still_silent(stream, early, greeting).await?;
                return Ok(Reached { server, place, said, login });
            }
            Err(failure) => {
                seat.concern(None);
                match failure {
                    Failure::Server(why) => {
                        failed = Some(upstream);
                        note_failure(seat, shared, upstream, why);
                    }
                    Failure::Shortage(why) => {
                        let why = format!("the proxy cannot connect: {why}");
                        shared.places.failed(upstream, &why, Instant::now());
                    }
                    Failure::Rerouted => {}
                    Failure::NoLease => {
                        let why = format!("{} has no read lease", shared.member(upstream));
                        shared.places.failed(upstream, &why, Instant::now());
                    }
                }
            }
        }
    }
}

async fn wait(
    stream: &mut ClientStream,
    early: &mut Vec<u8>,
    seat: &Seat,
    turn: &mut Turn,
    greeting: Greeting<'_>,
) -> Result<Place, Stop> {
    let since = *turn.since.get_or_insert_with(Instant::now);
    let mut ticket = seat.shared().places.ask(seat.port(), since, turn.number);
    turn.number = Some(ticket.number());
    tokio::select! {
        biased;
        _ = seat.cut() => Err(Stop::NoServer(Refusal::draining())),
        // Before the place: a client that left must not cost a server a fork.
        stop = listen(stream, early, greeting) => match stop {
            Ok(never) => match never {},
            Err(stop) => Err(stop),
        },
        answer = &mut ticket => answer.map_err(|why| Stop::NoServer(refusal(seat, since, why))),
    }
}

fn refusal(seat: &Seat, since: Instant, why: NoPlace) -> Refusal {
    match (why, seat.port()) {
        (NoPlace::Refused(why), Port::Writes) => Refusal::no_leader(&why),
        (NoPlace::Refused(why), Port::Reads) => Refusal::no_standby(&why),
        (NoPlace::HoldExpired(why), _) => Refusal::hold_expired(since.elapsed(), &why),
        (NoPlace::QueueExpired, _) => {
            Refusal::queue_expired(since.elapsed(), seat.shared().settings.load().upstream_connections)
        }
    }
}

/// Watches a client that has nothing to say until its server has. Ends only with the reason to give up.
async fn listen(
    stream: &mut ClientStream,
    early: &mut Vec<u8>,
    greeting: Greeting<'_>,
) -> Result<Infallible, Stop> {
    while early.len() < LONGEST_EARLY {
        match scratch::read(stream, early, LONGEST_EARLY - early.len()).await {
            Ok(0) | Err(_) => return Err(Stop::Silent),
            Ok(_) if greeting.wants_silence() => {
                return Err(Stop::Refuse(Refusal::protocol_violation(
                    "bytes follow the request for encryption before it was answered",
                )));
            }
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

/// Looks once more, now that the answer is here.
async fn still_silent(
    stream: &mut ClientStream,
    early: &mut Vec<u8>,
    greeting: Greeting<'_>,
) -> Result<(), Stop> {
    if !greeting.wants_silence() {
        return Ok(());
    }
    tokio::select! {
        biased;
        stop = listen(stream, early, greeting) => stop.map(drop),
        () = std::future::ready(()) => Ok(()),
    }
}

async fn attempt(
    seat: &Seat,
    place: &mut Place,
    open: Option<TcpStream>,
    greeting: Greeting<'_>,
) -> Result<(TcpStream, Vec<u8>, Option<Box<LoginWatcher>>), Failure> {
    let (shared, upstream) = (seat.shared(), place.upstream());
    let allowed = || shared.places.allows(seat.port(), upstream).then_some(()).ok_or(Failure::Rerouted);
    // An order to cut that came before this session was known to concern the upstream has found the table swapped.
    allowed()?;
    let leases = shared.options.read_leases.as_deref().filter(|_| seat.port() == Port::Writes);
    if let Some(leases) = leases {
        let granted = leases.granted(upstream, shared.settings.load().connect_timeout).await;
        place.rests_on_lease(granted.ok_or(Failure::NoLease)?);
    }
    let mut server = match open {
        Some(server) => server,
        None => {
            let begun = Instant::now();
            let limit = shared.settings.load().connect_timeout;
            let connected = sockets::connect(shared.address(upstream), limit).await;
            let connected = connected.map_err(|error| match sockets::is_our_shortage(&error) {
                true => Failure::Shortage(error.to_string()),
                false => Failure::Server(error.to_string()),
            })?;
            seat.counters()[upstream].connect.add(begun.elapsed());
            connected
        }
    };
    allowed()?;
    let (said, login) = greeting.send(&mut server).await.map_err(Failure::Server)?;
    if !place.may_answer(leases) {
        return Err(Failure::NoLease);
    }
    Ok((server, said, login))
}

fn note_reached(seat: &Seat, shared: &Shared, upstream: usize) {
    shared.places.answered(upstream);
    seat.counters()[upstream].sessions.add(1);
    // Only the end of a failure is news: a report for each session would wake the control side for every connection.
    let failing = &shared.failing[upstream];
    if failing.load(Ordering::Relaxed) && failing.swap(false, Ordering::Relaxed) {
        shared.report(SessionReport::Connected { member: shared.member(upstream).clone() });
    }
}

fn note_failure(seat: &Seat, shared: &Shared, upstream: usize, why: String) {
    let why = format!("{}: {why}", shared.member(upstream));
    shared.places.failed(upstream, &why, Instant::now());
    seat.counters()[upstream].connect_failures.add(1);
    shared.failing[upstream].store(true, Ordering::Relaxed);
    shared.report(SessionReport::ConnectFailed { member: shared.member(upstream).clone(), why });
}
