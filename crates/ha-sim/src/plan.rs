//! What a seed draws before the run: size, mode, which faults it plays and how often. Each seed plays only some kinds
//! (a swarm), because too many at once hide each other.

use std::time::Duration;

use ha_core::ReplicationMode;
use ha_core::record::ClusterSettings;
use ha_decision::Timings;

use crate::clock::{MS, SECOND};
use crate::fault::FaultKind;
use crate::rng::Rng;

/// What was drawn for a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Members.
    pub size: usize,
    /// Wanted durability.
    pub mode: ReplicationMode,
    /// Wanted k.
    pub acks: u32,
    /// Stay blocked until k qualify.
    pub strict_k: bool,
    /// Kinds of faults that are played.
    pub faults: Vec<FaultKind>,
    /// Pause between faults, nanoseconds: from and to.
    pub fault_pause: (u64, u64),
    /// When the last fault begins, global nanoseconds.
    pub faults_end: u64,
    /// Answers of the store that are lost, per mille.
    pub lost_answers: u64,
    /// Requests to the store that are applied long after they were sent, per mille.
    pub late_requests: u64,
    /// Jobs that fail, per mille.
    pub failing_jobs: u64,
    /// Actions before which the agent dies, per 100 000.
    pub dying_actions: u64,
    /// Reloads that reach a process late, per mille.
    pub late_reloads: u64,
    /// Clients.
    pub clients: usize,
}

impl Plan {
    /// Draws the plan of a seed for a cluster of `size` members.
    pub fn draw(rng: &mut Rng, size: usize) -> Self {
        let mode = match rng.between(0, 9) {
            0..=4 => ReplicationMode::Strict,
            5..=8 => ReplicationMode::Synchronous,
            _ => ReplicationMode::Asynchronous,
        };
        let mut faults: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|_| rng.chance(450)).collect();
        if faults.is_empty() {
            faults.push(FaultKind::PowerLoss);
        }
        let some = |rng: &mut Rng, most: u64| if rng.chance(500) { 0 } else { rng.between(1, most) };
        let low = rng.pick(&[200 * MS, SECOND, 3 * SECOND]);
        Self {
            size,
            mode,
            acks: if size > 3 && rng.chance(400) || rng.chance(150) { 2 } else { 1 },
            strict_k: rng.chance(150),
            faults,
            fault_pause: (low, low * 5),
            faults_end: rng.between(25, 80) * SECOND,
            lost_answers: some(rng, 150),
            late_requests: some(rng, 150),
            failing_jobs: some(rng, 60),
            dying_actions: some(rng, 150),
            late_reloads: rng.between(20, 300),
            clients: 4,
        }
    }

    /// The cluster's first policy.
    pub fn settings(&self) -> ClusterSettings {
        ClusterSettings {
            mode: self.mode,
            acks: self.acks,
            strict_k: self.strict_k,
            degrade_after_ms: 5000,
            maximum_lag_bytes: 1 << 20,
            automatic: true,
            unfenced: false,
            parameters: Default::default(),
            hba: Vec::new(),
            extra: Default::default(),
        }
    }

    /// The timings of every member: the defaults of the configuration.
    pub fn timings() -> Timings {
        Timings {
            lease_ttl: Duration::from_secs(10),
            drift: Duration::from_millis(100),
            net_margin: Duration::from_millis(500),
            demote_lead: Duration::from_secs(2),
            renew_interval: Duration::from_secs(2),
            detection: Duration::from_secs(1),
            promise_timeout: Duration::from_millis(300),
            abort_after: Duration::from_secs(2),
            bootstrap_grace: Duration::from_secs(5),
            switchover_limit: Duration::from_secs(10),
        }
    }
}
