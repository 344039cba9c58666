//! The agent's part of the server's configuration: `matriarch.conf`, the line in `postgresql.conf` that includes it, the
//! settings on the command line, and `postgresql.auto.conf` cleaned of what would override them.

use std::collections::BTreeMap;

use ha_core::slot_name::slot_name;
use ha_decision::{ServerSettings, Upstream};

use super::control_data::Floors;
use super::durable_file;
use super::error::Error;
use super::pass_file;
use super::place::{INCLUDE_FILE, Place};

/// Settings that a user may override in `[postgres.parameters]`, with the reason for our default.
const DEFAULTS: &[(&str, &str)] = &[
    // A leader must let go of a dead standby before anybody waits for it.
    ("wal_sender_timeout", "5s"),
    // pg_rewind and standbys without a slot need the last WAL.
    ("wal_keep_size", "128MB"),
    ("password_encryption", "scram-sha-256"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
];

/// Settings of the cluster's users: parameters and lines for `pg_hba.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserSettings {
    /// Server parameters as text.
    pub parameters: BTreeMap<String, String>,
    /// Lines that follow the agent's own.
    pub hba: Vec<String>,
}

impl UserSettings {
    /// A parameter as a number, when it is one.
    fn number(&self, name: &str) -> Option<u64> {
        self.parameters.get(name)?.trim().parse().ok()
    }
}

/// The connection string for streaming from `upstream`. It names no password but the pass file of this epoch, so that
/// removing the file makes the whole string worthless. `connect_timeout` alone does not bound a walreceiver's connect.
pub(crate) fn primary_conninfo(place: &Place, upstream: &Upstream) -> String {
    let passfile = pass_file::path(place, upstream);
    let mut text = conninfo(place, upstream, &place.replication_user);
    text.push_str(&format!(
        " application_name={} passfile={}",
        quoted(&upstream.announced.to_string()),
        quoted(&passfile.to_string_lossy())
    ));
    text
}

/// Host, port, user, transport options.
pub(crate) fn conninfo(place: &Place, upstream: &Upstream, user: &str) -> String {
    let mut text = format!(
        "host={} port={} user={} connect_timeout=2 tcp_user_timeout=2000 keepalives=1 keepalives_idle=1 \
         keepalives_interval=1 keepalives_count=3 gssencmode=disable",
        quoted(&upstream.address),
        upstream.port,
        quoted(user)
    );
    match &place.tls {
        Some(tls) => {
            text.push_str(&format!(" sslmode=verify-ca sslrootcert={}", quoted(&tls.ca.to_string_lossy())));
        }
        None => text.push_str(" sslmode=disable"),
    }
    text
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// The values of `matriarch.conf`.
pub(crate) fn values(
    place: &Place,
    user: &UserSettings,
    settings: &ServerSettings,
) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let given = user.parameters.iter().filter(|(name, _)| ha_config::agent_owned(name).is_none());
    values.extend(given.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    // pg_rewind lets a single-user server recover, without our command line; with other values it would note them in
    // the control file, or refuse a slot.
    let arguments = start_arguments(place, user, None);
    let shared =
        ["wal_level", "wal_log_hints", "full_page_writes", "max_wal_senders", "max_replication_slots"];
    values.extend(arguments.into_iter().filter(|(name, _)| shared.contains(&name.as_str())));
    values.extend(owned_values(place, settings));
    values
}

/// The values that follow the decider and that nobody else may set.
pub(crate) fn owned_values(place: &Place, settings: &ServerSettings) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let mut set = |name: &str, value: String| values.insert(name.to_owned(), value);
    set("synchronous_standby_names", settings.standby_names.setting());
    set("restore_command", String::new());
    set("recovery_target_timeline", "latest".to_owned());
    set("max_slot_wal_keep_size", slot_keep_megabytes(place));
    // The leader counts on it to tell a standby that is idle from one that is lost.
    set("wal_receiver_status_interval", "1s".to_owned());
    set("wal_receiver_timeout", format!("{}ms", place.wal_receiver_timeout.as_millis()));
    match &settings.upstream {
        Some(upstream) => {
            set("primary_conninfo", primary_conninfo(place, upstream));
            set("primary_slot_name", if place.slots { slot_name(&place.me) } else { String::new() });
            set("wal_retrieve_retry_interval", "100ms".to_owned());
        }
        None => {
            set("primary_conninfo", String::new());
            set("primary_slot_name", String::new());
            // Without an upstream each retry is a log line, and there is nothing to retry.
            set("wal_retrieve_retry_interval", "5s".to_owned());
            // What is received must be replayed at once: a takeover waits for it, queries on a standby do not count.
            set("max_standby_streaming_delay", "0".to_owned());
            set("max_standby_archive_delay", "0".to_owned());
        }
    }
    values
}

fn slot_keep_megabytes(place: &Place) -> String {
    match place.max_slot_wal_keep_size {
        Some(bytes) => format!("{}MB", (bytes / (1024 * 1024)).max(1)),
        None => "-1".to_owned(),
    }
}

