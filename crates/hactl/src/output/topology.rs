//! `hactl topology`: the whole chain from the floating address to etcd as one picture.

use std::fmt::Write as _;

use ha_config::Cluster;
use ha_rpc::proto::ProxyStatusReply;
use serde::Serialize;

use super::{json, proxy, red, routes, span, tsv_line, vip, yaml};
use crate::args::Format;
use crate::ask::Asked;
use crate::overview::{Member, Overview, Role};
use crate::vips::{Floating, Holding, Seat};

/// Everything that was asked.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) overview: &'a Overview,
    pub(crate) proxies: &'a [Asked<ProxyStatusReply>],
    pub(crate) floating: &'a [Floating<'a>],
}

/// One line of the picture and what hangs on it.
#[derive(Debug, Default)]
struct Node {
    kind: &'static str,
    name: String,
    address: String,
    /// What it is or does, one thing each; the marked ones a human must see.
    facts: Vec<(String, bool)>,
    /// Lines of their own below it.
    notes: Vec<(String, bool)>,
    children: Vec<Self>,
}

impl<'a> Chain<'a> {
    /// The picture in the wanted format.
    pub(crate) fn render(&self, format: Format, colored: bool) -> anyhow::Result<String> {
        match format {
            Format::Table => Ok(self.text(colored)),
            Format::Json => json(&self.document()),
            Format::Yaml => yaml(&self.document()),
            Format::Tsv => Ok(self.tsv()),
        }
    }

    fn text(&self, colored: bool) -> String {
        let mut text = super::list::head(self.overview, colored) + "\n\n";
        let parts = [self.addresses(), self.proxies(), self.members(), vec![self.etcd()]];
        let parts: Vec<&Vec<Node>> = parts.iter().filter(|part| !part.is_empty()).collect();
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                text += "|\n";
            }
            let last_part = index + 1 == parts.len();
            for (number, node) in part.iter().enumerate() {
                node.draw(&mut text, "", last_part && number + 1 == part.len(), colored);
            }
        }
        text
    }

    fn tsv(&self) -> String {
        let mut text = tsv_line(["Kind", "Name", "Address", "Behind", "Facts"]);
        for node in
            self.addresses().iter().chain(&self.proxies()).chain(&self.members()).chain([&self.etcd()])
        {
            node.tsv(&mut text, "");
        }
        text
    }

    fn addresses(&self) -> Vec<Node> {
        let address = |floating: &Floating<'_>| {
            let good = matches!(floating.holding(), Holding::One(_));
            Node {
                kind: "address",
                name: floating.shown(),
                facts: vec![(floating.verdict(), !good)],
                ..Node::default()
            }
        };
        self.floating.iter().map(address).collect()
    }

    fn proxies(&self) -> Vec<Node> {
        self.proxies.iter().map(|asked| self.proxy(asked)).collect()
    }

    fn proxy(&self, asked: &Asked<ProxyStatusReply>) -> Node {
        let mut facts = Vec::new();
        for floating in self.floating {
            facts.extend(floating.seats.iter().find(|seat| seat.asked.name == asked.name).map(seat_fact));
        }
        let mut notes = Vec::new();
        match &asked.answer {
            Ok(reply) => {
                let state = if reply.draining { "pg-proxy draining" } else { "pg-proxy serving" };
                facts.push((state.to_owned(), reply.draining));
                facts.push((format!("{} of {} sessions", reply.sessions, reply.session_limit), false));
                for (what, route) in [("writes", &reply.writes), ("reads", &reply.reads)] {
                    let (words, good) = routes::words(route.as_ref());
                    let port = route.as_ref().map_or(0, |route| route.port);
                    notes.push((format!("{port} {what:<6} -> {words}"), !good));
                }
            }
            Err(why) => {
                facts.push(("pg-proxy unreachable".to_owned(), true));
                notes.push((format!("? {why}"), false));
            }
        }
        let address = asked.address.to_string();
        Node { kind: "proxy", name: asked.name.to_string(), address, facts, notes, ..Node::default() }
    }

    /// The leader with its standbys below it, or all members side by side while there is none.
    fn members(&self) -> Vec<Node> {
        let above = |member: &&Member| self.source_of(member).is_none();
        self.overview.members.iter().filter(above).map(|member| self.member(member)).collect()
    }

    fn member(&self, member: &Member) -> Node {
        let below = |other: &&Member| self.source_of(other).is_some_and(|source| source.name == member.name);
        let children = self.overview.members.iter().filter(below).map(|other| self.member(other)).collect();
        let mut facts = vec![(member.role.title().to_owned(), false)];
        facts.push((member.state.to_owned(), member.answer.is_err()));
        facts.extend(member.timeline.map(|timeline| (format!("timeline {timeline}"), false)));
        facts.extend(
            member
                .replay_lag_bytes
                .map(|bytes| (format!("{} MiB behind", super::list::mebibytes(bytes)), false)),
        );
        let mut notes = Vec::new();
        match &member.answer {
            Ok(reply) if member.role == Role::Leader => {
                let writes = if reply.serves_writes { "takes writes" } else { "takes no writes" };
                facts.push((writes.to_owned(), !reply.serves_writes));
                notes.extend(reply.blocked.clone().map(|why| (format!("! {why}"), true)));
            }
            Ok(reply) => notes.extend(reply.blocked.clone().map(|why| (format!("! {why}"), true))),
            Err(why) => notes.push((format!("? {why}"), false)),
        }
        let (name, address) = (member.name.clone(), member.host.clone());
        Node { kind: "member", name, address, facts, notes, children }
    }

    /// Whom a member streams from: the leader, or another member by its tag.
    fn source_of(&self, member: &Member) -> Option<&'a Member> {
        let leader = self.overview.leader()?;
        if member.role == Role::Leader {
            return None;
        }
        let host = self.cluster.database(&member.name);
        let tagged = host.and_then(|host| host.tags.replicatefrom.as_ref());
        Some(tagged.and_then(|name| self.overview.member(name.as_str())).unwrap_or(leader))
    }

    fn etcd(&self) -> Node {
        let (sees, misses) = self.etcd_seen();
        let mut facts = Vec::new();
        if !sees.is_empty() {
            facts.push((format!("reached by {}", sees.join(", ")), false));
        }
        if !misses.is_empty() {
            facts.push((format!("not reached by {}", misses.join(", ")), true));
        }
        if facts.is_empty() {
            facts.push(("no agent says whether it can be reached".to_owned(), true));
        }
        let address = self.cluster.etcd.endpoints.join(", ");
        Node { kind: "etcd", name: "etcd".to_owned(), address, facts, ..Node::default() }
    }

    /// Members whose agents see etcd, and those whose agents do not.
    fn etcd_seen(&self) -> (Vec<&'a str>, Vec<&'a str>) {
        let answered =
            || self.overview.members.iter().filter_map(|m| Some((m.name.as_str(), m.answer.as_ref().ok()?)));
        let of = |connected: bool| {
            answered().filter(|(_, reply)| reply.store_connected == connected).map(|(name, _)| name).collect()
        };
        (of(true), of(false))
    }

    fn document(&self) -> Document<'_> {
        let (connected, disconnected) = self.etcd_seen();
        let sync = self.overview.sync.as_ref();
        let member = |member: &'a Member| MemberDocument {
            member: &member.name,
            host: &member.host,
            role: member.role.title(),
            state: member.state,
            streams_from: self.source_of(member).map(|source| source.name.as_str()),
            unreachable: member.answer.as_ref().err().map(String::as_str),
            takes_writes: member.answer.as_ref().ok().map(|reply| reply.serves_writes),
            timeline: member.timeline,
            replay_lag_bytes: member.replay_lag_bytes,
        };
        Document {
            cluster: &self.overview.cluster,
            epoch: sync.map(|sync| sync.epoch),
            leader: self.overview.leader().map(|leader| leader.name.as_str()),
            vips: self.floating.iter().map(vip::Document::new).collect(),
            proxies: self.proxies.iter().map(proxy::Document::new).collect(),
            members: self.overview.members.iter().map(member).collect(),
            etcd: EtcdDocument { endpoints: &self.cluster.etcd.endpoints, connected, disconnected },
        }
    }
}

