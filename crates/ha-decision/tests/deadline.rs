//! What moves a leader's deadline forward: answers to its own beats of this life, and nothing else.

mod member;

use std::time::Duration;

use ha_core::peer_message::{Echo, PeerMessage};
use ha_core::{Generation, MonoTime};
use member::{Member, id};

/// The answer of a listed member to a beat.
fn echo(pg1: &Member, generation: Generation, sent_at: MonoTime) -> PeerMessage {
    PeerMessage::Echo(Echo {
        epoch: pg1.sync().epoch,
        generation,
        sent_at,
        member: id("pg2"),
        revoked: false,
        refuses_ms: None,
    })
}

#[test]
fn an_answer_to_a_beat_from_before_a_reboot_moves_no_deadline() {
    let mut pg1 = Member::leading();
    pg1.come_to_serve(100);
    pg1.wait(2000);
    let generation = pg1.sync().generation;
    let before = pg1.decider.status().deadline.expect("a deadline");
    // The clock of the life before had gone on for longer than that of this one.
    let future = pg1.now + Duration::from_secs(30);
    let late = [echo(&pg1, generation, future), echo(&pg1, Generation(generation.0 - 1), pg1.now)];
    for message in late {
        pg1.hear("pg2", message);
        assert_eq!(pg1.decider.status().deadline, Some(before));
    }
    let answer = echo(&pg1, generation, pg1.now);
    pg1.hear("pg2", answer);
    let after = pg1.decider.status().deadline.expect("a deadline");
    assert!(after > before && after < future, "{before:?} {after:?}");
}