/// The names whose value in the server is compared with what was written.
pub(crate) const WATCHED: &[&str] =
    &["synchronous_standby_names", "primary_conninfo", "primary_slot_name", "restore_command"];

/// The text of `matriarch.conf`.
pub(crate) fn text(values: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# Written by pg-agent at every change; edits are lost. Parameters: [postgres.parameters] or `hactl edit-config`.\n",
    );
    for (name, value) in values {
        let value = value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n");
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    text
}

/// Settings for the postmaster's command line: they cannot be overridden by any file, `ALTER SYSTEM` included. A
/// standby (`floors`) refuses or pauses replay with smaller values than its primary had, so those are raised.
pub(crate) fn start_arguments(
    place: &Place,
    user: &UserSettings,
    floors: Option<&Floors>,
) -> Vec<(String, String)> {
    let at_least = |name: &str, least: u64| user.number(name).unwrap_or(least).max(least).to_string();
    let wal_level = match user.parameters.get("wal_level").map(String::as_str) {
        Some("logical") => "logical",
        _ => "replica",
    };
    let mut arguments: BTreeMap<&str, String> = BTreeMap::from([
        ("listen_addresses", place.address.to_string()),
        ("port", place.port.to_string()),
        ("unix_socket_directories", place.socket_dir.to_string_lossy().into_owned()),
        ("wal_level", wal_level.to_owned()),
        ("hot_standby", "on".to_owned()),
        ("wal_log_hints", "on".to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("fsync", "on".to_owned()),
        // A postmaster that recovers by itself after a crash lets clients in at once, and they would see commits that
        // no standby has confirmed. It must end instead: the next start keeps them out until the list has confirmed.
        ("restart_after_crash", "off".to_owned()),
        ("cluster_name", format!("{}/{}", place.cluster, place.me)),
        ("hba_file", place.data("pg_hba.conf").to_string_lossy().into_owned()),
        ("ident_file", place.data("pg_ident.conf").to_string_lossy().into_owned()),
        ("max_wal_senders", at_least("max_wal_senders", 10)),
        ("max_replication_slots", at_least("max_replication_slots", 10)),
        ("superuser_reserved_connections", at_least("superuser_reserved_connections", 3)),
    ]);
    match &place.tls {
        Some(tls) => {
            arguments.insert("ssl", "on".to_owned());
            arguments.insert("ssl_ca_file", tls.ca.to_string_lossy().into_owned());
            arguments.insert("ssl_cert_file", tls.cert.to_string_lossy().into_owned());
            arguments.insert("ssl_key_file", tls.key.to_string_lossy().into_owned());
        }
        None => {
            arguments.insert("ssl", "off".to_owned());
        }
    }
    if let Some(floors) = floors {
        for (name, default, floor) in floors.list() {
            let configured = match arguments.get(name) {
                Some(value) => value.parse().unwrap_or(default),
                None => user.number(name).unwrap_or(default),
            };
            if floor > configured {
                arguments.insert(name, floor.to_string());
            }
        }
    }
    arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Makes sure that the last line of `postgresql.conf` includes the agent's file; the rest stays as it is.
pub(crate) fn ensure_include(place: &Place) -> Result<(), Error> {
    let path = place.data("postgresql.conf");
    let present = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::file("read", &path)(error)),
    };
    durable_file::replace_if_changed(&path, &with_include(&present), 0o600).map(drop)
}

fn with_include(text: &str) -> String {
    let line = format!("include '{INCLUDE_FILE}'");
    let mut kept: Vec<&str> = text.lines().filter(|l| l.trim() != line).collect();
    while kept.last().is_some_and(|l| l.trim().is_empty()) {
        kept.pop();
    }
    let mut out = kept.join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    out + &line + "\n"
}

/// Takes everything out of `postgresql.auto.conf` that would override the agent. Says what it took out.
pub(crate) fn strip_auto_conf(place: &Place) -> Result<Vec<String>, Error> {
    let path = place.data("postgresql.auto.conf");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Vec::new()) };
    let (kept, stripped) = without_owned(&text);
    if !stripped.is_empty() {
        tracing::warn!(parameters = %stripped.join(", "), "ALTER SYSTEM had set what the agent owns; removed");
        durable_file::replace(&path, &kept, 0o600)?;
    }
    Ok(stripped)
}

/// The names in `postgresql.auto.conf` that the agent owns.
pub(crate) fn overridden_in_auto_conf(place: &Place) -> Vec<String> {
    let text = std::fs::read_to_string(place.data("postgresql.auto.conf")).unwrap_or_default();
    without_owned(&text).1
}

fn without_owned(text: &str) -> (String, Vec<String>) {
    const ALSO: [&str; 3] =
        ["wal_retrieve_retry_interval", "max_replication_slots", "superuser_reserved_connections"];
    let mut kept = String::new();
    let mut stripped = Vec::new();
    for line in text.lines() {
        let name: String = line
            .trim_start()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
            .collect::<String>()
            .to_ascii_lowercase();
        if ha_config::agent_owned(&name).is_some() || ALSO.contains(&name.as_str()) {
            stripped.push(name);
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    (kept, stripped)
}

#[cfg(test)]
mod tests;
