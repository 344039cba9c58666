//! The router: claims and health checks in, tables out.
//!
//! Split by situation: `claims` and `polling` take evidence in, `writes` and `reads` decide from it, `cutting` says
//! whose sessions end. Decisions are made anew from all the evidence after each event, so no order of events can leave
//! a route behind that nothing supports.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ha_core::{Epoch, MemberName, MonoTime};

use crate::action::Action;
use crate::event::Event;
use crate::reason::Reason;
use crate::setup::Setup;
use crate::table::{AdminState, Route, RouteState, Table, UpstreamView};
use crate::upstream::Upstream;
use crate::writes::Decision;

/// Decides where new sessions go. Give it every event, call [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) says so, and carry out [`poll_action`](Self::poll_action) until `None` after
/// each.
#[derive(Debug)]
pub struct Router {
    pub(crate) setup: Setup,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) actions: VecDeque<Action>,
    /// Highest epoch that anybody named.
    pub(crate) highest: Epoch,
    /// Who claimed first to lead it.
    pub(crate) owner: Option<usize>,
    /// Who leads it by the word of others.
    pub(crate) named: Option<usize>,
    /// Who got write sessions last and has not lost that role.
    pub(crate) leader: Option<usize>,
    /// How the last leader lost its role, in words.
    pub(crate) leader_words: String,
    /// Maintenance mode, by the last word; none before the first.
    pub(crate) maintenance: Option<bool>,
    table: Arc<Table>,
    /// Since when the ports are not open.
    writes_closed: Option<MonoTime>,
    reads_closed: Option<MonoTime>,
    strangers: BTreeSet<MemberName>,
    /// The newest instant that was handed in.
    now: MonoTime,
}

impl Router {
    /// Begins without evidence: everybody is held until somebody is heard. The first action puts that in force.
    pub fn new(setup: Setup, now: MonoTime) -> Self {
        let upstreams: Vec<Upstream> = setup
            .members
            .iter()
            .map(|(member, address)| Upstream::new(member.clone(), *address, now))
            .collect();
        let reason = Reason::NotHeard.to_string();
        let route =
            Route { state: RouteState::Holding, upstreams: Vec::new(), epoch: Epoch(0), reason, since: now };
        let views = upstreams.iter().map(|u| u.view(now, Epoch(0), setup.stale_limit)).collect();
        let table = Arc::new(Table {
            generation: 1,
            writes: route.clone(),
            reads: route,
            upstreams: views,
            maintenance: None,
        });
        let mut router = Self {
            setup,
            upstreams,
            actions: VecDeque::from([Action::PutInForce(table.clone())]),
            highest: Epoch(0),
            owner: None,
            named: None,
            leader: None,
            leader_words: String::new(),
            maintenance: None,
            table,
            writes_closed: Some(now),
            reads_closed: Some(now),
            strangers: BTreeSet::new(),
            now,
        };
        router.ask_due(now);
        router
    }

    /// Something happened.
    pub fn handle_event(&mut self, now: MonoTime, event: Event) {
        if let Event::Connected { member } = &event
            && !self.is_failing(member)
        {
            // Thousands a second in a storm of connections, and they say nothing new.
            return;
        }
        let now = self.advance(now);
        self.expire_claims(now);
        let mut confirm = None;
        match event {
            Event::Claimed(claim) => {
                confirm = Some((claim.member.clone(), claim.sequence));
                self.take_claim(now, claim);
            }
            Event::StoodStill => self.forget_what_was_heard(now),
            Event::StreamLost { member, why } => self.lose_stream(now, &member, &why),
            Event::Checked { member, check } => self.take_check(now, &member, check),
            Event::Administered { member, state } => self.administer(&member, state),
            Event::Reconfigured(setup) => self.reconfigure(now, *setup),
            Event::ConnectFailed { member, why } => self.take_connect_failure(now, &member, why),
            Event::Connected { member } => self.take_connect_success(&member),
        }
        self.reconsider(now);
        if let Some((member, sequence)) = confirm.filter(|(member, _)| !self.strangers.contains(member)) {
            self.actions.push_back(Action::Confirm { member, sequence });
        }
        self.ask_due(now);
    }

    /// Takes over every limit, which acts from the next decision on. Members are those of the start, whatever `setup` says.
    fn reconfigure(&mut self, now: MonoTime, setup: Setup) {
        let members = std::mem::take(&mut self.setup.members);
        self.setup = Setup { members, ..setup };
        for upstream in &mut self.upstreams {
            upstream.note_lag(self.setup.maximum_read_lag);
            // A shorter interval does not wait for the end of a longer one.
            upstream.next_check = upstream.next_check.map(|at| at.min(now + self.setup.check_interval));
        }
    }

