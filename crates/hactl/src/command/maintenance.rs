//! `hactl pause` and `hactl resume`.

use std::time::Duration;

use ha_config::DatabaseHost;
use ha_rpc::proto::{PauseRequest, ResumeRequest};

use crate::agents::Agents;
use crate::args::{Args, PauseArgs};
use crate::exit_code::Code;
use crate::output;
use crate::overview::Overview;

/// One write to the store.
const LIMIT: Duration = Duration::from_secs(15);

/// Maintenance mode on, for all members.
pub(crate) fn pause(args: &Args, asked: &PauseArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    let reason = asked.reason.clone().unwrap_or_else(who);
    Agents::block_on(async {
        let overview = agents.reached_overview().await?;
        let duration_ms = u64::try_from(asked.duration.as_millis()).unwrap_or(u64::MAX);
        let request = PauseRequest { duration_ms, reason: reason.clone() };
        agents
            .request(writer(&agents, &overview)?, LIMIT, request, |mut client, request| async move {
                client.pause(request).await
            })
            .await?;
        output::print(&format!(
            "maintenance mode is on for {} ({reason}); it ends by itself, or with hactl resume\n",
            words(asked.duration)
        ))?;
        Ok(Code::Done)
    })
}

/// Maintenance mode off.
pub(crate) fn resume(args: &Args) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let overview = agents.reached_overview().await?;
        agents
            .request(writer(&agents, &overview)?, LIMIT, ResumeRequest {}, |mut client, request| async move {
                client.resume(request).await
            })
            .await?;
        output::print("maintenance mode is off\n")?;
        Ok(Code::Done)
    })
}

/// Any agent can write it; the leader's first, then one that sees the store.
fn writer<'a>(agents: &'a Agents, overview: &Overview) -> anyhow::Result<&'a DatabaseHost> {
    let connected = |name: &str| {
        let reply = overview.member(name).and_then(|member| member.answer.as_ref().ok());
        reply.is_some_and(|reply| reply.store_connected)
    };
    let answered = overview.members.iter().filter(|member| member.answer.is_ok());
    let leads = |name: &str| overview.leader().is_some_and(|leader| leader.name == name);
    let best = answered.max_by_key(|member| (connected(&member.name), leads(&member.name)));
    agents.host(best.map_or("", |member| &member.name))
}

/// Who asks, when no reason is given.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("by {}", user.unwrap_or_else(|| "an operator".to_owned()))
}

fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds % 3600, seconds % 60) {
        (0, _) => format!("{} h", seconds / 3600),
        (_, 0) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (seconds, text) in [(3600, "1 h"), (1800, "30 min"), (90, "90 s"), (1, "1 s")] {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }
}
