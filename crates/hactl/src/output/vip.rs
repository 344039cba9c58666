//! `hactl vip`: who holds each floating address, and why.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::{json, red, right, shown, span, tsv_line, yaml, yes};
use crate::args::Format;
use crate::vips::{Floating, Holding, Seat};

const COLUMNS: [&str; 10] =
    ["Address", "Host", "State", "Priority", "Holds it", "Since", "Interface", "VRID", "pg-proxy", "Reason"];

/// The floating addresses in the wanted format.
pub(crate) fn render(floating: &[Floating<'_>], format: Format, colored: bool) -> anyhow::Result<String> {
    let documents = || floating.iter().map(Document::new).collect::<Vec<_>>();
    match format {
        Format::Table => Ok(text(floating, colored)),
        Format::Json => json(&documents()),
        Format::Yaml => yaml(&documents()),
        Format::Tsv => Ok(tsv(floating)),
    }
}

fn text(floating: &[Floating<'_>], colored: bool) -> String {
    let mut text = String::new();
    for one in floating {
        let verdict = one.verdict();
        let verdict = if matches!(one.holding(), Holding::One(_)) { verdict } else { red(&verdict, colored) };
        writeln!(text, "{}  {verdict}", one.shown()).unwrap_or_default();
    }
    let mut table = super::table(&COLUMNS);
    for one in floating {
        for seat in &one.seats {
            table.add_row(cells(one, seat));
        }
    }
    right(&mut table, [3, 5, 7]);
    writeln!(text, "{table}").unwrap_or_default();
    for note in notes(floating, colored) {
        writeln!(text, " {note}").unwrap_or_default();
    }
    text
}

fn cells(floating: &Floating<'_>, seat: &Seat<'_>) -> [String; 10] {
    let router = seat.router;
    [
        floating.vip.address.to_string(),
        seat.host().to_owned(),
        seat.state().to_owned(),
        shown(router.map(|router| router.priority)),
        shown(router.map(|router| yes(router.holds_address))),
        shown(router.map(|router| span(router.since_ms))),
        shown(router.map(|router| &router.interface)),
        shown(router.map(|router| router.vrid)),
        shown(seat.asked.reply().map(|reply| &reply.proxy)),
        shown(router.map(|router| &router.reason)),
    ]
}

/// What a human should know beyond the rows.
fn notes(floating: &[Floating<'_>], colored: bool) -> Vec<String> {
    let mut notes = Vec::new();
    for one in floating {
        for seat in &one.seats {
            let Some(router) = seat.router else { continue };
            let alarm = |alarm: &String| red(&format!("! {}: {alarm}", seat.host()), colored);
            notes.extend(router.alarms.iter().map(alarm));
            notes.extend(router.tracks.iter().map(|track| format!("{} follows {track}", seat.host())));
            if !router.hook.is_empty() {
                notes.push(format!("{}'s hook for {}: {}", seat.host(), one.vip.address, router.hook));
            }
            if let (Some(address), Some(priority)) = (&router.active_address, router.active_priority) {
                let (host, vip) = (seat.host(), one.vip.address);
                notes.push(format!("{host} hears {address} advertise {vip} with priority {priority}"));
            }
        }
    }
    let drained = floating.first().into_iter().flat_map(|one| &one.seats);
    for seat in drained.filter(|seat| seat.asked.reply().is_some_and(|reply| reply.drained)) {
        let host = seat.host();
        notes.push(red(
            &format!("! {host} is drained by an operator: hactl vip undrain {host} ends it"),
            colored,
        ));
    }
    let replies =
        || floating.first().into_iter().flat_map(|one| &one.seats).filter_map(|seat| seat.asked.reply());
    if replies().any(|reply| reply.maintenance) {
        notes.push(
            "maintenance mode: addresses move only when their holder fails, or by hactl vip".to_owned(),
        );
    }
    // The hosts are the same for every address.
    for seat in floating.first().map_or(&[] as &[_], |one| &one.seats) {
        notes.extend(seat.asked.silence().map(|why| format!("? {}: {why}", seat.host())));
    }
    if replies().map(|reply| &reply.file_digest).collect::<BTreeSet<_>>().len() > 1 {
        let listed: Vec<String> = replies().map(|r| format!("{} {}", r.host, r.file_digest)).collect();
        notes.push(format!("cluster.toml differs between the proxy hosts: {}", listed.join(", ")));
    }
    notes
}

fn tsv(floating: &[Floating<'_>]) -> String {
    let mut text = tsv_line(COLUMNS);
    for one in floating {
        for seat in &one.seats {
            let mut cells = cells(one, seat);
            // For programs a number of milliseconds, and why there is no answer.
            cells[5] = shown(seat.router.map(|router| router.since_ms));
            if let Some(why) = seat.asked.silence() {
                why.clone_into(&mut cells[9]);
            }
            text += &tsv_line(cells.iter().map(String::as_str));
        }
    }
    text
}

/// An address for programs; what is not known is null.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    address: String,
    vrid: u8,
    version: u8,
    /// `one`, `several`, `nobody`, or `unknown` when somebody did not answer.
    holders: &'static str,
    held_by: Vec<&'a str>,
    hosts: Vec<SeatDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct SeatDocument<'a> {
    host: &'a str,
    address: String,
    /// Why it did not answer.
    unreachable: Option<&'a str>,
    state: &'static str,
    /// The local proxy: serving, draining, dead.
    proxy: Option<&'a str>,
    /// An operator keeps floating addresses off this host.
    drained: Option<bool>,
    /// Maintenance mode: addresses move only when their holder fails or somebody asks for it.
    maintenance: Option<bool>,
    version: Option<&'a str>,
    file_digest: Option<&'a str>,
    #[serde(flatten)]
    router: Option<RouterDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct RouterDocument<'a> {
    priority: u32,
    holds_address: bool,
    since_ms: u64,
    interval_ms: u64,
    interface: &'a str,
    reason: &'a str,
    active_address: Option<&'a str>,
    active_priority: Option<u32>,
    transitions: u64,
    advertisements_sent: u64,
    advertisements_received: u64,
    advertisements_discarded: u64,
    alarms: &'a [String],
}

impl<'a> Document<'a> {
    pub(super) fn new(floating: &'a Floating<'a>) -> Self {
        let holding = floating.holding();
        let holders = match &holding {
            Holding::One(_) => "one",
            Holding::Several(_) => "several",
            Holding::Nobody => "nobody",
            Holding::Unknown(_) => "unknown",
        };
        Self {
            address: floating.shown(),
            vrid: floating.vip.router_id(),
            version: floating.vip.version,
            holders,
            held_by: floating.seats.iter().filter(|seat| seat.holds()).map(Seat::host).collect(),
            hosts: floating.seats.iter().map(seat).collect(),
        }
    }
}

fn seat<'a>(seat: &'a Seat<'a>) -> SeatDocument<'a> {
    let reply = seat.asked.reply();
    SeatDocument {
        host: seat.host(),
        address: seat.asked.address.to_string(),
        unreachable: seat.asked.silence(),
        state: seat.state(),
        proxy: reply.map(|reply| reply.proxy.as_str()),
        drained: reply.map(|reply| reply.drained),
        maintenance: reply.map(|reply| reply.maintenance),
        version: reply.map(|reply| reply.version.as_str()),
        file_digest: reply.map(|reply| reply.file_digest.as_str()),
        router: seat.router.map(|router| RouterDocument {
            priority: router.priority,
            holds_address: router.holds_address,
            since_ms: router.since_ms,
            interval_ms: router.interval_ms,
            interface: &router.interface,
            reason: &router.reason,
            active_address: router.active_address.as_deref(),
            active_priority: router.active_priority,
            transitions: router.transitions,
            advertisements_sent: router.advertisements_sent,
            advertisements_received: router.advertisements_received,
            advertisements_discarded: router.advertisements_discarded,
            alarms: &router.alarms,
        }),
    }
}