/// What vrrpd of a proxy host does with one address.
fn seat_fact(seat: &Seat<'_>) -> (String, bool) {
    match seat.router {
        Some(router) if router.holds_address => {
            let since = span(router.since_ms);
            (format!("holds the address, {} {} for {since}", seat.state(), router.priority), false)
        }
        Some(router) => (format!("{} {}", seat.state(), router.priority), seat.state() == "fault"),
        None => (format!("vrrpd {}", seat.state()), true),
    }
}

impl Node {
    fn draw(&self, text: &mut String, indent: &str, last: bool, colored: bool) {
        let painted =
            |(words, alarming): &(String, bool)| if *alarming { red(words, colored) } else { words.clone() };
        let facts: Vec<String> = self.facts.iter().map(painted).collect();
        let address = if self.address.is_empty() { String::new() } else { format!("  {}", self.address) };
        writeln!(text, "{indent}+- {}{address}  {}", self.name, facts.join(", ")).unwrap_or_default();
        let inner = format!("{indent}{}  ", if last { " " } else { "|" });
        for note in &self.notes {
            let bar = if self.children.is_empty() { " " } else { "|" };
            writeln!(text, "{inner}{bar}  {}", painted(note)).unwrap_or_default();
        }
        for (number, child) in self.children.iter().enumerate() {
            child.draw(text, &inner, number + 1 == self.children.len(), colored);
        }
    }

    fn tsv(&self, text: &mut String, behind: &str) {
        let facts = self.facts.iter().chain(&self.notes).map(|(words, _)| words.as_str());
        let facts = facts.collect::<Vec<_>>().join("; ");
        *text += &tsv_line([self.kind, &self.name, &self.address, behind, &facts]);
        for child in &self.children {
            child.tsv(text, &self.name);
        }
    }
}

/// The chain for programs; what is not known is null.
#[derive(Debug, Serialize)]
struct Document<'a> {
    cluster: &'a str,
    epoch: Option<u64>,
    leader: Option<&'a str>,
    vips: Vec<vip::Document<'a>>,
    proxies: Vec<proxy::Document<'a>>,
    members: Vec<MemberDocument<'a>>,
    etcd: EtcdDocument<'a>,
}

#[derive(Debug, Serialize)]
struct MemberDocument<'a> {
    member: &'a str,
    host: &'a str,
    role: &'static str,
    state: &'static str,
    /// Member that it is to stream from; null for the leader.
    streams_from: Option<&'a str>,
    /// Why its agent did not answer.
    unreachable: Option<&'a str>,
    takes_writes: Option<bool>,
    timeline: Option<u32>,
    replay_lag_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct EtcdDocument<'a> {
    endpoints: &'a [String],
    /// Members whose agents see it.
    connected: Vec<&'a str>,
    /// Members whose agents answer and do not see it.
    disconnected: Vec<&'a str>,
}
