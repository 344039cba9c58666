//! What happened in a run, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::FaultKind;

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of one run, or of many added up.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Tally {
            /// Faults played.
            pub faults: BTreeMap<FaultKind, u64>,
            /// Why members said they were blocked when the run ended.
            pub blocked: BTreeMap<String, u64>,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Tally {
            /// Adds another run.
            pub fn add(&mut self, other: &Self) {
                for (kind, count) in &other.faults {
                    *self.faults.entry(*kind).or_insert(0) += count;
                }
                for (why, count) in &other.blocked {
                    *self.blocked.entry(why.clone()).or_insert(0) += count;
                }
                $(self.$name += other.$name;)*
            }

            /// What was added since `earlier`.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self {
                    faults: BTreeMap::new(),
                    blocked: BTreeMap::new(),
                    $($name: self.$name - earlier.$name,)*
                }
            }

            fn numbers(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

tally! {
    /// Steps of the world.
    events,
    /// Virtual milliseconds.
    virtual_ms,
    /// Agents started.
    agent_starts,
    /// Agents that died between two actions.
    deaths_between_actions,
    /// Records of the history that were completed.
    histories_completed,
    /// Jobs begun.
    jobs,
    /// Jobs that failed because the plan wanted it.
    jobs_failed,
    /// Servers that could not write their WAL.
    panics,
    /// Stores that an operator brought back to the newest state.
    stores_mended,
    /// Commits whose client cancelled the wait: PostgreSQL answers with a warning, which is no acknowledgement.
    cancelled,
    /// Of these, in the leader's log at the end.
    cancelled_and_kept,
    /// Of these, gone at the end.
    cancelled_and_lost,
    /// Takeovers for which an operator accepted loss.
    forced_takeovers,
    /// Acknowledged commits that operators gave up, by accepting loss or by choosing asynchronous mode.
    given_up_by_operators,
    /// Servers promoted.
    promotions,
    /// Directories cloned.
    clones,
    /// Directories rewound.
    rewinds,
    /// Rewinds that were fooled by an old control file.
    futile_rewinds,
    /// Servers ended by a guard.
    fenced,
    /// Transactions submitted.
    transactions,
    /// Outcomes that were not known.
    unknown_outcomes,
    /// Requests that reached the store late.
    late_requests,
    /// Answers of the store that were lost.
    lost_answers,
    /// Leadership leases that ran out.
    leases_lost,
    /// Elections of etcd.
    store_elections,
    /// Promises made.
    promises,
    /// Attempts to abort a promise that led to nothing.
    aborts,
    /// Times a member said that it is blocked.
    blocked_states,
    /// Epochs begun by a takeover.
    takeovers,
    /// Takeovers that began unestablished.
    unestablished,
    /// Times a leader was pinned.
    pinned,
    /// Rewrites of the sync record within an epoch that only moved the generation: aborts and re-acquisitions.
    bumps,
    /// Changes of the policy within an epoch.
    policy_changes,
    /// Operators' requests carried out.
    requests_done,
    /// Operators' requests refused.
    requests_refused,
    /// Commits begun by clients.
    commits,
    /// Commits that a server acknowledged.
    acknowledged,
    /// Commits acknowledged to a client that still waited.
    confirmed_to_clients,
    /// Of these, acknowledged by the leader and begun after everything worked again.
    confirmed_after_healing,
    /// Reads that the proxy passed on.
    reads,
    /// Answers to reads that came when there was no lease.
    reads_withheld,
    /// Commits that a client gave up.
    given_up,
    /// Acknowledged by a server that a higher epoch had replaced, and contained in the new history.
    late_but_safe,
    /// Acknowledged commits that asynchronous mode lost.
    lost_asynchronously,
    /// Directories of listed members that were replaced (harmless for what was acknowledged, bad for a takeover).
    listed_replaced,
    /// Runs.
    runs,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.numbers() {
            writeln!(f, "{count:>10} {}", name.replace('_', " "))?;
        }
        for (kind, count) in &self.faults {
            writeln!(f, "{count:>10} fault {kind:?}")?;
        }
        for (why, count) in &self.blocked {
            writeln!(f, "{count:>10} blocked at the end: {why}")?;
        }
        Ok(())
    }
}
