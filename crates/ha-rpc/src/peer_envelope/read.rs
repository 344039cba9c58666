//! From the wire to the words. What another version may say is an error value.

use std::fmt::Display;
use std::str::FromStr;

use ha_core::peer_message as core;
use ha_core::{Epoch, Generation, Lsn, MonoTime, Revision, SystemId, Timeline};

use super::ReadError;
use crate::proto;
use crate::proto::peer_envelope::Message;

pub(super) fn message(message: Message) -> Result<core::PeerMessage, ReadError> {
    Ok(match message {
        Message::State(it) => core::PeerMessage::State(state(it)?),
        Message::Beat(it) => core::PeerMessage::Beat(core::Beat {
            epoch: Epoch(it.epoch),
            generation: Generation(it.generation),
            sent_at: MonoTime(it.sent_at),
            asks_to_refuse: it.asks_to_refuse,
        }),
        Message::Echo(it) => core::PeerMessage::Echo(core::Echo {
            epoch: Epoch(it.epoch),
            generation: Generation(it.generation),
            sent_at: MonoTime(it.sent_at),
            member: text("echo.member", &it.member)?,
            revoked: it.revoked,
            refuses_ms: it.refuses_ms,
        }),
        Message::PromiseRequest(it) => core::PeerMessage::PromiseRequest(core::PromiseRequest {
            epoch: Epoch(it.epoch),
            revision: Revision(it.revision),
            candidate: text("promise_request.candidate", &it.candidate)?,
            trigger: trigger("promise_request.trigger", it.trigger)?,
            accepts_loss: it.accepts_loss,
        }),
        Message::Promised(it) => core::PeerMessage::Promised(promised(&it)?),
        Message::PromiseRefused(it) => core::PeerMessage::PromiseRefused(core::PromiseRefused {
            epoch: Epoch(it.epoch),
            revision: Revision(it.revision),
            member: text("promise_refused.member", &it.member)?,
            refusal: refusal(it.refusal)?,
        }),
        Message::HandOver(it) => core::PeerMessage::HandOver(core::HandOver {
            epoch: Epoch(it.epoch),
            revision: Revision(it.revision),
            candidate: optional("hand_over.candidate", it.candidate.as_deref())?,
            final_lsn: it.final_lsn.map(Lsn),
            steps: core::HandOverSteps {
                checkpoint_ms: it.checkpoint_ms,
                hold_ms: it.hold_ms,
                stop_ms: it.stop_ms,
            },
        }),
        Message::TakeOver(it) => core::PeerMessage::TakeOver(core::TakeOver {
            epoch: Epoch(it.epoch),
            revision: Revision(it.revision),
            trigger: trigger("take_over.trigger", it.trigger)?,
            promises: it.promises.iter().map(promised).collect::<Result<_, _>>()?,
        }),
    })
}

pub(super) fn state(it: proto::PeerState) -> Result<core::PeerState, ReadError> {
    Ok(core::PeerState {
        incarnation: optional("state.incarnation", it.incarnation.as_deref())?,
        system_id: it.system_id.map(SystemId),
        phase: phase(it.phase)?,
        epoch: Epoch(it.epoch),
        revision: Revision(it.revision),
        timeline: Timeline(it.timeline),
        flush: Lsn(it.flush),
        replay: Lsn(it.replay),
        checkpoint_timeline: Timeline(it.checkpoint_timeline),
        history: it.history.iter().map(|ended| (Timeline(ended.timeline), Lsn(ended.end))).collect(),
        hears_leader: it.hears_leader,
        candidate: it.candidate,
        leaving: it.leaving,
    })
}

fn promised(it: &proto::Promised) -> Result<core::Promised, ReadError> {
    Ok(core::Promised {
        epoch: Epoch(it.epoch),
        revision: Revision(it.revision),
        member: text("promised.member", &it.member)?,
        timeline: Timeline(it.timeline),
        flush: Lsn(it.flush),
        candidate: it.candidate,
        priority: it.priority,
    })
}

fn text<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|why: T::Err| ReadError::Malformed { field, why: why.to_string() })
}

fn optional<T: FromStr<Err: Display>>(
    field: &'static str,
    given: Option<&str>,
) -> Result<Option<T>, ReadError> {
    given.map(|given| text(field, given)).transpose()
}

fn phase(value: i32) -> Result<core::PeerPhase, ReadError> {
    match proto::PeerPhase::try_from(value) {
        Ok(proto::PeerPhase::Empty) => Ok(core::PeerPhase::Empty),
        Ok(proto::PeerPhase::Stopped) => Ok(core::PeerPhase::Stopped),
        Ok(proto::PeerPhase::Standby) => Ok(core::PeerPhase::Standby),
        Ok(proto::PeerPhase::PrimaryClosed) => Ok(core::PeerPhase::PrimaryClosed),
        Ok(proto::PeerPhase::Primary) => Ok(core::PeerPhase::Primary),
        Ok(proto::PeerPhase::Unspecified) | Err(_) => {
            Err(ReadError::UnknownValue { field: "state.phase", value })
        }
    }
}

fn trigger(field: &'static str, value: i32) -> Result<core::Trigger, ReadError> {
    match proto::Trigger::try_from(value) {
        Ok(proto::Trigger::LeaseExpired) => Ok(core::Trigger::LeaseExpired),
        Ok(proto::Trigger::LeaderSilent) => Ok(core::Trigger::LeaderSilent),
        Ok(proto::Trigger::LeaderAsked) => Ok(core::Trigger::LeaderAsked),
        Ok(proto::Trigger::Operator) => Ok(core::Trigger::Operator),
        Ok(proto::Trigger::Unspecified) | Err(_) => Err(ReadError::UnknownValue { field, value }),
    }
}

fn refusal(value: i32) -> Result<core::PromiseRefusal, ReadError> {
    match proto::PromiseRefusal::try_from(value) {
        Ok(proto::PromiseRefusal::HearsLeader) => Ok(core::PromiseRefusal::HearsLeader),
        Ok(proto::PromiseRefusal::JustStarted) => Ok(core::PromiseRefusal::JustStarted),
        Ok(proto::PromiseRefusal::NewerRecord) => Ok(core::PromiseRefusal::NewerRecord),
        Ok(proto::PromiseRefusal::OlderRecord) => Ok(core::PromiseRefusal::OlderRecord),
        Ok(proto::PromiseRefusal::NotListed) => Ok(core::PromiseRefusal::NotListed),
        Ok(proto::PromiseRefusal::DataNotReady) => Ok(core::PromiseRefusal::DataNotReady),
        Ok(proto::PromiseRefusal::RunsAsPrimary) => Ok(core::PromiseRefusal::RunsAsPrimary),
        Ok(proto::PromiseRefusal::Busy) => Ok(core::PromiseRefusal::Busy),
        Ok(proto::PromiseRefusal::Unspecified) | Err(_) => {
            Err(ReadError::UnknownValue { field: "promise_refused.refusal", value })
        }
    }
}
