//! Why something was decided. The log, `hactl`, the status page and metrics print the same words.

use ha_core::peer_message::{PromiseRefusal, Trigger};
use ha_core::{Epoch, Lsn, MemberId, MemberName, Timeline};

/// A decision's reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Placeholder until the situations are written.
    #[error("{0}")]
    Text(String),
}
#[allow(unused)]
fn _words(_: (PromiseRefusal, Trigger, Epoch, Lsn, MemberId, MemberName, Timeline)) {}
