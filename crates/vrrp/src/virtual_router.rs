//! The virtual router: decides when this host holds the floating address.

use ha_core::MonoTime;

use crate::action::Action;
use crate::event::Event;
use crate::setup::{Setup, SetupError};
use crate::state::Status;

/// One virtual router on one interface.
#[derive(Debug)]
pub struct VirtualRouter {
    setup: Setup,
}

impl VirtualRouter {
    /// A router in Initialize that waits for [`Event::Started`].
    ///
    /// # Errors
    /// Settings that no virtual router can have.
    pub fn new(setup: Setup, _now: MonoTime) -> Result<Self, SetupError> {
        setup.check()?;
        Ok(Self { setup })
    }

    /// Something happened.
    pub fn handle_event(&mut self, _now: MonoTime, _event: Event) {}

    /// The time asked for has come; harmless if it has not.
    pub fn handle_timeout(&mut self, _now: MonoTime) {}

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        None
    }

    /// The next thing to do; call until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }

    /// How it looks now.
    pub fn status(&self, _now: MonoTime) -> Status {
        unreachable!("{:?}", self.setup)
    }

    /// Whether it has left after [`Event::Stop`], so that the program may end once the actions are done.
    pub fn is_stopped(&self) -> bool {
        false
    }
}
