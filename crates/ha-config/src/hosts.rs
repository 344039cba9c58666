//! `[[database]]`, `[[proxy]]`: the hosts, and what must hold between them.

use std::net::IpAddr;

use ha_core::MemberName;

use crate::cluster::{DatabaseHost, GRPC_PORT, ProxyHost, REST_PORT, Tags};
use crate::etcd::{ETCD_CLIENT_PORT, ETCD_PEER_PORT};
use crate::postgres::Postgres;
use crate::reader::{At, Table};
use crate::routing::Routing;

/// The hosts of the file. One with an unusable name or address is left out after its problem is reported.
pub(crate) struct Hosts {
    pub(crate) databases: Vec<DatabaseHost>,
    pub(crate) proxies: Vec<ProxyHost>,
    /// Where the port of each database host's PostgreSQL is written.
    port_places: Vec<At<()>>,
}

/// Ports of a database host that no file changes.
const FIXED_PORTS: [(&str, u16); 4] = [
    ("the agent's REST interface", REST_PORT),
    ("the agent's gRPC interface", GRPC_PORT),
    ("etcd", ETCD_CLIENT_PORT),
    ("etcd's peers", ETCD_PEER_PORT),
];

/// Name and address of one entry, as far as they are usable, for the comparison of all entries.
struct Entry {
    list: &'static str,
    name: Option<At<MemberName>>,
    address: Option<At<IpAddr>>,
}

const NAME: &str = "a host's name: 1 to 32 of a-z, 0-9, '-' and '_', beginning with a letter or digit";

pub(crate) fn read(top: &Table<'_>, postgres_table: &Table<'_>, cluster: &Postgres) -> Hosts {
    if !top.has("database") {
        top.refuse(
            "database",
            "no [[database]]",
            "at least one host with PostgreSQL: [[database]] name, address",
        );
    }
    let mut hosts = Hosts { databases: Vec::new(), proxies: Vec::new(), port_places: Vec::new() };
    let mut entries = Vec::new();
    let mut replicates = Vec::new();
    for table in top.tables("database") {
        let entry = read_entry(&table, "database");
        let (tags, replicatefrom) = read_tags(&table.table("tags"));
        replicates.extend(replicatefrom);
        let overrides = table.table("postgres");
        let postgres = cluster.read_overrides(&overrides);
        if let (Some(name), Some(address)) = (&entry.name, &entry.address) {
            let (name, address) = (name.value.clone(), address.value);
            hosts.databases.push(DatabaseHost { name, address, tags, postgres });
            let origin = if overrides.has("port") { &overrides } else { postgres_table };
            hosts.port_places.push(At { value: (), line: origin.line_of("port"), key: origin.key("port") });
        }
        entries.push(entry);
    }
    for table in top.tables("proxy") {
        let entry = read_entry(&table, "proxy");
        if let (Some(name), Some(address)) = (&entry.name, &entry.address) {
            let zone = read_zone(&table);
            hosts.proxies.push(ProxyHost { name: name.value.clone(), address: address.value, zone });
        }
        entries.push(entry);
    }
    check_names_and_addresses(top, &entries);
    check_replicatefrom(top, &hosts.databases, &entries, &replicates);
    check_leaders(top, &hosts.databases);
    hosts
}

fn read_entry(table: &Table<'_>, list: &'static str) -> Entry {
    let name = table.required("name", NAME, |value| value.as_str().and_then(|text| text.parse().ok()));
    Entry { list, name, address: table.address("address") }
}

fn read_tags(table: &Table<'_>) -> (Tags, Option<At<MemberName>>) {
    let default = Tags::default();
    let replicatefrom = table.read("replicatefrom", "the name of another [[database]]", |value| {
        value.as_str().and_then(|text| text.parse::<MemberName>().ok())
    });
    let flag = |name| table.boolean(name).unwrap_or(false);
    let tags = Tags {
        nofailover: flag("nofailover"),
        noloadbalance: flag("noloadbalance"),
        nosync: flag("nosync"),
        clonefrom: flag("clonefrom"),
        replicatefrom: replicatefrom.as_ref().map(|at| at.value.clone()),
        failover_priority: table.number("failover_priority", 0..=1000).unwrap_or(default.failover_priority),
        weight: table.number("weight", 1..=256).unwrap_or(default.weight),
        zone: read_zone(table),
    };
    (tags, replicatefrom)
}

fn read_zone(table: &Table<'_>) -> Option<String> {
    let read = table.read("zone", "a name of a zone, not empty", |value| {
        value.as_str().filter(|zone| !zone.is_empty()).map(str::to_owned)
    });
    read.map(|at| at.value)
}

