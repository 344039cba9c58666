//! A wire that loses what one host says to the other.

use std::time::Instant;

use crate::link::{Capture, Frame, World, is_root, ms, wait_for};

/// ha2 hears nothing and takes over; ha1 hears that, answers in vain, and holds the address as well. One packet ends it.
#[test]
fn a_lost_direction_makes_two_holders_only_while_it_lasts() {
    if !is_root() {
        return;
    }
    let (world, _first, second) = World::running("interval = \"200ms\"");
    world.ask_where();
    world.lose(&world.ha1, &world.ha2, 100);
    wait_for("ha2 to hold the address", || world.ha2.holds().then_some(()));
    assert!(world.ha1.holds());
    let capture = Capture::begin(&world, "one-way");
    world.deliver_all();
    let mended = Instant::now();
    wait_for("ha2 to leave it", || (!world.ha2.holds()).then_some(()));
    // The client asks nothing: ha1 has told it.
    wait_for("the client to know ha1", || {
        (world.neighbour().as_deref() == Some("02:00:00:00:00:21")).then_some(())
    });
    println!("mended: the client knows ha1 after {:?}", mended.elapsed());
    assert!(mended.elapsed() < ms(1000), "{:?}", mended.elapsed());
    second.says("active -> backup: 10.0.1.21 has the higher priority 151");
    let last = capture.from(&world.ha2, mended).pop().expect("ha2's last word");
    assert!(last.is_advertisement(), "{}", last.text());
    let announced = capture.from(&world.ha1, last.at);
    assert!(announced.iter().any(Frame::is_announcement), "ha1 announces itself behind ha2's last word");
}

/// One of three packets lost: now and then a takeover (three in a row), never a storm, and afterwards all is as before.
#[test]
fn a_wire_that_loses_a_third_ends_in_one_holder() {
    if !is_root() {
        return;
    }
    let (world, first, _second) = World::running("interval = \"200ms\"");
    world.lose(&world.ha1, &world.ha2, 33);
    let end = Instant::now() + ms(10_000);
    wait_for("ten seconds to pass", || (Instant::now() >= end).then_some(()));
    // Of fifty packets; each run of three that are lost is worth one, and ends with the next that is not.
    let lost = first.log().matches("active -> ").count();
    assert_eq!(lost, 0, "the preferred one yields to nobody: {}", first.log());
    world.deliver_all();
    wait_for("ha1 alone to hold the address", || (world.ha1.holds() && !world.ha2.holds()).then_some(()));
}
