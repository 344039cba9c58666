//! `hactl switchover` and `hactl failover`.

mod candidate;

use std::time::{Duration, Instant};

use ha_config::DatabaseHost;
use ha_rpc::proto::{FailoverRequest, OperationReply, SwitchoverRequest};

use crate::agents::Agents;
use crate::args::{Args, FailoverArgs, Format, SwitchoverArgs};
use crate::confirm::confirm;
use crate::exit_code::{Code, Stop};
use crate::output;
use crate::overview::Overview;

/// The agents call a change of leader off before that; after it the outcome is not known.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a new leader is watched until it takes writes. A promotion takes a second or two.
const WRITES_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A planned change of leader.
pub(crate) fn switchover(args: &Args, asked: &SwitchoverArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let overview = agents.reached_overview().await?;
        let leader = leader(&agents, &overview)?;
        let leads = leader.name.as_str();
        if let Some(expected) = asked.leader.as_deref().filter(|expected| *expected != leads) {
            return Err(refused(format!("{expected} does not lead, {leads} does; nothing was changed")));
        }
        if let Some(candidate) = &asked.candidate {
            agents.host(candidate)?;
        }
        let to = asked.candidate.as_deref().unwrap_or("the best standby");
        if !asked.yes {
            output::print(&output::list::render(&overview, &[], Format::Table, output::colored())?)?;
        }
        confirm(
            &format!("Hand the leadership over from {leads} to {to}? Writes pause for a moment"),
            asked.yes,
        )?;
        let began = Instant::now();
        let request =
            SwitchoverRequest { candidate: asked.candidate.clone(), without_stop: asked.without_stop };
        let reply =
            agents
                .request(leader, LIMIT, request, |mut client, request| async move {
                    client.switchover(request).await
                })
                .await?;
        announce(&agents, &reply, to, &overview, began).await
    })
}

/// The host whose agent can hand over.
fn leader<'a>(agents: &'a Agents, overview: &Overview) -> anyhow::Result<&'a DatabaseHost> {
    let Some(leader) = overview.leader() else {
        let advice = "hactl status shows what the members wait for; hactl failover decides for one of them";
        return Err(refused(format!("nobody leads cluster {}; {advice}", overview.cluster)));
    };
    if let Err(reason) = &leader.answer {
        let message = format!(
            "{} leads, but its agent cannot be reached ({reason}). If the host is gone, the others take over by \
             themselves; hactl list shows it",
            leader.name
        );
        return Err(Stop::new(Code::Unreachable, message).into());
    }
    agents.host(&leader.name)
}

/// A forced change of leader.
pub(crate) fn failover(args: &Args, asked: &FailoverArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let overview = agents.reached_overview().await?;
        let accept = asked.accept_data_loss;
        let name = match &asked.candidate {
            Some(name) => agents.host(name)?.name.to_string(),
            None => candidate::best(&overview, accept).map_err(refused)?,
        };
        let host = agents.host(&name)?;
        if !asked.yes {
            output::print(&output::list::render(&overview, &[], Format::Table, output::colored())?)?;
        }
        let mut question = format!("Make {name} the leader");
        if let Some(leader) = overview.leader() {
            question += &format!(" in the place of {}", leader.name);
        }
        if accept {
            // Stated also with --yes: it belongs into the script's log.
            output::print(&candidate::loss(&overview, &name))?;
            question += " and accept that acknowledged commits may be lost";
        }
        confirm(&format!("{question}?"), asked.yes)?;
        let began = Instant::now();
        let request = FailoverRequest { accept_data_loss: accept };
        let reply = agents
            .request(
                host,
                LIMIT,
                request,
                |mut client, request| async move { client.failover(request).await },
            )
            .await?;
        announce(&agents, &reply, &name, &overview, began).await
    })
}

/// Waits until the new leader takes writes and says how long all of it took.
async fn announce(
    agents: &Agents,
    reply: &OperationReply,
    asked_for: &str,
    before: &Overview,
    began: Instant,
) -> anyhow::Result<Code> {
    let new = reply.leader.as_deref().unwrap_or(asked_for);
    let deadline = began.elapsed() + WRITES_LIMIT;
    loop {
        let overview = agents.overview().await;
        let leader = overview.leader().filter(|_| overview.epoch() > before.epoch());
        let serves = leader.and_then(|leader| leader.answer.as_ref().ok()).is_some_and(|r| r.serves_writes);
        let took = began.elapsed().as_secs_f64();
        if let Some(leader) = leader.filter(|_| serves) {
            let epoch = overview.epoch();
            output::print(&format!(
                "{} leads epoch {epoch} and takes writes; took {took:.1} s\n",
                leader.name
            ))?;
            return Ok(Code::Done);
        }
        if began.elapsed() > deadline {
            let doing =
                leader.and_then(|leader| leader.answer.as_ref().ok()).map_or("", |reply| &reply.doing);
            let message = format!(
                "{new} was made the leader, but does not take writes after {took:.1} s {doing}; hactl status shows why"
            );
            return Err(Stop::new(Code::Failed, message).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn refused(message: String) -> anyhow::Error {
    Stop::new(Code::Refused, message).into()
}
