//! Messages between agents: to the wire and back.

mod read;
mod write;

#[cfg(test)]
mod tests;

use ha_core::MemberName;
use ha_core::peer_message::PeerMessage;

use crate::proto;

pub use write::write_state;

/// Why a message cannot be read. The next one may be readable: versions can be mixed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nothing that this version knows is in it.
    #[error("the message is of a kind that this version does not know")]
    UnknownMessage,
    /// An enum value of another version.
    #[error("{field}: value {value} is not known to this version")]
    UnknownValue {
        /// Which.
        field: &'static str,
        /// What it held.
        value: i32,
    },
    /// A text that does not read.
    #[error("{field}: {why}")]
    Malformed {
        /// Which.
        field: &'static str,
        /// Why not.
        why: String,
    },
}

/// Puts a message into an envelope.
pub fn write(from: &MemberName, message: &PeerMessage) -> proto::PeerEnvelope {
    proto::PeerEnvelope { from: from.to_string(), message: Some(write::message(message)) }
}

impl TryFrom<proto::PeerEnvelope> for PeerMessage {
    type Error = ReadError;

    fn try_from(envelope: proto::PeerEnvelope) -> Result<Self, ReadError> {
        read::message(envelope.message.ok_or(ReadError::UnknownMessage)?)
    }
}

impl TryFrom<proto::PeerState> for ha_core::peer_message::PeerState {
    type Error = ReadError;

    fn try_from(state: proto::PeerState) -> Result<Self, ReadError> {
        read::state(state)
    }
}
