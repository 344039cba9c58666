//! Where the ports of the proxies lead: the lines under `hactl list`, and the words that the other commands share.

use ha_config::Cluster;
use ha_rpc::proto::{ProxyStatusReply, Route, RouteState};

use super::red;
use crate::ask::Asked;

/// What a port does with a new session, in words; and whether that is what it is for.
pub(super) fn words(route: Option<&Route>) -> (String, bool) {
    let Some(route) = route else { return ("unknown".to_owned(), false) };
    let because = |what: &str| {
        if route.reason.is_empty() { what.to_owned() } else { format!("{what}: {}", route.reason) }
    };
    match route.state() {
        RouteState::Open => (route.members.join(", "), true),
        RouteState::Holding => (because("nowhere, new sessions wait"), false),
        RouteState::Refusing => (because("nowhere, new sessions are refused"), false),
        RouteState::Unspecified => ("a state that this hactl does not know".to_owned(), false),
    }
}

/// The state in one word, for programs.
pub(super) fn state(route: &Route) -> &'static str {
    match route.state() {
        RouteState::Open => "open",
        RouteState::Holding => "holding",
        RouteState::Refusing => "refusing",
        RouteState::Unspecified => "unknown",
    }
}

/// One line for each port by the word of all proxies, and one for each proxy that says nothing.
pub(crate) fn lines(cluster: &Cluster, proxies: &[Asked<ProxyStatusReply>], colored: bool) -> Vec<String> {
    let (writes, reads) = (cluster.routing.write_port, cluster.routing.read_port);
    if proxies.is_empty() {
        return vec!["No [[proxy]] in the file: clients connect to the members themselves".to_owned()];
    }
    let silent = proxies.iter().filter_map(|asked| Some(format!("? {}: {}", asked.name, asked.silence()?)));
    if proxies.iter().all(|asked| asked.answer.is_err()) {
        let first = format!("{writes}, {reads} -> unknown: no pg-proxy answers");
        return [red(&first, colored)].into_iter().chain(silent).collect();
    }
    let mut lines = vec![
        line(writes, "writes", proxies, |reply| reply.writes.as_ref(), colored),
        line(reads, "reads", proxies, |reply| reply.reads.as_ref(), colored),
    ];
    let draining = proxies.iter().filter(|asked| asked.reply().is_some_and(|reply| reply.draining));
    lines.extend(draining.map(|asked| format!("{} is draining: it takes no new sessions", asked.name)));
    lines.extend(silent);
    lines
}

fn line(
    port: u16,
    what: &str,
    proxies: &[Asked<ProxyStatusReply>],
    route: impl Fn(&ProxyStatusReply) -> Option<&Route>,
    colored: bool,
) -> String {
    // Equal words together, in the order in which they are said first.
    let mut said: Vec<(String, bool, Vec<&str>)> = Vec::new();
    for asked in proxies {
        let Some(reply) = asked.reply() else { continue };
        let (words, good) = words(route(reply));
        match said.iter_mut().find(|(known, ..)| *known == words) {
            Some((.., by)) => by.push(asked.name.as_str()),
            None => said.push((words, good, vec![asked.name.as_str()])),
        }
    }
    let differ = said.len() > 1;
    let parts: Vec<String> = said
        .into_iter()
        .map(|(words, good, by)| {
            let words = if good { words } else { red(&words, colored) };
            if differ { format!("{words} [{}]", by.join(", ")) } else { words }
        })
        .collect();
    format!("{port} {what:<6} -> {}", parts.join("; "))
}
