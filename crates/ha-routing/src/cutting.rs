//! Whose running sessions end. Silence ends nobody's: that a silent leader stops writing is the work of its agent and
//! its guard, and cutting its clients would help no one.

use crate::action::{Action, Sessions};
use crate::reason::Reason;
use crate::router::Router;
use crate::table::AdminState;

impl Router {
    /// Cuts what has to be cut, after the table is in force. `leader` is the member that gets write sessions now.
    pub(crate) fn cut_sessions(&mut self, leader: Option<usize>) {
        for index in 0..self.upstreams.len() {
            let lost = self.lost_role(index, leader);
            let down = self.newly_down(index).or_else(|| self.newly_maintained(index));
            let gone = self.newly_gone(index);
            let upstream = &mut self.upstreams[index];
            let cut = match (down, lost.filter(|_| upstream.may_hold_writes)) {
                (Some(reason), _) => Some((Sessions::All, reason)),
                (None, Some(reason)) => Some((Sessions::Writes, reason)),
                (None, None) => gone.map(|reason| (Sessions::Reads, reason)),
            };
            if let Some((which, reason)) = cut {
                upstream.may_hold_writes &= which == Sessions::Reads;
                self.actions.push_back(Action::Cut { member: upstream.member.clone(), which, reason });
            }
        }
    }

    /// Why this member's write sessions are of no use any more, if they are not.
    pub(crate) fn lost_role(&self, index: usize, leader: Option<usize>) -> Option<Reason> {
        let upstream = &self.upstreams[index];
        let member = upstream.member.clone();
        if upstream.denies_lead() {
            let why = if upstream.fresh { upstream.words() } else { "its REST interface says so" };
            return Some(Reason::LostRole { member, why: why.to_owned() });
        }
        let over = upstream.led_epoch.filter(|&epoch| epoch < self.highest && self.named != Some(index));
        if let Some(epoch) = over {
            return Some(Reason::Superseded { member, epoch, highest: self.highest });
        }
        let by = leader.filter(|&leader| leader != index)?;
        Some(Reason::Replaced { member, by: self.name(by) })
    }

    /// Its agent says for the first time that PostgreSQL does not run.
    fn newly_down(&mut self, index: usize) -> Option<Reason> {
        let upstream = &mut self.upstreams[index];
        let down = upstream.fresh_claim().is_some_and(|claim| claim.says_postgres_is_down());
        let before = std::mem::replace(&mut upstream.down, down);
        (down && !before).then(|| Reason::PostgresDown {
            member: upstream.member.clone(),
            why: upstream.words().to_owned(),
        })
    }

    /// An operator has begun to work on it.
    fn newly_maintained(&mut self, index: usize) -> Option<Reason> {
        let upstream = &mut self.upstreams[index];
        let maintained = upstream.admin == AdminState::Maintenance;
        let before = std::mem::replace(&mut upstream.maintained, maintained);
        let (member, state) = (upstream.member.clone(), upstream.admin);
        (maintained && !before).then_some(Reason::TakenOut { member, state })
    }

    /// Agent, REST interface and PostgreSQL are all silent: its read sessions would only wait for TCP to give up. Write
    /// sessions wait for the next leader, as a commit that was sent may still be answered.
    fn newly_gone(&mut self, index: usize) -> Option<Reason> {
        let fall = self.setup.check_fall;
        let upstream = &mut self.upstreams[index];
        let gone = !upstream.fresh && upstream.health.is_silent(fall) && upstream.connecting.is_failing();
        let before = std::mem::replace(&mut upstream.gone, gone);
        let why = upstream.connecting.why().to_owned();
        (gone && !before).then(|| Reason::Gone { member: upstream.member.clone(), why })
    }
}
