//! `hactl history`.

use std::collections::BTreeMap;

use ha_rpc::proto::{HistoryEntry, HistoryReply};

use crate::agents::Agents;
use crate::args::{Args, ShowArgs};
use crate::ask::Asked;
use crate::exit_code::{Code, Stop};
use crate::output;
use crate::watch::{self, Look};

/// The changes of leadership that any agent knows.
pub(crate) fn history(args: &Args, show: &ShowArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    watch::show(show, async || {
        let asked = agents.ask_histories().await;
        let text = output::history::render(&merge(&asked), show.format)?;
        Ok(Look::new(text, require_an_answer(&asked)))
    })
}

/// Every leadership once, the oldest first. An agent that does not see the store knows what it read last, so one may
/// know less than another; how a change of leader went is added to its record a moment later.
fn merge(asked: &[Asked<HistoryReply>]) -> Vec<HistoryEntry> {
    let mut entries = BTreeMap::new();
    for entry in asked.iter().filter_map(Asked::reply).flat_map(|reply| &reply.entries) {
        let known = entries.entry((entry.epoch, entry.timeline)).or_insert_with(|| entry.clone());
        if known.phases.is_none() {
            known.clone_from(entry);
        }
    }
    entries.into_values().collect()
}

fn require_an_answer(asked: &[Asked<HistoryReply>]) -> anyhow::Result<()> {
    if asked.iter().any(|asked| asked.answer.is_ok()) {
        return Ok(());
    }
    let reasons: Vec<String> =
        asked.iter().filter_map(|asked| Some(format!("  {}: {}", asked.name, asked.silence()?))).collect();
    let message = format!(
        "no agent tells the history:\n{}\nCheck that pg-agent runs on these hosts (systemctl status pg-agent) and that \
         port {} is open from here",
        reasons.join("\n"),
        ha_config::GRPC_PORT
    );
    Err(Stop::new(Code::Unreachable, message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, answer: Result<&[(u64, u32, &str)], &str>) -> Asked<HistoryReply> {
        let entry = |(epoch, timeline, leader): &(u64, u32, &str)| HistoryEntry {
            epoch: *epoch,
            timeline: *timeline,
            leader: (*leader).to_owned(),
            ..HistoryEntry::default()
        };
        let answer = answer.map(|entries| HistoryReply { entries: entries.iter().map(entry).collect() });
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        Asked { name: name.parse().unwrap(), address, answer: answer.map_err(str::to_owned) }
    }

    #[test]
    fn a_record_that_is_told_is_worth_more_than_one_that_is_not() {
        let mut told = asked("pg2", Ok(&[(1, 1, "pg1")]));
        if let Ok(reply) = &mut told.answer {
            reply.entries[0].phases = Some(ha_rpc::proto::LeadershipPhases::default());
        }
        let answers = [asked("pg1", Ok(&[(1, 1, "pg1")])), told, asked("pg3", Ok(&[(1, 1, "pg1")]))];
        assert!(merge(&answers)[0].phases.is_some());
    }

    #[test]
    fn agents_that_know_less_take_nothing_away() {
        let answers = [
            asked("pg1", Ok(&[(1, 1, "pg1")])),
            asked("pg2", Ok(&[(2, 2, "pg2"), (1, 1, "pg1")])),
            asked("pg3", Err("no answer")),
        ];
        let leaders: Vec<String> = merge(&answers).into_iter().map(|entry| entry.leader).collect();
        assert_eq!(leaders, ["pg1", "pg2"]);
        assert!(require_an_answer(&answers).is_ok());
        let message = require_an_answer(&[asked("pg3", Err("no answer"))]).unwrap_err().to_string();
        assert!(message.contains("pg3: no answer") && message.contains("8009"), "{message}");
    }
}
