//! Who gets new read sessions: every standby that takes them; the leader only where that is configured.

use ha_core::MonoTime;

use crate::event::ClaimedRole;
use crate::health::Standing;
use crate::reason::Reason;
use crate::router::Router;
use crate::table::AdminState;
use crate::upstream::Upstream;
use crate::writes::Decision;

impl Router {
    /// Decides about reads, after writes.
    pub(crate) fn decide_reads(&self, now: MonoTime, writes: &Decision) -> Decision {
        let leader = match writes {
            Decision::Open { upstreams, .. } => upstreams.first().copied(),
            _ => None,
        };
        let takes = |index: &usize| self.takes_reads(now, &self.upstreams[*index]);
        let standbys: Vec<usize> = (0..self.upstreams.len()).filter(takes).collect();
        let connects = |index: &usize| !self.upstreams[*index].connecting.pauses(now);
        let answering: Vec<usize> = standbys.iter().copied().filter(connects).collect();
        // Where none can be connected, trying them again is better than nothing.
        let chosen = if answering.is_empty() { standbys } else { answering };
        if !chosen.is_empty() {
            let members = chosen.iter().map(|&index| self.name(index)).collect();
            let reason = Reason::StandbysTakeReads { members };
            return Decision::Open { upstreams: chosen, epoch: self.highest, reason };
        }
        if let Some(leader) = leader.filter(|_| self.setup.read_from_leader) {
            let reason = Reason::LeaderTakesReads { member: self.name(leader) };
            return Decision::Open { upstreams: vec![leader], epoch: self.highest, reason };
        }
        let heard = self.upstreams.iter().any(|upstream| upstream.heard_at().is_some());
        Decision::Hold(if heard { Reason::NoStandby } else { Reason::NotHeard })
    }

    fn takes_reads(&self, now: MonoTime, upstream: &Upstream) -> bool {
        if upstream.admin != AdminState::Ready || upstream.lagging {
            return false;
        }
        match upstream.fresh_claim() {
            Some(claim) => claim.role == ClaimedRole::Standby && claim.takes_reads,
            None => {
                upstream.health.standing() == Standing::Standby
                    && upstream.heard_within(now, self.setup.stale_limit)
            }
        }
    }
}
