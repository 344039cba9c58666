//! Why something was routed, held, refused or cut. The log, clients, `hactl` and the status page show the same words.

use std::time::Duration;

use ha_core::{Epoch, MemberName};

use crate::table::{AdminState, RouteState};

/// A decision's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No evidence of anybody yet.
    #[error("no agent has been heard yet")]
    NotHeard,
    /// The process stood still.
    #[error("this proxy stood still: what it knew is too old, and every agent is asked anew")]
    StoodStill,
    /// The leader by its own claim.
    #[error("{member} leads epoch {epoch}")]
    Leads {
        /// Who.
        member: MemberName,
        /// Epoch.
        epoch: Epoch,
    },
    /// The leader by health checks.
    #[error("{member} answers health checks as primary")]
    AnswersAsPrimary {
        /// Who.
        member: MemberName,
    },
    /// The last known leader, without fresh evidence.
    #[error("{member} was the last known leader; its agent is silent ({why}) and nobody else leads")]
    Kept {
        /// Who.
        member: MemberName,
        /// What happened to its evidence.
        why: String,
    },
    /// A leader that takes no writes.
    #[error("{member} leads epoch {epoch}, but takes no writes: {why}")]
    NotOpen {
        /// Who.
        member: MemberName,
        /// Epoch.
        epoch: Epoch,
        /// Its words.
        why: String,
    },
    /// Planned change of leader.
    #[error("planned change of leader from {member}{}", to(successor))]
    PlannedChange {
        /// From whom.
        member: MemberName,
        /// To whom, if that is known.
        successor: Option<MemberName>,
    },
    /// Nobody leads.
    #[error("no member leads now{}", because(why))]
    NoLeader {
        /// What the last leader said, may be empty.
        why: String,
    },
    /// The last known leader has been silent for too long.
    #[error("{member} was the last known leader, but gave no sign of life for {} s", limit.as_secs_f32())]
    SilentTooLong {
        /// Who.
        member: MemberName,
        /// The limit.
        limit: Duration,
    },
    /// Two members claim the same epoch.
    #[error(
        "both {first} and {second} claim to lead epoch {epoch}: writes are stopped, a human must look; \
         if the cluster was founded anew, restart the proxies"
    )]
    TwoClaims {
        /// Epoch.
        epoch: Epoch,
        /// Who claimed it first.
        first: MemberName,
        /// Who claimed it too.
        second: MemberName,
    },
    /// Two members answer health checks as primary.
    #[error("{} all answer health checks as primary: waiting until one is left", names(members))]
    TwoPrimaries {
        /// Who.
        members: Vec<MemberName>,
    },
    /// The leader's PostgreSQL cannot be connected.
    #[error("{member} leads, but cannot be connected: {why}")]
    CannotConnect {
        /// Who.
        member: MemberName,
        /// Why.
        why: String,
    },
    /// Held for too long.
    #[error("{cause} (for more than {} s)", limit.as_secs_f32())]
    HoldExpired {
        /// How long new sessions were held.
        limit: Duration,
        /// Why they were.
        cause: Box<Self>,
    },
    /// An operator has taken it out.
    #[error("an operator has taken {member} out: {}", state.as_str())]
    TakenOut {
        /// Who.
        member: MemberName,
        /// How far.
        state: AdminState,
    },
    /// An operator has changed it.
    #[error("an operator wants {member} in state {}", state.as_str())]
    Administered {
        /// Who.
        member: MemberName,
        /// How.
        state: AdminState,
    },
    /// Reads go to standbys.
    #[error("{} {} reads", names(members), if members.len() == 1 { "takes" } else { "take" })]
    StandbysTakeReads {
        /// Who.
        members: Vec<MemberName>,
    },
    /// Reads go to the leader.
    #[error("no standby takes reads: they go to the leader {member}")]
    LeaderTakesReads {
        /// Who.
        member: MemberName,
    },
    /// Nobody for reads.
    #[error("no standby takes reads now")]
    NoStandby,
    /// A route changed.
    #[error("{port}: {}: {cause}", word(*state))]
    RouteChanged {
        /// `writes` or `reads`.
        port: &'static str,
        /// What new sessions meet now.
        state: RouteState,
        /// Why.
        cause: Box<Self>,
    },
    /// A leader lost its role.
    #[error("{member} leads no more{}", because(why))]
    LostRole {
        /// Who.
        member: MemberName,
        /// Its words, may be empty.
        why: String,
    },
    /// A higher epoch was seen.
    #[error("{member} led epoch {epoch}; epoch {highest} is newer")]
    Superseded {
        /// Who.
        member: MemberName,
        /// Its epoch.
        epoch: Epoch,
        /// The newer one.
        highest: Epoch,
    },
    /// Another member leads.
    #[error("{by} leads instead of {member}")]
    Replaced {
        /// Who led.
        member: MemberName,
        /// Who leads.
        by: MemberName,
    },
    /// PostgreSQL is down by its agent.
    #[error("PostgreSQL of {member} does not run{}", because(why))]
    PostgresDown {
        /// Who.
        member: MemberName,
        /// Its words, may be empty.
        why: String,
    },
    /// Neither agent nor PostgreSQL answers.
    #[error("{member} is gone: its agent is silent and its PostgreSQL cannot be connected ({why})")]
    Gone {
        /// Who.
        member: MemberName,
        /// How connecting failed.
        why: String,
    },
    /// A claim to lead an epoch that is over.
    #[error(
        "{member} claims to lead epoch {epoch}, but epoch {highest} was seen: ignored; \
         if the cluster was founded anew, restart the proxies"
    )]
    OldClaim {
        /// Who.
        member: MemberName,
        /// Its epoch.
        epoch: Epoch,
        /// The newest.
        highest: Epoch,
    },
    /// Somebody who is not in the file.
    #[error("{member} is no database host of the file: what was said about it is ignored")]
    UnknownMember {
        /// Who.
        member: MemberName,
    },
    /// Claims come no more.
    #[error("the claims of {member} ended ({why}): asking its REST interface instead")]
    PushLost {
        /// Whose.
        member: MemberName,
        /// How.
        why: String,
    },
    /// Claims come again.
    #[error("claims of {member} are heard")]
    PushHeard {
        /// Whose.
        member: MemberName,
    },
}