    /// The time that was asked for has come.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        let now = self.advance(now);
        self.expire_claims(now);
        self.reconsider(now);
        self.ask_due(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). Always later than the newest instant that was handed in.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        let setup = &self.setup;
        let of_upstream = |upstream: &Upstream| {
            let claimed_at = upstream.claim.as_ref().map(|(_, at)| *at);
            [
                upstream.next_check,
                claimed_at.filter(|_| upstream.fresh).map(|at| at + setup.silence),
                claimed_at.filter(|_| !upstream.fresh).map(|at| at + setup.hold_timeout),
                upstream.heard_at().map(|at| at + setup.stale_limit),
                upstream.connecting.pause_ends(),
            ]
        };
        let closed = [self.writes_closed, self.reads_closed].map(|at| at.map(|at| at + setup.hold_timeout));
        let all = self.upstreams.iter().flat_map(of_upstream).chain(closed).flatten();
        all.filter(|&at| at > self.now).min()
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The table as it is now. Its routes are those of the last [`Action::PutInForce`]; what is said about members
    /// (ages, lag, reasons) may be newer.
    pub fn table(&self) -> Arc<Table> {
        self.table.clone()
    }

    /// Where a member stands in the file. A stranger is noted once.
    pub(crate) fn index_of(&mut self, member: &MemberName) -> Option<usize> {
        let found = self.upstreams.iter().position(|upstream| upstream.member == *member);
        if found.is_none() && self.strangers.insert(member.clone()) {
            self.actions.push_back(Action::Note(Reason::UnknownMember { member: member.clone() }));
        }
        found
    }

    fn administer(&mut self, member: &MemberName, state: AdminState) {
        let Some(index) = self.index_of(member) else { return };
        let upstream = &mut self.upstreams[index];
        if std::mem::replace(&mut upstream.admin, state) != state {
            let member = member.clone();
            self.actions.push_back(Action::Note(Reason::Administered { member, state }));
        }
    }

    fn is_failing(&self, member: &MemberName) -> bool {
        self.upstreams.iter().any(|upstream| upstream.member == *member && upstream.connecting.is_failing())
    }

    fn advance(&mut self, now: MonoTime) -> MonoTime {
        self.now = self.now.max(now);
        self.now
    }

    /// Decides everything anew. Order: what has changed is put in force, then sessions are cut.
    fn reconsider(&mut self, now: MonoTime) {
        let writes = self.decide_writes(now);
        let reads = self.decide_reads(now, &writes);
        let leader = match &writes {
            Decision::Open { upstreams, .. } => upstreams.first().copied(),
            _ => None,
        };
        if let Some(index) = leader {
            self.leader = leader;
            self.leader_words.clear();
            self.upstreams[index].may_hold_writes = true;
        } else if let Some(lost) = self.leader.and_then(|index| self.lost_role(index, None)) {
            self.leader = None;
            self.leader_words = lost.to_string();
        }
        // The words of the loss belong into the route that tells clients about it.
        let writes = if leader.is_none() { self.decide_writes(now) } else { writes };
        let writes = self.route(now, "writes", writes);
        let reads = self.route(now, "reads", reads);
        self.put_in_force(now, writes, reads);
        self.cut_sessions(leader);
    }

    fn route(&mut self, now: MonoTime, port: &'static str, decision: Decision) -> Route {
        let (old, closed) = if port == "writes" {
            (&self.table.writes, &mut self.writes_closed)
        } else {
            (&self.table.reads, &mut self.reads_closed)
        };
        let (state, upstreams, epoch, cause) = match decision {
            Decision::Open { upstreams, epoch, reason } => {
                *closed = None;
                (RouteState::Open, upstreams, epoch, reason)
            }
            Decision::Refuse(reason) => {
                closed.get_or_insert(now);
                (RouteState::Refusing, Vec::new(), Epoch(0), reason)
            }
            Decision::Hold(reason) => {
                let limit = self.setup.hold_timeout;
                if now < *closed.get_or_insert(now) + limit {
                    (RouteState::Holding, Vec::new(), Epoch(0), reason)
                } else {
                    let cause = Box::new(reason);
                    (RouteState::Refusing, Vec::new(), Epoch(0), Reason::HoldExpired { limit, cause })
                }
            }
        };
        let same = old.state == state && old.upstreams == upstreams && old.epoch == epoch;
        let since = if same { old.since } else { now };
        let reason = cause.to_string();
        if !same {
            let cause = Box::new(cause);
            self.actions.push_back(Action::Note(Reason::RouteChanged { port, state, cause }));
        }
        Route { state, upstreams, epoch, reason, since }
    }

    fn put_in_force(&mut self, now: MonoTime, writes: Route, reads: Route) {
        let view = |upstream: &Upstream| upstream.view(now, self.highest, self.setup.stale_limit);
        let upstreams: Vec<UpstreamView> = self.upstreams.iter().map(view).collect();
        let old = &self.table;
        let same_members = old.upstreams.iter().map(what_matters).eq(upstreams.iter().map(what_matters));
        let same = same_members && old.writes == writes && old.reads == reads;
        let generation = if same { old.generation } else { old.generation + 1 };
        self.table = Arc::new(Table { generation, writes, reads, upstreams, maintenance: self.maintenance });
        if !same {
            self.actions.push_back(Action::PutInForce(self.table.clone()));
        }
    }
}

/// What about a member is worth a new table; its ages, lag and words are not.
fn what_matters(view: &UpstreamView) -> impl PartialEq {
    (view.role, view.source, view.epoch, view.takes_writes, view.takes_reads, view.admin)
}
