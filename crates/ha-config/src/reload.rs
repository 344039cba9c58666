//! What a running pg-proxy can take over from a changed file, and what waits for the next start. Every key of
//! `[routing]` stands in one list; a test compares that list with the keys that there are.

use std::fmt::{self, Display};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::routing::{Balance, Doubtful, ReadConsistency, Routing};
use crate::tls_end::TlsEnd;
use crate::units::show_duration;

/// One key that a changed file gives another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Dotted key.
    pub key: &'static str,
    /// The value that is in force.
    pub old: String,
    /// The value in the file.
    pub new: String,
    /// Whether a running pg-proxy takes it over.
    pub acts: Acts,
}

/// When a change acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acts {
    /// At once.
    Now,
    /// At the next start.
    AtStart,
}

impl Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.old, self.new)
    }
}

/// A key of `[routing]`: its name, when a change of it acts, and its value in words.
type Key = (&'static str, Acts, fn(&Routing) -> String);

const ROUTING: &[Key] = &[
    ("routing.write_port", Acts::AtStart, |r| r.write_port.to_string()),
    ("routing.read_port", Acts::AtStart, |r| r.read_port.to_string()),
    ("routing.status_port", Acts::AtStart, |r| r.status_port.to_string()),
    ("routing.grpc_port", Acts::AtStart, |r| r.grpc_port.to_string()),
    ("routing.max_connections", Acts::Now, |r| r.max_connections.to_string()),
    ("routing.upstream_connections", Acts::Now, |r| r.upstream_connections.to_string()),
    ("routing.queue_timeout", Acts::Now, |r| show_duration(r.queue_timeout)),
    ("routing.hold_timeout", Acts::Now, |r| show_duration(r.hold_timeout)),
    ("routing.stale_limit", Acts::Now, |r| show_duration(r.stale_limit)),
    ("routing.connect_timeout", Acts::Now, |r| show_duration(r.connect_timeout)),
    ("routing.client_timeout", Acts::Now, |r| limit(r.client_timeout)),
    ("routing.server_timeout", Acts::Now, |r| limit(r.server_timeout)),
    ("routing.check_interval", Acts::Now, |r| show_duration(r.check_interval)),
    ("routing.check_timeout", Acts::Now, |r| show_duration(r.check_timeout)),
    ("routing.check_rise", Acts::Now, |r| r.check_rise.to_string()),
    ("routing.check_fall", Acts::Now, |r| r.check_fall.to_string()),
    ("routing.drain_timeout", Acts::Now, |r| show_duration(r.drain_timeout)),
    ("routing.upgrade_timeout", Acts::Now, |r| show_duration(r.upgrade_timeout)),
    ("routing.maximum_read_lag", Acts::Now, |r| {
        r.maximum_read_lag_bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"))
    }),
    ("routing.read_from_leader", Acts::Now, |r| r.read_from_leader.to_string()),
    ("routing.cancelled_commits", Acts::Now, |r| doubtful(r.cancelled_commits)),
    ("routing.lowered_commits", Acts::Now, |r| doubtful(r.lowered_commits)),
    ("routing.reads", Acts::AtStart, |r| {
        let name = match r.reads {
            ReadConsistency::Fresh => "fresh",
            ReadConsistency::Linearizable => "linearizable",
        };
        name.to_owned()
    }),
    ("routing.balance", Acts::Now, |r| {
        let name = match r.balance {
            Balance::LeastConnections => "least-connections",
            Balance::RoundRobin => "round-robin",
            Balance::Random => "random",
        };
        name.to_owned()
    }),
    ("routing.log_sessions", Acts::Now, |r| r.log_sessions.to_string()),
    ("routing.name_clients", Acts::Now, |r| r.name_clients.to_string()),
    ("routing.pin_threads", Acts::AtStart, |r| r.pin_threads.to_string()),
    ("routing.tls", Acts::AtStart, |r| {
        let name = if r.tls == TlsEnd::PassThrough { "pass-through" } else { "terminate" };
        name.to_owned()
    }),
    ("routing.tls_certificate", Acts::AtStart, |r| match &r.tls {
        TlsEnd::Terminate { certificate, .. } => certificate.display().to_string(),
        TlsEnd::PassThrough => "none".to_owned(),
    }),
    ("routing.tls_key", Acts::AtStart, |r| match &r.tls {
        TlsEnd::Terminate { key, .. } => key.display().to_string(),
        TlsEnd::PassThrough => "none".to_owned(),
    }),
    ("routing.require_tls", Acts::Now, |r| r.require_tls.to_string()),
    ("routing.proxy_protocol_from", Acts::AtStart, |r| {
        listed(r.proxy_protocol_from.iter().map(ToString::to_string))
    }),
];

fn doubtful(what: Doubtful) -> String {
    let name = match what {
        Doubtful::Pass => "pass",
        Doubtful::Refuse => "refuse",
    };
    name.to_owned()
}

fn limit(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".to_owned(), show_duration)
}

/// A key outside `[routing]`, and its value in words.
type Other = (&'static str, fn(&Cluster) -> String);

/// What else of the file pg-proxy uses; all of it at its start only.
const AT_START: &[Other] = &[
    ("name", |c| c.name.to_string()),
    ("database", |c| {
        let one = |host: &crate::DatabaseHost| {
            let zone = host.tags.zone.as_deref().map(|zone| format!(" in {zone}")).unwrap_or_default();
            let weight =
                if host.tags.weight == 1 { String::new() } else { format!(" x{}", host.tags.weight) };
            format!("{} {}:{}{weight}{zone}", host.name, host.address, host.postgres.port)
        };
        listed(c.databases.iter().map(one))
    }),
    ("proxy", |c| {
        listed(c.proxies.iter().map(|host| {
            let zone = host.zone.as_deref().map(|zone| format!(" in {zone}")).unwrap_or_default();
            format!("{} {}{zone}", host.name, host.address)
        }))
    }),
    ("vip.address", |c| listed(c.vips.iter().map(|vip| vip.address.to_string()))),
    ("tls.ca", |c| c.tls.ca.display().to_string()),
    ("tls.cert", |c| c.tls.cert.display().to_string()),
    ("tls.key", |c| c.tls.key.display().to_string()),
];

impl Cluster {
    /// What a pg-proxy that runs by `self` finds changed in `file`.
    pub fn proxy_changes(&self, file: &Self) -> Vec<Change> {
        let routing = ROUTING.iter().map(|&(key, acts, show)| Change {
            key,
            old: show(&self.routing),
            new: show(&file.routing),
            acts,
        });
        let others = AT_START.iter().map(|&(key, show)| Change {
            key,
            old: show(self),
            new: show(file),
            acts: Acts::AtStart,
        });
        others.chain(routing).filter(|change| change.old != change.new).collect()
    }

    /// What a pg-proxy that runs by `self` runs by when it has taken over from `file` what acts at once.
    #[must_use]
    pub fn proxy_takes_over(&self, file: &Self) -> Self {
        let own = &self.routing;
        let routing = Routing {
            write_port: own.write_port,
            read_port: own.read_port,
            status_port: own.status_port,
            grpc_port: own.grpc_port,
            pin_threads: own.pin_threads,
            reads: own.reads,
            tls: own.tls.clone(),
            proxy_protocol_from: own.proxy_protocol_from.clone(),
            ..file.routing.clone()
        };
        Self { routing, digest: file.digest.clone(), ..self.clone() }
    }
}

fn listed(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const HOSTS: &str = "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n\
                         [[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n";

    fn cluster(rest: &str) -> Cluster {
        crate::parse(&format!("{HOSTS}{rest}"), Path::new("x")).unwrap()
    }

    #[test]
    fn every_key_of_routing_either_acts_at_once_or_is_named() {
        let known: Vec<&str> =
            crate::keys::CLUSTER.iter().copied().filter(|key| key.starts_with("routing.")).collect();
        let listed: Vec<&str> = ROUTING.iter().map(|(key, ..)| *key).collect();
        assert_eq!(listed, known, "the list here beside that of keys.rs");
    }

    #[test]
    fn the_page_says_when_each_acts() {
        let page = include_str!("../../../docs/CONFIGURATION.md");
        for (key, acts, _) in ROUTING {
            let line =
                page.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap_or_default();
            let word = match acts {
                Acts::Now => "| reload |",
                Acts::AtStart => "| restart |",
            };
            assert!(line.ends_with(word), "{key}: {line}");
        }
    }

    #[test]
    fn what_acts_at_once_is_taken_over_and_the_rest_is_named_until_the_file_says_the_same_again() {
        let running = cluster("[routing]\nhold_timeout = \"4s\"\n");
        let file = cluster(
            "[[vip]]\naddress = \"10.0.1.10/24\"\n[postgres]\nport = 5433\n[routing]\nhold_timeout = \"1500ms\"\n\
             write_port = 6000\nmaximum_read_lag = \"1kB\"\n",
        );
        let told = |changes: Vec<Change>, acts| {
            let of = changes.iter().filter(|change| change.acts == acts);
            of.map(ToString::to_string).collect::<Vec<_>>()
        };
        let changes = running.proxy_changes(&file);
        assert_eq!(
            told(changes.clone(), Acts::Now),
            ["routing.hold_timeout: 4s -> 1500ms", "routing.maximum_read_lag: none -> 1024 bytes"]
        );
        let at_start = [
            "database: pg1 10.0.1.11:5432 -> pg1 10.0.1.11:5433",
            "vip.address: none -> 10.0.1.10",
            "routing.write_port: 5000 -> 6000",
        ];
        assert_eq!(told(changes, Acts::AtStart), at_start);
        let taken = running.proxy_takes_over(&file);
        assert_eq!(told(taken.proxy_changes(&file), Acts::Now), [""; 0], "everything was taken over");
        assert_eq!(told(taken.proxy_changes(&file), Acts::AtStart), at_start, "and these are still to come");
        assert_eq!(taken.digest, file.digest);
        assert_eq!(told(taken.proxy_changes(&running), Acts::AtStart), [""; 0]);
    }
}
