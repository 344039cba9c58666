//! `hactl proxy`, `hactl vip` and `hactl topology`: what stands in front of the database hosts.

use std::net::IpAddr;
use std::time::Instant;

use ha_rpc::proto::{AdministerRequest, ProxyStatusReply, UpstreamAdmin};

use crate::agents::Agents;
use crate::args::{
    AdministerArgs, Args, ProxyAction, ProxyArgs, ShowArgs, VipAction, VipArgs, VipDrainArgs, VipMoveArgs,
};
use crate::ask::Asked;
use crate::confirm::confirm;
use crate::exit_code::{Code, Stop};
use crate::output;
use crate::vips::{self, Floating, Holding};
use crate::watch::{self, Look};

/// Routes and upstreams of every proxy, or of one.
pub(crate) fn proxy(args: &Args, asked: &ProxyArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    match &asked.action {
        Some(ProxyAction::Drain(wish)) => return administer(&agents, wish, UpstreamAdmin::Drain),
        Some(ProxyAction::Maintenance(wish)) => return administer(&agents, wish, UpstreamAdmin::Maintenance),
        Some(ProxyAction::Ready(wish)) => return administer(&agents, wish, UpstreamAdmin::Ready),
        None => {}
    }
    let one = asked.name.as_deref();
    require_proxies(&agents, one)?;
    watch::show(&asked.show, async || {
        let answers = agents.ask_proxies().await;
        let shown: Vec<_> =
            answers.iter().filter(|asked| one.is_none_or(|one| asked.name.as_str() == one)).collect();
        let text = output::proxy::render(&shown, asked.show.format, output::colored())?;
        Ok(Look::new(text, require_an_answer(&agents, &shown)))
    })
}

/// Takes a member out of the proxies' use, or puts it back.
fn administer(agents: &Agents, wish: &AdministerArgs, admin: UpstreamAdmin) -> anyhow::Result<Code> {
    let one = wish.proxy.as_deref();
    require_proxies(agents, one)?;
    let member = agents.host(&wish.member)?.name.to_string();
    let question = match admin {
        UpstreamAdmin::Drain => Some(format!("Give {member} no new sessions? If it leads, writes wait")),
        UpstreamAdmin::Maintenance => {
            Some(format!("Give {member} no new sessions and cut the running ones? If it leads, writes wait"))
        }
        _ => None,
    };
    if let Some(question) = question {
        confirm(&question, wish.yes)?;
    }
    let request = AdministerRequest { member, admin: admin.into() };
    let answers = Agents::block_on(async { Ok(agents.administer(one, request).await) })?;
    let mut text = String::new();
    for asked in &answers {
        let said = match &asked.answer {
            Ok(reply) => format!("done; {} has {} sessions there", wish.member, reply.sessions),
            Err(why) => format!("NOT DONE: {why}"),
        };
        text += &format!("{}: {said}\n", asked.name);
    }
    output::print(&text)?;
    if answers.iter().all(|asked| asked.answer.is_ok()) {
        return Ok(Code::Done);
    }
    let message = "not every proxy has done it; repeat the command, it does no harm where it is done already";
    Err(Stop::new(Code::Failed, message).into())
}

/// Who holds each floating address.
pub(crate) fn vip(args: &Args, asked: &VipArgs) -> anyhow::Result<Code> {
    let (agents, show) = (Agents::load(args)?, &asked.show);
    if agents.cluster.vips.is_empty() {
        let message = "the file has no [[vip]]: add one with address = \"ADDRESS/BITS\", and the [[proxy]] hosts that \
                       may hold it";
        return Err(Stop::new(Code::Configuration, message).into());
    }
    require_proxies(&agents, None)?;
    match &asked.action {
        Some(VipAction::Move(wish)) => return move_vip(&agents, wish),
        Some(VipAction::Drain(wish)) => return drain_vips(&agents, wish, true),
        Some(VipAction::Undrain(wish)) => return drain_vips(&agents, wish, false),
        None => {}
    }
    watch::show(show, async || {
        let answers = agents.ask_vrrps().await;
        let floating = Floating::all(&agents.cluster, &answers);
        let text = output::vip::render(&floating, show.format, output::colored())?;
        Ok(Look::new(text, vips::require_one_holder(&floating)))
    })
}