impl Reason {
    /// Whether a human must see it: it does not pass by itself.
    pub fn needs_a_human(&self) -> bool {
        match self {
            Self::TwoClaims { .. } => true,
            Self::HoldExpired { cause, .. } | Self::RouteChanged { cause, .. } => cause.needs_a_human(),
            _ => false,
        }
    }
}

fn to(successor: &Option<MemberName>) -> String {
    successor.as_ref().map(|name| format!(" to {name}")).unwrap_or_default()
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

fn names(members: &[MemberName]) -> String {
    members.iter().map(MemberName::as_str).collect::<Vec<_>>().join(", ")
}

fn word(state: RouteState) -> &'static str {
    match state {
        RouteState::Open => "open",
        RouteState::Holding => "holding",
        RouteState::Refusing => "refusing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pg(number: u8) -> MemberName {
        format!("pg{number}").parse().unwrap()
    }

    #[test]
    fn reasons_read_as_sentences() {
        let lost = Reason::LostRole { member: pg(1), why: String::new() };
        assert_eq!(lost.to_string(), "pg1 leads no more");
        let planned = Reason::PlannedChange { member: pg(1), successor: Some(pg(2)) };
        assert_eq!(planned.to_string(), "planned change of leader from pg1 to pg2");
        let one = Reason::StandbysTakeReads { members: vec![pg(2)] };
        assert_eq!(one.to_string(), "pg2 takes reads");
        let two = Reason::StandbysTakeReads { members: vec![pg(2), pg(3)] };
        assert_eq!(two.to_string(), "pg2, pg3 take reads");
    }

    #[test]
    fn what_needs_a_human_does_so_inside_another_reason_too() {
        let claims = Reason::TwoClaims { epoch: Epoch(7), first: pg(1), second: pg(2) };
        let changed =
            Reason::RouteChanged { port: "writes", state: RouteState::Refusing, cause: Box::new(claims) };
        assert!(changed.needs_a_human());
        assert!(!Reason::NotHeard.needs_a_human());
    }
}
