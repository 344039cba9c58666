use std::path::PathBuf;
use std::time::Duration;

use ha_config::{PostgresPaths, Secret, Secrets, Tls};
use ha_core::standby_names::{StandbyName, StandbyNames};
use ha_core::{Epoch, Incarnation, MemberId};
use ha_decision::Access;

use super::*;

fn place(tls: bool) -> Place {
    Place {
        cluster: "main".parse().unwrap(),
        me: "pg-2".parse().unwrap(),
        address: "10.0.1.12".parse().unwrap(),
        port: 5432,
        socket_dir: "/run/postgresql".into(),
        paths: PostgresPaths {
            major: 15,
            bin_dir: "/bin".into(),
            data_dir: "/data".into(),
            log_file: "/log".into(),
        },
        state_dir: "/state".into(),
        superuser: "postgres".into(),
        replication_user: "replicator".into(),
        rewind_user: "rewind_user".into(),
        secrets: Secrets {
            superuser_password: Secret::new("s3"),
            replication_password: Secret::new("r3"),
            rewind_password: Secret::new("w3"),
            heartbeat_key: None,
        },
        member_addresses: vec!["10.0.1.11".parse().unwrap()],
        tls: tls.then(|| Tls {
            ca: PathBuf::from("/tls/ca"),
            cert: "/tls/cert".into(),
            key: "/tls/key".into(),
        }),
        initdb: vec![],
        slots: true,
        max_slot_wal_keep_size: Some(1 << 30),
        wal_receiver_timeout: Duration::from_millis(1500),
    }
}

fn upstream() -> Upstream {
    Upstream {
        member: "pg1".parse().unwrap(),
        address: "10.0.1.11".into(),
        port: 5432,
        announced: StandbyName {
            member: MemberId::new("pg-2".parse().unwrap(), Incarnation(0xab)),
            epoch: Epoch(7),
        },
    }
}

fn settings(upstream: Option<Upstream>) -> ServerSettings {
    ServerSettings { standby_names: StandbyNames::blocked(), upstream, access: Access::Closed }
}

#[test]
fn the_connection_string_names_the_epochs_pass_file_and_no_password() {
    let text = primary_conninfo(&place(true), &upstream());
    assert!(text.contains("application_name='pg-2.i000000ab.e7' passfile='/state/pass/e7.pg1'"), "{text}");
    assert!(
        text.contains("sslmode=verify-ca sslrootcert='/tls/ca'") && text.contains("tcp_user_timeout=2000")
    );
    assert!(!text.contains("r3"), "{text}");
}

#[test]
fn users_cannot_set_what_the_agent_owns() {
    let user = UserSettings {
        parameters: BTreeMap::from([
            ("synchronous_standby_names".to_owned(), String::new()),
            ("wal_receiver_timeout".to_owned(), "9s".to_owned()),
            ("search_path".to_owned(), "it's".to_owned()),
        ]),
        hba: vec![],
    };
    let text = text(&values(&place(false), &user, &settings(None)));
    assert!(text.contains("synchronous_standby_names = 'ANY 1 (\"~blocked~\")'\n"), "{text}");
    assert!(text.contains("wal_receiver_timeout = '1500ms'\n") && text.contains("search_path = 'it''s'\n"));
    assert!(text.contains("primary_conninfo = ''\n") && text.contains("restore_command = ''\n"));
}

#[test]
fn retries_are_fast_only_with_an_upstream() {
    let with = owned_values(&place(false), &settings(Some(upstream())));
    let without = owned_values(&place(false), &settings(None));
    assert_eq!(with["wal_retrieve_retry_interval"], "100ms");
    assert_eq!(with["primary_slot_name"], "m_pg__2");
    assert_eq!(without["wal_retrieve_retry_interval"], "5s");
}

#[test]
fn a_standby_starts_with_at_least_its_primarys_values() {
    let floors = Floors {
        max_connections: 300,
        max_worker_processes: 8,
        max_wal_senders: 20,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
    };
    let value = |arguments: &[(String, String)], name: &str| {
        arguments.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    };
    let standby = start_arguments(&place(false), &UserSettings::default(), Some(&floors));
    assert_eq!(value(&standby, "max_connections").as_deref(), Some("300"));
    assert_eq!(value(&standby, "max_wal_senders").as_deref(), Some("20"));
    assert_eq!(value(&standby, "max_worker_processes"), None);
    let primary = start_arguments(&place(true), &UserSettings::default(), None);
    assert_eq!(value(&primary, "max_connections"), None);
    assert_eq!(value(&primary, "ssl_key_file").as_deref(), Some("/tls/key"));
}

#[test]
fn a_crashed_server_ends_instead_of_letting_clients_in_again_by_itself() {
    let user = UserSettings {
        parameters: BTreeMap::from([("restart_after_crash".to_owned(), "on".to_owned())]),
        hba: vec![],
    };
    let arguments = start_arguments(&place(false), &user, None);
    assert!(arguments.contains(&("restart_after_crash".to_owned(), "off".to_owned())), "{arguments:?}");
    let text = text(&values(&place(false), &user, &settings(None)));
    assert!(!text.contains("restart_after_crash"), "the file would say something else: {text}");
    assert_eq!(without_owned("restart_after_crash = on\n").1, ["restart_after_crash"]);
}

#[test]
fn the_include_is_the_last_line_once() {
    assert_eq!(
        with_include("a = 1\ninclude 'matriarch.conf'\nb = 2\n\n"),
        "a = 1\nb = 2\ninclude 'matriarch.conf'\n"
    );
    assert_eq!(with_include(""), "include 'matriarch.conf'\n");
    let once = with_include("a = 1\n");
    assert_eq!(with_include(&once), once);
}

#[test]
fn owned_parameters_leave_auto_conf_and_others_stay() {
    let text =
        "# Do not edit\nwork_mem = '8MB'\nPrimary_ConnInfo = 'host=evil'\nsynchronous_standby_names = ''\n";
    let (kept, stripped) = without_owned(text);
    assert_eq!(kept, "# Do not edit\nwork_mem = '8MB'\n");
    assert_eq!(stripped, ["primary_conninfo", "synchronous_standby_names"]);
}