/// Gives a floating address to another host.
fn move_vip(agents: &Agents, wish: &VipMoveArgs) -> anyhow::Result<Code> {
    let vips: Vec<IpAddr> = agents.cluster.vips.iter().map(|vip| vip.address).collect();
    let address = match (wish.address, vips.as_slice()) {
        (Some(address), _) if vips.contains(&address) => address,
        (None, [only]) => *only,
        (asked, _) => {
            let all = vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let message = match asked {
                Some(address) => format!("{address} is no [[vip]] of the file: it has {all}"),
                None => format!("the file has several [[vip]]: say which with --address, one of {all}"),
            };
            return Err(Stop::new(Code::Refused, message).into());
        }
    };
    Agents::block_on(async {
        let answers = agents.ask_vrrps().await;
        let floating = Floating::all(&agents.cluster, &answers);
        let floating = floating.iter().find(|floating| floating.vip.address == address);
        let Some(Holding::One(holder)) = floating.map(Floating::holding) else {
            let message = format!(
                "it is not certain that one host holds {address}; see hactl vip. Nothing was changed"
            );
            return Err(Stop::new(Code::Refused, message).into());
        };
        confirm(
            &format!("Give {address} from {holder} to another proxy host? Sessions through it end"),
            wish.yes,
        )?;
        let begun = Instant::now();
        let answer = agents.move_vip(holder, address).await.map(|asked| asked.answer);
        let moved = answer.unwrap_or_else(|| Err(format!("{holder} is no proxy host")));
        let reply = moved.map_err(|why| Stop::new(Code::Failed, format!("{holder}: {why}")))?;
        let to =
            agents.cluster.proxies.iter().find(|proxy| proxy.address.to_string() == reply.active_address);
        let to = to.map_or(reply.active_address, |proxy| proxy.name.to_string());
        let took = begun.elapsed().as_secs_f64();
        output::print(&format!("{address} moved from {holder} to {to}; took {took:.2} s\n"))?;
        Ok(Code::Done)
    })
}

/// Keeps floating addresses off a host, or lets them come again.
fn drain_vips(agents: &Agents, wish: &VipDrainArgs, drain: bool) -> anyhow::Result<Code> {
    let host = wish.host.as_str();
    require_proxies(agents, Some(host))?;
    if drain {
        let question =
            format!("Keep floating addresses off {host} until it is undrained? Sessions through it end");
        confirm(&question, wish.yes)?;
    }
    let asked = Agents::block_on(async { Ok(agents.drain_vips(host, drain).await) })?;
    let answer = asked.map_or_else(|| Err("no proxy host".to_owned()), |asked| asked.answer);
    let held = answer.map_err(|why| Stop::new(Code::Failed, format!("{host}: {why}")))?.held;
    if drain && !held.is_empty() {
        let message =
            format!("{host} is drained and holds {} all the same: no other host took it", held.join(", "));
        return Err(Stop::new(Code::Failed, message).into());
    }
    let said = if drain {
        format!("{host} is drained: floating addresses go to other hosts until hactl vip undrain {host}\n")
    } else {
        format!("{host} may hold floating addresses again; a preferred host waits vip.preempt_delay\n")
    };
    output::print(&said)?;
    Ok(Code::Done)
}

/// The whole chain; written also when nobody answers.
pub(crate) fn topology(args: &Args, show: &ShowArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    watch::show(show, async || {
        let (overview, proxies, vrrps) =
            tokio::join!(agents.overview(), agents.ask_proxies(), agents.ask_vrrps());
        let floating = Floating::all(&agents.cluster, &vrrps);
        let chain = output::topology::Chain {
            cluster: &agents.cluster,
            overview: &overview,
            proxies: &proxies,
            floating: &floating,
        };
        let text = chain.render(show.format, output::colored())?;
        Ok(Look::new(text, overview.require_an_answer()))
    })
}

fn require_proxies(agents: &Agents, one: Option<&str>) -> anyhow::Result<()> {
    let cluster = &agents.cluster;
    if cluster.proxies.is_empty() {
        let message =
            "the file has no [[proxy]]: add one with name and address for each host with pg-proxy and vrrpd";
        return Err(Stop::new(Code::Configuration, message).into());
    }
    match one {
        Some(name) if cluster.proxy(name).is_none() => {
            let names: Vec<&str> = cluster.proxies.iter().map(|host| host.name.as_str()).collect();
            let message =
                format!("{name:?} is no proxy host of cluster {}: it has {}", cluster.name, names.join(", "));
            Err(Stop::new(Code::Refused, message).into())
        }
        _ => Ok(()),
    }
}

fn require_an_answer(agents: &Agents, asked: &[&Asked<ProxyStatusReply>]) -> anyhow::Result<()> {
    if asked.iter().any(|asked| asked.answer.is_ok()) {
        return Ok(());
    }
    let names: Vec<&str> = asked.iter().map(|asked| asked.name.as_str()).collect();
    let message = format!(
        "no pg-proxy can be reached: check that it runs on {} (systemctl status pg-proxy) and that port {} is open from \
         here",
        names.join(", "),
        agents.cluster.routing.grpc_port
    );
    Err(Stop::new(Code::Unreachable, message).into())
}