/// Names are unique within a list, addresses within the cluster; a host in both lists has one address.
fn check_names_and_addresses(top: &Table<'_>, entries: &[Entry]) {
    for (index, entry) in entries.iter().enumerate() {
        let earlier = &entries[..index];
        let name = entry.name.as_ref();
        let named_so = |other: &Entry| match (&other.name, name) {
            (Some(other_name), Some(name)) => other_name.value == name.value,
            _ => false,
        };
        let twin = earlier.iter().find(|other| other.list == entry.list && named_so(other));
        if let (Some(_), Some(name)) = (twin, name) {
            let found = format!("\"{}\" a second time", name.value);
            let expected = format!("each [[{}]] with a name of its own", entry.list);
            top.report.push(name.line, &*name.key, found, expected);
        }
        let Some(address) = &entry.address else { continue };
        let same_host = |other: &Entry| other.list != entry.list && named_so(other);
        let elsewhere =
            earlier.iter().find(|other| same_host(other)).and_then(|other| other.address.as_ref());
        if let (Some(elsewhere), Some(name)) = (elsewhere, name)
            && elsewhere.value != address.value
        {
            let expected = format!(
                "\"{}\", the address of {} in the other list: one host, one address",
                elsewhere.value, name.value
            );
            top.report.push(address.line, &*address.key, format!("\"{}\"", address.value), expected);
            continue;
        }
        let taken = earlier.iter().find(|other| {
            other.address.as_ref().is_some_and(|at| at.value == address.value) && !same_host(other)
        });
        if let Some(taken) = taken {
            let owner = taken.name.as_ref().map_or("another host", |at| at.value.as_str());
            let found = format!("\"{}\", which is also {owner}'s", address.value);
            top.report.push(address.line, &*address.key, found, "an address of its own for each host");
        }
    }
}

/// `replicatefrom` names another member, and following it ends at one that streams from the primary.
fn check_replicatefrom(
    top: &Table<'_>,
    databases: &[DatabaseHost],
    entries: &[Entry],
    replicates: &[At<MemberName>],
) {
    for at in replicates {
        let found = format!("\"{}\"", at.value);
        let known = entries.iter().any(|entry| {
            entry.list == "database" && entry.name.as_ref().is_some_and(|name| name.value == at.value)
        });
        if !known {
            let names: Vec<&str> = databases.iter().map(|host| host.name.as_str()).collect();
            top.report.push(
                at.line,
                &*at.key,
                found,
                format!("the name of a [[database]]: {}", names.join(", ")),
            );
            continue;
        }
        let next = |name: &MemberName| {
            databases.iter().find(|host| host.name == *name).and_then(|host| host.tags.replicatefrom.clone())
        };
        let mut seen = vec![at.value.clone()];
        while let Some(source) = seen.last().and_then(next) {
            if source == at.value {
                seen.push(source);
                let circle: Vec<&str> = seen.iter().map(MemberName::as_str).collect();
                let found = format!("a circle: {}", circle.join(" from "));
                top.report.push(
                    at.line,
                    &*at.key,
                    found,
                    "a chain that ends at a member without replicatefrom",
                );
                break;
            }
            if seen.contains(&source) {
                break;
            }
            seen.push(source);
        }
    }
}

/// Somebody must be allowed to lead.
fn check_leaders(top: &Table<'_>, databases: &[DatabaseHost]) {
    if !databases.is_empty()
        && !top.report.refused("database")
        && !databases.iter().any(|host| host.tags.may_lead())
    {
        top.refuse(
            "database",
            "no member that may lead (nofailover or failover_priority = 0 on every one)",
            "at least one [[database]] without these tags",
        );
    }
}

/// No two servers of one host may want one port.
pub(crate) fn check_ports(routing_table: &Table<'_>, hosts: &Hosts, routing: &Routing) {
    let report = routing_table.report;
    let ports = routing.ports();
    for (index, (key, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports.iter().take(index).find(|(_, taken)| taken == port) {
            let at = if routing_table.has(key) { *key } else { *other };
            let expected = format!("a port of its own: routing.{other} and routing.{key} are the same");
            routing_table.refuse(at, port.to_string(), expected);
        }
    }
    let shared = |host: &DatabaseHost| hosts.proxies.iter().any(|proxy| proxy.name == host.name);
    if let Some(host) = hosts.databases.iter().find(|host| shared(host)) {
        for (key, port) in ports {
            if let Some((who, _)) = FIXED_PORTS.iter().find(|(_, taken)| *taken == port) {
                let expected = format!("another port: {who} has it on {}, which is in both lists", host.name);
                routing_table.refuse(key, port.to_string(), expected);
            }
        }
    }
    let mut reported: Vec<&str> = Vec::new();
    for (host, place) in hosts.databases.iter().zip(&hosts.port_places) {
        let port = host.postgres.port;
        let fixed = FIXED_PORTS.iter().find(|(_, taken)| *taken == port).map(|(who, _)| (*who).to_owned());
        let taken = fixed.or_else(|| {
            let routed = ports.iter().find(|(_, taken)| shared(host) && *taken == port);
            routed.map(|(name, _)| format!("routing.{name} on {}", host.name))
        });
        if let Some(taken) = taken.filter(|_| !reported.contains(&place.key.as_str())) {
            report.push(
                place.line,
                &*place.key,
                port.to_string(),
                format!("another port: this is that of {taken}"),
            );
            reported.push(&place.key);
        }
    }
}
