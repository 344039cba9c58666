//! From the bytes of `cluster.toml` to a [`Cluster`].

use std::path::Path;

use crate::cluster::Cluster;
use crate::digest::digest;
use crate::etcd::Etcd;
use crate::failover::Failover;
use crate::guard::Guard;
use crate::hooks::Hooks;
use crate::hosts;
use crate::keys;
use crate::postgres::Postgres;
use crate::problem::{Problem, Problems};
use crate::reader::{Report, Table};
use crate::relations::{self, Tables};
use crate::replication::Replication;
use crate::routing::Routing;
use crate::tls::Tls;
use crate::vip::Vip;
use crate::vrrp::Vrrp;

/// Reads and checks a `cluster.toml`.
///
/// # Errors
/// All problems at once.
pub fn load(path: &Path) -> Result<Cluster, Problems> {
    let bytes = std::fs::read(path).map_err(|error| {
        let expected = "a readable file; `hactl init` writes one";
        Problems::one(Problem::new(path, None, "", error.to_string(), expected))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        Problems::one(Problem::new(path, Some(line), "", "bytes that are not UTF-8", "a text file in UTF-8"))
    })?;
    parse(&text, path)
}

/// Checks the text of a `cluster.toml`; `path` is only named in problems.
///
/// # Errors
/// All problems at once.
pub fn parse(text: &str, path: &Path) -> Result<Cluster, Problems> {
    let report = Report::new(path, text, keys::CLUSTER);
    let cluster = report.parse().and_then(|table| read(&report.top(&table), text));
    match (report.into_problems(), cluster) {
        (Some(problems), _) => Err(problems),
        (None, Some(cluster)) => Ok(cluster),
        (None, None) => unreachable!("a cluster is left out only after a problem was reported"),
    }
}

/// Reads everything that is readable; `None` (with a problem reported) when there is no name to build a cluster with.
fn read(top: &Table<'_>, text: &str) -> Option<Cluster> {
    let name = top.required(
        "name",
        "the cluster's name: 1 to 48 of a-z, 0-9, '-' and '_', beginning with a letter or digit",
        |value| value.as_str().and_then(|text| text.parse().ok()),
    );
    let postgres_table = top.table("postgres");
    let postgres = Postgres::read(&postgres_table);
    let hosts = hosts::read(top, &postgres_table, &postgres);
    let vips = read_vips(top, &hosts);
    let tls = Tls::read(&top.table("tls"));
    let etcd = Etcd::read(&top.table("etcd"), &hosts.databases, &tls);
    let tables = Tables {
        replication: top.table("replication"),
        failover: top.table("failover"),
        guard: top.table("guard"),
    };
    let replication = Replication::read(&tables.replication, &hosts.databases);
    let failover = Failover::read(&tables.failover);
    let guard = Guard::read(&tables.guard);
    let routing_table = top.table("routing");
    let routing = Routing::read(&routing_table);
    hosts::check_ports(&routing_table, &hosts, &routing);
    relations::check(&tables, &hosts.databases, &replication, &failover, &guard);
    relations::check_reads(&routing_table, &tables.replication, &routing, &replication);
    let hooks = Hooks::read(&top.table("hooks"));
    Some(Cluster {
        name: name?.value,
        databases: hosts.databases,
        proxies: hosts.proxies,
        vips,
        vrrp: Vrrp::read(&top.table("vrrp")),
        postgres,
        etcd,
        replication,
        failover,
        guard,
        routing,
        tls,
        hooks,
        digest: digest(text.as_bytes()),
    })
}

fn read_vips(top: &Table<'_>, hosts: &hosts::Hosts) -> Vec<Vip> {
    let mut vips: Vec<Vip> = Vec::new();
    for table in top.tables("vip") {
        let Some(vip) = Vip::read(&table, &hosts.databases, &hosts.proxies) else { continue };
        if vips.iter().any(|other| other.address == vip.address) {
            table.refuse(
                "address",
                format!("\"{}\" a second time", vip.address),
                "each floating address once",
            );
        }
        let twin = vips.iter().find(|other| {
            let same_family = other.address.is_ipv4() == vip.address.is_ipv4();
            other.router_id() == vip.router_id() && same_family && other.address != vip.address
        });
        if let Some(twin) = twin {
            let found = match vip.vrid {
                Some(vrid) => format!("{vrid}, as that of {}", twin.address),
                None => format!("nothing, which means {}, as that of {}", vip.router_id(), twin.address),
            };
            table.refuse("vrid", found, "a virtual router of its own for each [[vip]]");
        }
        let fellow = vips.iter().find(|other| vip.group.is_some() && other.group == vip.group);
        if let Some((fellow, key)) =
            fellow.and_then(|fellow| Some((fellow, vip.disagreement(fellow, &hosts.proxies)?)))
        {
            let group = vip.group.as_deref().unwrap_or_default();
            let expected = format!("the same vip.{key} as {}: they move together", fellow.address);
            table.refuse("group", format!("{group:?} with another vip.{key}"), expected);
        }
        vips.push(vip);
    }
    vips
}
