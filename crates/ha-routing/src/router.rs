//! The router: claims and health checks in, tables out.

use std::collections::VecDeque;
use std::sync::Arc;

use ha_core::{Epoch, MonoTime};

use crate::action::Action;
use crate::event::Event;
use crate::setup::Setup;
use crate::table::{Route, RouteState, Table};

/// Decides where new sessions go. Give it every event, call [`handle_timeout`](Self::handle_timeout) when
/// [`poll_timeout`](Self::poll_timeout) says so, and carry out [`poll_action`](Self::poll_action) until `None` after
/// each.
#[derive(Debug)]
pub struct Router {
    table: Arc<Table>,
    actions: VecDeque<Action>,
}

impl Router {
    /// Begins without evidence: everybody is held until somebody is heard.
    pub fn new(setup: Setup, now: MonoTime) -> Self {
        let _ = setup;
        let route = Route {
            state: RouteState::Holding,
            upstreams: Vec::new(),
            epoch: Epoch(0),
            reason: String::new(),
            since: now,
        };
        let table = Table { generation: 1, writes: route.clone(), reads: route, upstreams: Vec::new() };
        Self { table: Arc::new(table), actions: VecDeque::new() }
    }

    /// Something happened.
    pub fn handle_event(&mut self, now: MonoTime, event: Event) {
        let _ = (now, event);
    }

    /// The time that was asked for has come.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        let _ = now;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        None
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
}
