//! From the words to the wire. Every match is complete: a new variant does not compile until it has a form.

use ha_core::peer_message as core;

use crate::proto;
use crate::proto::peer_envelope::Message;

pub(super) fn message(message: &core::PeerMessage) -> Message {
    match message {
        core::PeerMessage::State(it) => Message::State(write_state(it)),
        core::PeerMessage::Beat(it) => Message::Beat(proto::Beat {
            epoch: it.epoch.0,
            generation: it.generation.0,
            sent_at: it.sent_at.0,
            asks_to_refuse: it.asks_to_refuse,
        }),
        core::PeerMessage::Echo(it) => Message::Echo(proto::Echo {
            epoch: it.epoch.0,
            generation: it.generation.0,
            sent_at: it.sent_at.0,
            member: it.member.to_string(),
            revoked: it.revoked,
            refuses_ms: it.refuses_ms,
        }),
        core::PeerMessage::PromiseRequest(it) => Message::PromiseRequest(proto::PromiseRequest {
            epoch: it.epoch.0,
            revision: it.revision.0,
            candidate: it.candidate.to_string(),
            trigger: trigger(it.trigger).into(),
            accepts_loss: it.accepts_loss,
        }),
        core::PeerMessage::Promised(it) => Message::Promised(promised(it)),
        core::PeerMessage::PromiseRefused(it) => Message::PromiseRefused(proto::PromiseRefused {
            epoch: it.epoch.0,
            revision: it.revision.0,
            member: it.member.to_string(),
            refusal: refusal(it.refusal).into(),
        }),
        core::PeerMessage::HandOver(it) => Message::HandOver(proto::HandOver {
            epoch: it.epoch.0,
            revision: it.revision.0,
            candidate: it.candidate.as_ref().map(ToString::to_string),
            final_lsn: it.final_lsn.map(|lsn| lsn.0),
            checkpoint_ms: it.steps.checkpoint_ms,
            hold_ms: it.steps.hold_ms,
            stop_ms: it.steps.stop_ms,
        }),
        core::PeerMessage::TakeOver(it) => Message::TakeOver(proto::TakeOver {
            epoch: it.epoch.0,
            revision: it.revision.0,
            trigger: trigger(it.trigger).into(),
            promises: it.promises.iter().map(promised).collect(),
        }),
    }
}

/// A member's state as the status reply and the stream carry it.
pub fn write_state(state: &core::PeerState) -> proto::PeerState {
    proto::PeerState {
        incarnation: state.incarnation.map(|incarnation| incarnation.to_string()),
        system_id: state.system_id.map(|id| id.0),
        phase: phase(state.phase).into(),
        epoch: state.epoch.0,
        revision: state.revision.0,
        timeline: state.timeline.0,
        flush: state.flush.0,
        replay: state.replay.0,
        checkpoint_timeline: state.checkpoint_timeline.0,
        history: state
            .history
            .iter()
            .map(|(timeline, end)| proto::TimelineEnd { timeline: timeline.0, end: end.0 })
            .collect(),
        hears_leader: state.hears_leader,
        candidate: state.candidate,
        leaving: state.leaving,
    }
}

fn promised(it: &core::Promised) -> proto::Promised {
    proto::Promised {
        epoch: it.epoch.0,
        revision: it.revision.0,
        member: it.member.to_string(),
        timeline: it.timeline.0,
        flush: it.flush.0,
        candidate: it.candidate,
        priority: it.priority,
    }
}

fn phase(phase: core::PeerPhase) -> proto::PeerPhase {
    match phase {
        core::PeerPhase::Empty => proto::PeerPhase::Empty,
        core::PeerPhase::Stopped => proto::PeerPhase::Stopped,
        core::PeerPhase::Standby => proto::PeerPhase::Standby,
        core::PeerPhase::PrimaryClosed => proto::PeerPhase::PrimaryClosed,
        core::PeerPhase::Primary => proto::PeerPhase::Primary,
    }
}

fn trigger(trigger: core::Trigger) -> proto::Trigger {
    match trigger {
        core::Trigger::LeaseExpired => proto::Trigger::LeaseExpired,
        core::Trigger::LeaderSilent => proto::Trigger::LeaderSilent,
        core::Trigger::LeaderAsked => proto::Trigger::LeaderAsked,
        core::Trigger::Operator => proto::Trigger::Operator,
    }
}

fn refusal(refusal: core::PromiseRefusal) -> proto::PromiseRefusal {
    match refusal {
        core::PromiseRefusal::HearsLeader => proto::PromiseRefusal::HearsLeader,
        core::PromiseRefusal::JustStarted => proto::PromiseRefusal::JustStarted,
        core::PromiseRefusal::NewerRecord => proto::PromiseRefusal::NewerRecord,
        core::PromiseRefusal::OlderRecord => proto::PromiseRefusal::OlderRecord,
        core::PromiseRefusal::NotListed => proto::PromiseRefusal::NotListed,
        core::PromiseRefusal::DataNotReady => proto::PromiseRefusal::DataNotReady,
        core::PromiseRefusal::RunsAsPrimary => proto::PromiseRefusal::RunsAsPrimary,
        core::PromiseRefusal::Busy => proto::PromiseRefusal::Busy,
    }
}
