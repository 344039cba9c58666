//! From the wire to a claim that the decider understands.

use ha_core::{Epoch, Lsn, MemberName, Revision, Timeline};
use ha_routing::{Claim, ClaimedRole};
use ha_rpc::proto;

/// Why a claim cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It speaks for another member.
    #[error("the agent of {asked} claims for {found:?}")]
    OtherMember {
        /// Whose agent it is, by its certificate.
        asked: MemberName,
        /// Whom it names.
        found: String,
    },
    /// A role of a newer version, or none.
    #[error("the agent of {member} claims the unknown role {found}")]
    Role {
        /// Whose agent.
        member: MemberName,
        /// The number on the wire.
        found: i32,
    },
    /// A member's name that is none.
    #[error("the agent of {member} names {found:?} as {what}")]
    Name {
        /// Whose agent.
        member: MemberName,
        /// `leader` or `successor`.
        what: &'static str,
        /// The text.
        found: String,
    },
}

/// Longest reason that is kept: it goes to the log and to pages, and an agent's text is none of ours.
const REASON_BYTES: usize = 300;

/// Reads a claim on the stream to the agent of `member`.
pub(super) fn read(member: &MemberName, wire: proto::RoleClaim) -> Result<Claim, ClaimError> {
    if wire.member != member.as_str() {
        return Err(ClaimError::OtherMember { asked: member.clone(), found: wire.member });
    }
    let role = match wire.role() {
        proto::ClaimedRole::None => ClaimedRole::None,
        proto::ClaimedRole::Leader => ClaimedRole::Leader,
        proto::ClaimedRole::Standby => ClaimedRole::Standby,
        proto::ClaimedRole::Unspecified => {
            return Err(ClaimError::Role { member: member.clone(), found: wire.role });
        }
    };
    let name = |what, text: Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| ClaimError::Name {
            member: member.clone(),
            what,
            found: text.to_owned(),
        }),
    };
    Ok(Claim {
        member: member.clone(),
        sequence: wire.sequence,
        role,
        epoch: Epoch(wire.epoch),
        revision: Revision(wire.revision),
        established: wire.established,
        takes_writes: wire.takes_writes,
        holding: wire.holding,
        successor: name("successor", wire.successor)?,
        takes_reads: wire.takes_reads,
        timeline: (wire.timeline != 0).then_some(Timeline(wire.timeline)),
        position: (wire.position != 0).then_some(Lsn(wire.position)),
        lag_bytes: wire.lag_bytes,
        leader: name("leader", Some(wire.leader))?,
        reason: shortened(wire.reason),
        synchronous: wire.synchronous,
        maintenance: wire.maintenance,
    })
}

fn shortened(mut text: String) -> String {
    if text.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> proto::RoleClaim {
        proto::RoleClaim {
            sequence: 7,
            member: "pg1".to_owned(),
            role: proto::ClaimedRole::Standby.into(),
            epoch: 3,
            takes_reads: true,
            lag_bytes: Some(16),
            leader: "pg2".to_owned(),
            reason: "streams".to_owned(),
            maintenance: true,
            ..proto::RoleClaim::default()
        }
    }

    #[test]
    fn what_is_unknown_on_the_wire_is_absent() {
        let member: MemberName = "pg1".parse().unwrap();
        let claim = read(&member, wire()).unwrap();
        assert_eq!((claim.sequence, claim.epoch, claim.role), (7, Epoch(3), ClaimedRole::Standby));
        assert_eq!((claim.timeline, claim.position, claim.lag_bytes), (None, None, Some(16)));
        assert_eq!((claim.leader, claim.successor), (Some("pg2".parse().unwrap()), None));
        assert!(claim.maintenance && !claim.synchronous);
        let alone = proto::RoleClaim { leader: String::new(), timeline: 4, ..wire() };
        let claim = read(&member, alone).unwrap();
        assert_eq!((claim.leader, claim.timeline), (None, Some(Timeline(4))));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_says_what() {
        let member: MemberName = "pg1".parse().unwrap();
        for (wire, text) in [
            (proto::RoleClaim { member: "pg2".to_owned(), ..wire() }, "the agent of pg1 claims for \"pg2\""),
            (proto::RoleClaim { role: 0, ..wire() }, "the agent of pg1 claims the unknown role 0"),
            (proto::RoleClaim { role: 9, ..wire() }, "the agent of pg1 claims the unknown role 9"),
            (
                proto::RoleClaim { successor: Some("P G".to_owned()), ..wire() },
                "the agent of pg1 names \"P G\" as successor",
            ),
        ] {
            assert_eq!(read(&member, wire).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let member: MemberName = "pg1".parse().unwrap();
        let long = proto::RoleClaim { reason: "\u{fc}".repeat(400), ..wire() };
        let reason = read(&member, long).unwrap().reason;
        assert_eq!(reason.len(), REASON_BYTES + 3);
    }
}
