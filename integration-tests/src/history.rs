//! What `hactl history` tells about the newest change of leader, and whether it can be true.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::Lab;
use ha_lab::wait::wait_for;
use serde_json::Value;

use crate::TAKEOVER;
use crate::proof::note_text;

/// The story is told five seconds after the promotion at the latest, and read after that.
const TOLD: Duration = Duration::from_secs(20);

/// Waits until the newest leadership is `leader`'s and told, and returns its phases. They must add up.
///
/// # Errors
/// It is not told in time, what began it is not among `triggers`, or the phases contradict each other.
pub fn told(lab: &Lab, leader: &str, triggers: &[&str]) -> Result<Value> {
    let entry = wait_for("a history that tells how the leader came to lead", TOLD, || newest(lab, leader))?;
    let at = entry["at"].as_str().unwrap_or_default();
    ensure!(at.len() == 24 && at.ends_with('Z'), "when is {at:?} in {entry}");
    let phases = &entry["phases"];
    add_up(phases, triggers).with_context(|| format!("told: {entry}"))?;
    note_text(&format!("how {leader} came to lead"), &phases.to_string())?;
    Ok(phases.clone())
}

fn newest(lab: &Lab, leader: &str) -> Result<Value, String> {
    let output = lab.hactl(&["history", "--format", "json"]).map_err(|error| format!("{error:#}"))?;
    let entries: Vec<Value> = serde_json::from_str(&output.stdout).map_err(|_| output.stderr.clone())?;
    let newest = entries.last().ok_or("no leadership")?;
    let told = newest["leader"] == leader && newest["phases"]["total_ms"].is_u64();
    told.then(|| newest.clone()).ok_or_else(|| format!("the newest is {newest}"))
}

fn add_up(phases: &Value, triggers: &[&str]) -> Result<()> {
    let trigger = phases["trigger"].as_str().unwrap_or_default();
    ensure!(triggers.contains(&trigger), "it began by {trigger:?}");
    let ms = |name: &str| phases[name].as_u64();
    let known = |name: &str| ms(name).with_context(|| format!("{name} is missing"));
    let last = known("reattach_ms")?.max(ms("reroute_ms").unwrap_or(0));
    let parts =
        [ms("stop_ms").unwrap_or(0), known("detect_ms")?, known("decide_ms")?, known("promote_ms")?, last];
    let (sum, total) = (parts.iter().sum::<u64>(), known("total_ms")?);
    // Each part is rounded down by itself.
    ensure!(total >= sum && total - sum <= 5, "parts of {sum} ms, {total} ms in all");
    ensure!(u128::from(total) < TAKEOVER.as_millis(), "longer than the clients waited");
    let promises = phases["promises_ms"].as_object().context("promises")?;
    let decided = known("decide_ms")?;
    ensure!(
        !promises.is_empty() && promises.values().all(|at| at.as_u64().is_some_and(|at| at <= decided)),
        "promises after the decision"
    );
    Ok(())
}
