//! Every key that a file may hold. The reader refuses all others; `docs/CONFIGURATION.md` is compared with this list.

/// Dotted keys of `cluster.toml`. `database`, `proxy` and `vip` are lists of tables; `*` is any name.
pub(crate) const CLUSTER: &[&str] = &[
    "name",
    "database.name",
    "database.address",
    "database.tags.nofailover",
    "database.tags.noloadbalance",
    "database.tags.nosync",
    "database.tags.clonefrom",
    "database.tags.replicatefrom",
    "database.tags.failover_priority",
    "database.tags.weight",
    "database.tags.zone",
    "database.postgres.port",
    "database.postgres.data_dir",
    "database.postgres.bin_dir",
    "database.postgres.parameters.*",
    "proxy.name",
    "proxy.address",
    "proxy.zone",
    "vip.address",
    "vip.link_local",
    "vip.interface",
    "vip.group",
    "vip.vrid",
    "vip.version",
    "vip.interval",
    "vip.preference",
    "vip.unicast",
    "vip.max_hops",
    "vip.virtual_mac",
    "vip.signing",
    "vip.replay_window",
    "vip.preempt",
    "vip.preempt_delay",
    "vip.priority_model",
    "vip.priorities.*",
    "vip.track.script",
    "vip.track.file",
    "vip.track.interface",
    "vip.track.process",
    "vip.track.proxy",
    "vip.track.interval",
    "vip.track.timeout",
    "vip.track.rise",
    "vip.track.fall",
    "vip.track.weight",
    "vip.track.init_fail",
    "vip.track.reverse",
    "vip.track.user",
    "vrrp.no_primary_hold",
    "vrrp.primary_hysteresis",
    "postgres.version",
    "postgres.bin_dir",
    "postgres.data_dir",
    "postgres.port",
    "postgres.socket_dir",
    "postgres.log_file",
    "postgres.os_user",
    "postgres.superuser",
    "postgres.replication_user",
    "postgres.rewind_user",
    "postgres.parameters.*",
    "postgres.hba",
    "postgres.initdb",
    "etcd.endpoints",
    "etcd.tls",
    "etcd.ca",
    "etcd.cert",
    "etcd.key",
    "replication.mode",
    "replication.acks",
    "replication.members",
    "replication.maximum_lag",
    "replication.rewind",
    "replication.slots",
    "replication.degrade_after",
    "replication.max_slot_wal_keep_size",
    "failover.automatic",
    "failover.unfenced",
    "failover.lease_ttl",
    "failover.renew_interval",
    "failover.call_deadline",
    "failover.member_ttl",
    "failover.detection",
    "failover.promise_timeout",
    "failover.abort_after",
    "failover.storage_timeout",
    "guard.mode",
    "guard.net_margin",
    "guard.kill_lead",
    "guard.soft_lead",
    "guard.drift",
    "guard.socket",
    "guard.cgroup",
    "guard.group_kill",
    "guard.fuse",
    "guard.watchdog",
    "guard.watchdog_device",
    "guard.watchdog_timeout",
    "routing.write_port",
    "routing.read_port",
    "routing.status_port",
    "routing.grpc_port",
    "routing.max_connections",
    "routing.upstream_connections",
    "routing.queue_timeout",
    "routing.hold_timeout",
    "routing.stale_limit",
    "routing.connect_timeout",
    "routing.client_timeout",
    "routing.server_timeout",
    "routing.check_interval",
    "routing.check_timeout",
    "routing.check_rise",
    "routing.check_fall",
    "routing.drain_timeout",
    "routing.upgrade_timeout",
    "routing.maximum_read_lag",
    "routing.read_from_leader",
    "routing.cancelled_commits",
    "routing.lowered_commits",
    "routing.reads",
    "routing.balance",
    "routing.log_sessions",
    "routing.name_clients",
    "routing.pin_threads",
    "routing.tls",
    "routing.tls_certificate",
    "routing.tls_key",
    "routing.require_tls",
    "routing.proxy_protocol_from",
    "tls.ca",
    "tls.cert",
    "tls.key",
    "hooks.role_changed",
    "hooks.vip_changed",
    "hooks.vip_check",
    "hooks.vip_check_interval",
    "hooks.vip_timeout",
    "hooks.vip_user",
];

/// Keys of `secrets.toml`.
pub(crate) const SECRETS: &[&str] = &[
    "superuser_password",
    "replication_password",
    "rewind_password",
    "heartbeat_key",
    "vrrp_password",
    "vrrp_key",
    "vrrp_next_key",
];

/// The names that may stand directly in `table` (`""` is the top of the file), each once, in the order of the list.
pub(crate) fn children<'k>(keys: &'k [&'k str], table: &str) -> Vec<&'k str> {
    let mut names: Vec<&str> = Vec::new();
    for key in keys {
        let rest = match (table, key.strip_prefix(table)) {
            ("", _) => *key,
            (_, Some(rest)) if rest.starts_with('.') => &rest[1..],
            _ => continue,
        };
        let name = rest.split('.').next().unwrap_or(rest);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What to say about an unknown name: the nearest known one, the table in which it does exist, or the choice.
pub(crate) fn suggestion(keys: &[&str], table: &str, name: &str) -> String {
    let known = children(keys, table);
    let nearest = known
        .iter()
        .map(|candidate| (distance(candidate, &name.to_lowercase()), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4);
    if let Some((_, candidate)) = nearest {
        return format!("a known key: did you mean {candidate:?}?");
    }
    let elsewhere = keys.iter().find(|key| key.rsplit('.').next() == Some(name));
    if let Some((home, _)) = elsewhere.and_then(|key| key.rsplit_once('.')) {
        return format!("a known key: {name:?} belongs into [{home}]");
    }
    format!("one of {}", known.join(", "))
}

/// How many letters must be inserted, deleted, replaced or exchanged with their neighbour to come from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
