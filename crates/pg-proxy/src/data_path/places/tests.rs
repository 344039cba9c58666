//! The order of waiting, without sockets.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ha_core::{Epoch, MonoTime};
use ha_routing::balance::{Balance, Share};
use ha_routing::{Route, RouteState, Table};

use super::{Limits, NoPlace, OPENINGS_AT_ONCE, Place, Places, Ticket};
use crate::data_path::{Gauge, Port};

const HOLD: Duration = Duration::from_secs(10);
const QUEUE: Duration = Duration::from_secs(4);

struct World {
    places: Arc<Places>,
    table: Arc<ArcSwap<Table>>,
    now: Instant,
}

fn route(state: RouteState, upstreams: &[usize]) -> Route {
    let reason = "the reason".to_owned();
    Route { state, upstreams: upstreams.to_vec(), epoch: Epoch(1), reason, since: MonoTime(0) }
}

impl World {
    fn new(upstreams: usize, upstream_connections: u32) -> Self {
        let now = Instant::now();
        let closed = || route(RouteState::Holding, &[]);
        let table = Table {
            generation: 1,
            writes: closed(),
            reads: closed(),
            upstreams: Vec::new(),
            maintenance: None,
        };
        let table = Arc::new(ArcSwap::from_pointee(table));
        let balance = Balance::RoundRobin;
        let shares = vec![Share::default(); upstreams];
        let limits = Limits { upstream_connections, queue_timeout: QUEUE, hold_timeout: HOLD, balance };
        let places = Arc::new(Places::new(shares, limits, Arc::clone(&table), now));
        Self { places, table, now }
    }

    fn put_in_force(&self, state: RouteState, upstreams: &[usize]) {
        let mut table = Table::clone(&self.table.load());
        table.writes = route(state, upstreams);
        table.reads = route(state, upstreams);
        self.table.store(Arc::new(table));
        self.places.table_changed();
    }

    fn ask(&self) -> Ticket {
        self.places.ask(Port::Writes, self.now, None)
    }
}

fn poll(ticket: &mut Ticket) -> Poll<Result<Place, NoPlace>> {
    let mut future = poll_fn(|context| std::pin::Pin::new(&mut *ticket).poll(context));
    std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop()))
}

fn place(ticket: &mut Ticket) -> Place {
    match poll(ticket) {
        Poll::Ready(Ok(place)) => place,
        other => panic!("no place: {other:?}"),
    }
}

fn refused(ticket: &mut Ticket) -> NoPlace {
    match poll(ticket) {
        Poll::Ready(Err(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn place_given_to_one_that_left_goes_to_the_next() {
    let world = World::new(1, 1);
    let (first, mut second) = (world.ask(), world.ask());
    world.put_in_force(RouteState::Open, &[0]);
    assert!(poll(&mut second).is_pending());
    // It was given the place, but never came to fetch it.
    drop(first);
    let second = place(&mut second);
    let counted = || {
        let [writes, _] = world.places.counters();
        (writes.upstreams[0].sessions, writes.waiting)
    };
    assert_eq!(counted(), (Gauge { now: 1, most: 1 }, Gauge { now: 0, most: 2 }));
    drop(second);
    assert_eq!(counted(), (Gauge { now: 0, most: 1 }, Gauge { now: 0, most: 2 }));
}

#[test]
fn only_so_many_open_at_once() {
    let world = World::new(1, 1_000);
    world.put_in_force(RouteState::Open, &[0]);
    let mut opening: Vec<_> = (0..OPENINGS_AT_ONCE).map(|_| place(&mut world.ask())).collect();
    let mut next = world.ask();
    assert!(poll(&mut next).is_pending());
    opening[7].opened();
    drop(place(&mut next));
}

#[test]
fn patience_depends_on_what_is_waited_for() {
    let mut world = World::new(1, 1);
    let mut held = world.ask();
    let just_before = HOLD - Duration::from_millis(1);
    assert!(world.places.tick(world.now + just_before));
    assert!(poll(&mut held).is_pending());
    assert!(!world.places.tick(world.now + HOLD));
    assert_eq!(refused(&mut held), NoPlace::HoldExpired("the reason".to_owned()));

    world.put_in_force(RouteState::Open, &[0]);
    let _taken = place(&mut world.ask());
    world.now = Instant::now();
    let mut queued = world.ask();
    assert!(poll(&mut queued).is_pending());
    world.places.tick(world.now + QUEUE + Duration::from_secs(1));
    assert_eq!(refused(&mut queued), NoPlace::QueueExpired);
}

#[test]
fn failed_server_is_left_alone_and_tried_again_when_there_is_news() {
    let world = World::new(2, 10);
    world.put_in_force(RouteState::Open, &[0, 1]);
    let first = place(&mut world.ask());
    assert_eq!(first.upstream(), 0);
    // Far enough ahead that no pause ends while the test runs.
    let failed_at = world.now + Duration::from_secs(60);
    world.places.failed(0, "pg1: refused", failed_at);
    drop(first);
    for _ in 0..4 {
        assert_eq!(place(&mut world.ask()).upstream(), 1);
    }
    world.places.failed(1, "pg2: refused", failed_at);
    let mut last = world.ask();
    assert!(poll(&mut last).is_pending());
    world.put_in_force(RouteState::Open, &[0]);
    assert_eq!(place(&mut last).upstream(), 0);
}

#[test]
fn one_that_comes_back_keeps_its_turn() {
    let world = World::new(1, 1);
    world.put_in_force(RouteState::Open, &[0]);
    let mut first = world.ask();
    let number = first.number();
    let given = place(&mut first);
    let mut second = world.ask();
    world.places.failed(0, "pg1: refused", world.now + Duration::from_secs(60));
    drop(given);
    let mut again = world.places.ask(Port::Writes, world.now, Some(number));
    world.put_in_force(RouteState::Open, &[0]);
    assert!(poll(&mut second).is_pending());
    drop(place(&mut again));
    drop(place(&mut second));
}

#[test]
fn refusing_route_sends_everybody_away() {
    let world = World::new(1, 1);
    let mut waiting = world.ask();
    world.put_in_force(RouteState::Refusing, &[]);
    assert_eq!(refused(&mut waiting), NoPlace::Refused("the reason".to_owned()));
    assert_eq!(refused(&mut world.ask()), NoPlace::Refused("the reason".to_owned()));
    assert_eq!(world.places.counters()[0].waiting, Gauge { now: 0, most: 1 });
}
