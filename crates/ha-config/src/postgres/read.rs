//! `[postgres]` and `[database.postgres]` from the file.

use std::collections::BTreeMap;

use super::{NEWEST_MAJOR, OLDEST_MAJOR, Postgres};
use crate::owned_parameters::agent_owned;
use crate::reader::{At, Table};

/// Arguments of initdb that the agent gives itself.
const OWNED_INITDB: [&str; 10] = [
    "-D",
    "--pgdata",
    "-U",
    "--username",
    "-A",
    "--auth",
    "--auth-host",
    "--auth-local",
    "--pwfile",
    "--pwprompt",
];

/// Values of `synchronous_commit` that take every session out of the guarantee.
const WEAK_COMMITS: [&str; 6] = ["off", "false", "no", "0", "local", "remote_write"];

/// First words of a line of pg_hba.conf.
const HBA_TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];

impl Postgres {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let default = Self::default();
        let read = Self {
            version: table.number("version", OLDEST_MAJOR..=NEWEST_MAJOR),
            bin_dir: table.path("bin_dir"),
            data_dir: table.path("data_dir"),
            port: table.port("port").unwrap_or(default.port),
            socket_dir: table.path("socket_dir").unwrap_or(default.socket_dir),
            log_file: table.path("log_file"),
            os_user: read_os_user(table).unwrap_or(default.os_user),
            superuser: read_role(table, "superuser").unwrap_or(default.superuser),
            replication_user: read_role(table, "replication_user").unwrap_or(default.replication_user),
            rewind_user: read_role(table, "rewind_user").unwrap_or(default.rewind_user),
            parameters: read_parameters(&table.table("parameters")),
            hba: read_hba(table),
            initdb: read_initdb(table),
        };
        read.check_roles(table);
        read
    }

    /// These settings with the overrides of one host, `[database.postgres]`.
    pub(crate) fn read_overrides(&self, table: &Table<'_>) -> Self {
        let mut host = self.clone();
        host.port = table.port("port").unwrap_or(host.port);
        host.data_dir = table.path("data_dir").or(host.data_dir);
        host.bin_dir = table.path("bin_dir").or(host.bin_dir);
        host.parameters.extend(read_parameters(&table.table("parameters")));
        host
    }

    /// Each role has its own password and its own rights.
    fn check_roles(&self, table: &Table<'_>) {
        let roles = [
            ("superuser", &self.superuser),
            ("replication_user", &self.replication_user),
            ("rewind_user", &self.rewind_user),
        ];
        for (index, (key, role)) in roles.iter().enumerate() {
            let earlier = roles.iter().take(index).find(|(_, other)| other == role);
            if let Some((other, _)) = earlier {
                // Report the key that stands in the file.
                let (at, twin) = if table.has(key) { (*key, *other) } else { (*other, *key) };
                table.refuse(
                    at,
                    format!("{role:?}"),
                    format!("a role of its own: postgres.{twin} is the same"),
                );
            }
        }
    }
}

fn read_os_user(table: &Table<'_>) -> Option<String> {
    let expected = "an operating system user other than root: PostgreSQL refuses to run as root";
    let user = table.read("os_user", expected, |value| {
        value
            .as_str()
            .filter(|name| *name != "root" && !name.is_empty())
            .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
            .map(str::to_owned)
    });
    user.map(|at| at.value)
}

fn read_role(table: &Table<'_>, key: &str) -> Option<String> {
    let expected =
        "a role name: 1 to 63 of a-z, 0-9 and '_', beginning with a letter or '_', not with \"pg_\"";
    let role = table.read(key, expected, |value| {
        value
            .as_str()
            .filter(|name| (1..=63).contains(&name.len()) && !name.starts_with("pg_"))
            .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_'))
            .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
            .map(str::to_owned)
    });
    role.map(|at| at.value)
}

fn read_parameters(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    for (name, At { value, line, key }) in table.free_entries() {
        let name = name.to_ascii_lowercase();
        let well_formed =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
        if !well_formed {
            table.report.push(
                line,
                key,
                "this name",
                "the name of a server parameter: letters, digits, '_', '.'",
            );
        } else if let Some(reason) = agent_owned(&name) {
            let found = format!("{value:?}");
            table.report.push(line, key, found, format!("nothing: the agent sets {name} itself; {reason}"));
        } else if name == "synchronous_commit" && WEAK_COMMITS.contains(&value.to_ascii_lowercase().as_str())
        {
            let wanted = "\"on\" or \"remote_apply\" for the whole server: sessions, roles and databases may choose less for themselves";
            table.report.push(line, key, format!("{value:?}"), wanted);
        } else if value.contains(['\n', '\r', '\0']) {
            table.report.push(line, key, "text of several lines", "a value on one line");
        } else if parameters.insert(name.clone(), value).is_some() {
            table.report.push(
                line,
                key,
                "a second value",
                format!("{name} once: upper and lower case are the same"),
            );
        }
    }
    parameters
}

fn read_hba(table: &Table<'_>) -> Vec<String> {
    let expected = "a line of pg_hba.conf, such as \"hostssl all all 10.0.0.0/8 scram-sha-256\"";
    let lines = table.list("hba", expected).unwrap_or_default();
    let mut hba = Vec::new();
    for At { value, line, key } in lines {
        let words: Vec<&str> = value.split_whitespace().collect();
        let comment = value.trim_start().starts_with('#');
        if !comment && !HBA_TYPES.iter().any(|kind| words.first() == Some(kind)) {
            table.report.push(line, key, format!("{value:?}"), expected);
            continue;
        }
        let databases = words.get(1).copied().unwrap_or_default();
        if !comment && databases.split(',').any(|name| name == "replication") && words.contains(&"trust") {
            let wanted =
                "\"scram-sha-256\" or \"cert\" instead of \"trust\": whoever may replicate reads everything";
            table.report.push(line, key, format!("{value:?}"), wanted);
            continue;
        }
        hba.push(value);
    }
    hba
}

fn read_initdb(table: &Table<'_>) -> Vec<String> {
    let expected = "an argument of initdb, such as \"--locale=C.UTF-8\"";
    let arguments = table.list("initdb", expected).unwrap_or_default();
    let mut initdb = Vec::new();
    for At { value, line, key } in arguments {
        let option = value.split('=').next().unwrap_or_default();
        if OWNED_INITDB.contains(&option) {
            let wanted =
                "nothing: the agent gives initdb the directory, the superuser and the authentication";
            table.report.push(line, key, format!("{value:?}"), wanted);
        } else {
            initdb.push(value);
        }
    }
    initdb
}
