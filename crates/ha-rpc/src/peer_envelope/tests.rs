use ha_core::peer_message::{
    Beat, Echo, HandOver, HandOverSteps, PeerPhase, PeerState, PromiseRefusal, PromiseRefused,
    PromiseRequest, Promised, TakeOver, Trigger,
};
use ha_core::{Epoch, Generation, Incarnation, Lsn, MemberId, MonoTime, Revision, SystemId, Timeline};
use prost::Message as _;

use super::*;

fn member(name: &str) -> MemberId {
    MemberId::new(name.parse().unwrap(), Incarnation(0x7f3a_1b2c))
}

fn promised() -> Promised {
    Promised {
        epoch: Epoch(7),
        revision: Revision(u64::MAX),
        member: member("pg2"),
        timeline: Timeline(3),
        flush: Lsn(0x16_B374_D848),
        candidate: true,
        priority: 2,
    }
}

fn state(phase: PeerPhase) -> PeerState {
    PeerState {
        incarnation: Some(Incarnation(1)),
        system_id: Some(SystemId(7_512_345_678_901_234_567)),
        phase,
        epoch: Epoch(7),
        revision: Revision(8),
        timeline: Timeline(3),
        flush: Lsn(900),
        replay: Lsn(800),
        checkpoint_timeline: Timeline(2),
        history: vec![(Timeline(1), Lsn(100)), (Timeline(2), Lsn(200))],
        hears_leader: true,
        candidate: false,
        leaving: true,
    }
}

fn all() -> Vec<PeerMessage> {
    let (epoch, generation) = (Epoch(7), Generation(11));
    let revision = Revision(8);
    let mut all = vec![
        PeerMessage::Beat(Beat { epoch, generation, sent_at: MonoTime(9), asks_to_refuse: false }),
        PeerMessage::Beat(Beat { epoch, generation, sent_at: MonoTime(9), asks_to_refuse: true }),
        PeerMessage::Echo(Echo {
            epoch,
            generation,
            sent_at: MonoTime(9),
            member: member("pg3"),
            revoked: true,
            refuses_ms: None,
        }),
        PeerMessage::Echo(Echo {
            epoch,
            generation,
            sent_at: MonoTime(9),
            member: member("pg3"),
            revoked: false,
            refuses_ms: Some(1000),
        }),
        PeerMessage::Promised(promised()),
        PeerMessage::HandOver(HandOver {
            epoch,
            revision,
            candidate: None,
            final_lsn: None,
            steps: HandOverSteps::default(),
        }),
        PeerMessage::HandOver(HandOver {
            epoch,
            revision,
            candidate: Some("pg2".parse().unwrap()),
            final_lsn: Some(Lsn(0)),
            steps: HandOverSteps { checkpoint_ms: Some(1), hold_ms: Some(0), stop_ms: Some(3) },
        }),
        PeerMessage::State(PeerState {
            incarnation: None,
            system_id: None,
            history: vec![],
            ..state(PeerPhase::Empty)
        }),
    ];
    for phase in [PeerPhase::Stopped, PeerPhase::Standby, PeerPhase::PrimaryClosed, PeerPhase::Primary] {
        all.push(PeerMessage::State(state(phase)));
    }
    for trigger in [Trigger::LeaseExpired, Trigger::LeaderSilent, Trigger::LeaderAsked, Trigger::Operator] {
        let candidate = member("pg2");
        let accepts_loss = trigger == Trigger::Operator;
        all.push(PeerMessage::PromiseRequest(PromiseRequest {
            epoch,
            revision,
            candidate,
            trigger,
            accepts_loss,
        }));
        let promises = vec![promised(), promised()];
        all.push(PeerMessage::TakeOver(TakeOver { epoch, revision, trigger, promises }));
    }
    for refusal in [
        PromiseRefusal::HearsLeader,
        PromiseRefusal::JustStarted,
        PromiseRefusal::NewerRecord,
        PromiseRefusal::OlderRecord,
        PromiseRefusal::NotListed,
        PromiseRefusal::DataNotReady,
        PromiseRefusal::RunsAsPrimary,
        PromiseRefusal::Busy,
    ] {
        let member = "pg3".parse().unwrap();
        all.push(PeerMessage::PromiseRefused(PromiseRefused { epoch, revision, member, refusal }));
    }
    all
}

#[test]
fn every_message_reads_back_what_was_written() {
    let from: MemberName = "pg1".parse().unwrap();
    for message in all() {
        let bytes = write(&from, &message).encode_to_vec();
        let envelope = proto::PeerEnvelope::decode(bytes.as_slice()).unwrap();
        assert_eq!(envelope.from, "pg1");
        assert_eq!(PeerMessage::try_from(envelope).unwrap(), message);
    }
}

#[test]
fn what_another_version_may_say_is_an_error_value() {
    use proto::peer_envelope::Message;
    let read = |message| PeerMessage::try_from(proto::PeerEnvelope { from: "pg1".into(), message });
    assert_eq!(read(None), Err(ReadError::UnknownMessage));
    let refused = proto::PromiseRefused { refusal: 99, member: "pg1".into(), ..Default::default() };
    let field = "promise_refused.refusal";
    assert_eq!(
        read(Some(Message::PromiseRefused(refused))),
        Err(ReadError::UnknownValue { field, value: 99 })
    );
    // Fields that a newer version adds are ignored: field 1000, a varint.
    let mut bytes = write(&"pg1".parse().unwrap(), &all()[0]).encode_to_vec();
    bytes.extend_from_slice(&[0xC0, 0x3E, 0x01]);
    assert_eq!(proto::PeerEnvelope::decode(bytes.as_slice()).unwrap().try_into(), Ok(all()[0].clone()));
    for broken in [
        Message::Echo(proto::Echo { member: "no at sign".into(), ..Default::default() }),
        Message::HandOver(proto::HandOver { candidate: Some(String::new()), ..Default::default() }),
        Message::State(proto::PeerState { incarnation: Some("xyz".into()), phase: 1, ..Default::default() }),
    ] {
        let error = read(Some(broken)).unwrap_err();
        assert!(matches!(error, ReadError::Malformed { .. }), "{error:?}");
    }
}
