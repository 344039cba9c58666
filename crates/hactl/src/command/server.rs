//! `hactl restart`, `reload` and `reinit`: what is done to PostgreSQL on one member or on all.

use std::time::{Duration, Instant};

use ha_config::DatabaseHost;
use ha_rpc::proto::{ReinitializeRequest, ReloadRequest, RestartRequest};

use crate::agents::Agents;
use crate::args::{Args, ReinitArgs, ReloadArgs, RestartArgs};
use crate::confirm::confirm;
use crate::exit_code::{Code, Stop};
use crate::output;
use crate::overview::{Overview, Role};

/// A restart includes leaving the synchronous list, a checkpoint and recovery.
const RESTART_LIMIT: Duration = Duration::from_secs(180);
/// A reload is one signal.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);
/// A new clone copies everything; the agent answers when it runs again.
const REINIT_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// How long a restarted member may need to be what it was.
const BACK_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// PostgreSQL restarted; of all members the standbys first, one after the other.
pub(crate) fn restart(args: &Args, asked: &RestartArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let overview = agents.reached_overview().await?;
        let hosts = chosen(&agents, &overview, asked.member.as_deref())?;
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let leader = overview.leader().map(|leader| leader.name.as_str());
        let stops =
            if leader.is_some_and(|leader| names.contains(&leader)) { "; writes stop meanwhile" } else { "" };
        confirm(&format!("Restart PostgreSQL on {}{stops}?", names.join(", then ")), asked.yes)?;
        for (host, last) in hosts.iter().zip(1..).map(|(host, number)| (host, number == hosts.len())) {
            let began = Instant::now();
            agents
                .request(host, RESTART_LIMIT, RestartRequest {}, |mut client, request| async move {
                    client.restart(request).await
                })
                .await?;
            output::print(&format!(
                "{} restarted; took {:.1} s\n",
                host.name,
                began.elapsed().as_secs_f64()
            ))?;
            if !last {
                wait_until_back(&agents, host, &overview).await?;
            }
        }
        Ok(Code::Done)
    })
}

/// The members to treat; of all the leader last.
fn chosen<'a>(
    agents: &'a Agents,
    overview: &Overview,
    member: Option<&str>,
) -> anyhow::Result<Vec<&'a DatabaseHost>> {
    if let Some(name) = member {
        return Ok(vec![agents.host(name)?]);
    }
    let silent = overview.silent();
    if !silent.is_empty() {
        let message = format!(
            "{} cannot be reached, so not all members can be treated; nothing was changed. Name a member to treat only it",
            silent.join(", ")
        );
        return Err(Stop::new(Code::Unreachable, message).into());
    }
    let leads = |name: &str| overview.leader().is_some_and(|leader| leader.name == name);
    let mut hosts: Vec<&DatabaseHost> = agents.cluster.databases.iter().collect();
    hosts.sort_by_key(|host| leads(host.name.as_str()));
    Ok(hosts)
}

/// The next member is not touched before this one is what it was: two away at once may be one too many.
async fn wait_until_back(agents: &Agents, host: &DatabaseHost, before: &Overview) -> anyhow::Result<()> {
    let name = host.name.as_str();
    let was = before.member(name).map(|member| (member.role, member.state));
    let began = Instant::now();
    loop {
        let overview = agents.overview().await;
        let is = overview.member(name).map(|member| (member.role, member.state));
        let back = match (was, is) {
            (Some((Role::SyncStandby, _)), Some((role, state))) => {
                role == Role::SyncStandby && state == "streaming"
            }
            (Some((_, "streaming")), Some((_, state))) => state == "streaming",
            (_, is) => is.is_some(),
        };
        if back {
            return Ok(());
        }
        if began.elapsed() > BACK_LIMIT {
            let (role, state) = is.map_or(("unknown", "unknown"), |(role, state)| (role.title(), state));
            let message = format!(
                "{name} is not back after {} s ({role}, {state}); the others were left alone. hactl status {name} shows \
                 what it waits for",
                BACK_LIMIT.as_secs()
            );
            return Err(Stop::new(Code::Failed, message).into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// PostgreSQL's configuration reloaded, also on the rest when one member fails.
pub(crate) fn reload(args: &Args, asked: &ReloadArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let hosts: Vec<&DatabaseHost> = match &asked.member {
            Some(name) => vec![agents.host(name)?],
            None => agents.cluster.databases.iter().collect(),
        };
        let mut first_failure = None;
        for host in hosts {
            let done = agents
                .request(host, RELOAD_LIMIT, ReloadRequest {}, |mut client, request| async move {
                    client.reload(request).await
                })
                .await;
            match done {
                Ok(_) => output::print(&format!("{} reloads\n", host.name))?,
                Err(error) => {
                    output::print(&format!("{} not: {error:#}\n", host.name))?;
                    first_failure.get_or_insert(error);
                }
            }
        }
        first_failure.map_or(Ok(Code::Done), Err)
    })
}

/// A member's data thrown away and cloned again.
pub(crate) fn reinit(args: &Args, asked: &ReinitArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    Agents::block_on(async {
        let host = agents.host(&asked.member)?;
        confirm(&format!("Throw the data of {} away and clone it again?", host.name), asked.yes)?;
        let began = Instant::now();
        agents
            .request(host, REINIT_LIMIT, ReinitializeRequest {}, |mut client, request| async move {
                client.reinitialize(request).await
            })
            .await?;
        output::print(&format!("{} was cloned; took {:.0} s\n", host.name, began.elapsed().as_secs_f64()))?;
        Ok(Code::Done)
    })
}
