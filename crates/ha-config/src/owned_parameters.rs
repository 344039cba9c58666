//! Server parameters that the agent sets itself, and why nobody else may.

/// Exact names and their reasons.
const OWNED: &[(&str, &str)] = &[
    (
        "synchronous_standby_names",
        "it follows the sync record in etcd; anything else could acknowledge lost commits",
    ),
    ("primary_conninfo", "it follows the leader"),
    ("primary_slot_name", "it follows the leader"),
    ("restore_command", "a member that promised away its leader must not get its log by another way"),
    ("listen_addresses", "PostgreSQL listens on the host's `address` only"),
    ("port", "write it as postgres.port"),
    ("unix_socket_directories", "write it as postgres.socket_dir"),
    ("wal_receiver_status_interval", "the leader counts on it to tell an idle standby from a lost one"),
    ("wal_receiver_timeout", "it follows failover.detection, so that an idle leader is seen to live"),
    ("wal_level", "replication and pg_rewind need \"replica\""),
    ("hot_standby", "standbys must answer the agent's questions"),
    ("wal_log_hints", "pg_rewind needs it"),
    ("fsync", "without it a confirmed commit can be lost on any member"),
    ("full_page_writes", "without it crash recovery and pg_rewind may corrupt data"),
    (
        "restart_after_crash",
        "after a crash clients must stay out until the standbys have confirmed what became visible; the agent starts it again",
    ),
    ("cluster_name", "it names the cluster and the member"),
    ("hba_file", "the agent writes it; add lines as postgres.hba"),
    ("ident_file", "the agent writes it"),
    ("config_file", "the agent writes it"),
    ("data_directory", "write it as postgres.data_dir"),
    ("promote_trigger_file", "only the agent promotes, after it was decided"),
    ("trigger_file", "only the agent promotes, after it was decided"),
    ("standby_mode", "the agent decides which member is a standby"),
    ("max_slot_wal_keep_size", "write it as replication.max_slot_wal_keep_size"),
    ("data_sync_retry", "after a failed flush nothing that is in memory may be trusted"),
    (
        "recovery_min_apply_delay",
        "a takeover waits until a member has replayed what it holds, and would wait for the delay",
    ),
];

/// Beginnings of names and their reasons.
const OWNED_PREFIXES: &[(&str, &str)] = &[
    (
        "recovery_target",
        "standbys follow the newest timeline; a restore to a point in time is not a member's business",
    ),
    ("ssl", "PostgreSQL uses the host's certificate ([tls])"),
];

/// Why the agent alone sets this parameter; `None` when `[postgres.parameters]` may.
pub fn agent_owned(parameter: &str) -> Option<&'static str> {
    let name = parameter.to_ascii_lowercase();
    let exact = OWNED.iter().find(|(owned, _)| *owned == name);
    exact
        .or_else(|| OWNED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)))
        .map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::agent_owned;

    #[test]
    fn owned_parameters_are_recognised_in_any_case_and_by_prefix() {
        for owned in ["Fsync", "synchronous_standby_names", "ssl_cert_file", "ssl", "recovery_target_lsn"] {
            assert!(agent_owned(owned).is_some(), "{owned}");
        }
        // Each of these takes a guarantee away without a sign.
        for owned in ["restart_after_crash", "data_sync_retry", "recovery_min_apply_delay"] {
            assert!(agent_owned(owned).is_some(), "{owned}");
        }
        for free in ["max_connections", "shared_buffers", "archive_command", "pg_stat_statements.max"] {
            assert!(agent_owned(free).is_none(), "{free}");
        }
    }
}
