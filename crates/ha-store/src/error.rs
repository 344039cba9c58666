//! Errors of the calls that have no outcome of their own.

/// A call to the store failed. For writes ([`grant`](crate::Store::grant), [`revoke`](crate::Store::revoke)) this does
/// not say that nothing happened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No member answered within the deadline.
    #[error("{operation}: the store did not answer in time")]
    Timeout {
        /// What was asked.
        operation: &'static str,
    },
    /// No member could be reached, or none has a leader.
    #[error("{operation}: the store is unavailable ({reason})")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// What the last endpoint tried gave as its reason.
        reason: String,
    },
    /// The store does not accept our credentials. This is not a partition: somebody must look.
    #[error("{operation}: the store does not accept our credentials ({reason})")]
    Unauthenticated {
        /// What was asked.
        operation: &'static str,
        /// The store's words.
        reason: String,
    },
    /// The store knows us and forbids this.
    #[error("{operation}: the store forbids it ({reason})")]
    PermissionDenied {
        /// What was asked.
        operation: &'static str,
        /// The store's words.
        reason: String,
    },
    /// The store is out of space: reads and renewals work, grants and writes do not.
    #[error("{operation}: the store is out of space")]
    NoSpace {
        /// What was asked.
        operation: &'static str,
    },
    /// The store answered something else than this crate expects.
    #[error("{operation}: unexpected answer of the store ({reason})")]
    Unexpected {
        /// What was asked.
        operation: &'static str,
        /// The answer.
        reason: String,
    },
    /// An endpoint or a TLS file in the configuration is not usable.
    #[error("store configuration: {reason}")]
    Configuration {
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may well succeed a moment later without anybody acting.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unavailable { .. })
    }
}
