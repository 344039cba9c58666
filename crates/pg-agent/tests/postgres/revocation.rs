//! A revocation holds against everything that could undo it.

use std::time::{Duration, Instant};

use crate::servers::{Servers, blocked, run};
use ha_core::Epoch;
use ha_core::postgres_view::PostgresProcess;
use ha_decision::StopMode;

#[test]
fn the_old_connection_string_is_worthless_after_a_revocation() {
    run("revocation::the_old_connection_string_is_worthless_after_a_revocation", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        let [a, b] = &servers.members[..] else { unreachable!() };
        let include = b.place.paths.data_dir.join("matriarch.conf");
        let old = std::fs::read_to_string(&include).unwrap();
        b.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap();

        std::fs::write(&include, old).unwrap();
        let log_before = std::fs::read_to_string(&b.place.paths.log_file).unwrap().len();
        b.sql("SELECT pg_reload_conf()");
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(&b.place.paths.log_file).unwrap();
            if log[log_before..].matches("no password supplied").count() >= 3 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no attempt to connect was seen: {log}");
            assert!(a.instance().await.senders.is_empty());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let drifted = b.wait("shows the edit", |i| !i.drifted.is_empty()).await.drifted;
        assert!(drifted.contains(&"primary_conninfo".to_owned()), "{drifted:?}");
    });
}

#[test]
fn a_stopped_standby_is_started_to_tell_its_position() {
    run("revocation::a_stopped_standby_is_started_to_tell_its_position", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        let [a, b] = &servers.members[..] else { unreachable!() };
        a.sql("CREATE TABLE t (n int)");
        b.postgres.stop(StopMode::Immediate).await.unwrap();
        let flush = a.instance().await.flush;
        let (_, position) = b.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap();
        assert!(position <= flush, "{position} is beyond {flush}");
        let instance = b.instance().await;
        assert!(instance.in_recovery && instance.receiver.is_none(), "{instance:?}");
        assert_eq!(b.sql("SELECT count(*) FROM t"), "0", "the table's commit was confirmed by this standby");
    });
}

#[test]
fn an_edited_list_is_seen_as_drift_and_corrected() {
    run("revocation::an_edited_list_is_seen_as_drift_and_corrected", || async {
        let servers = Servers::new(1);
        let a = &servers.members[0];
        a.postgres.initialize(a.id.incarnation, &blocked(None)).await.unwrap();
        a.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
        a.sql("ALTER SYSTEM SET work_mem = '5MB'");
        a.sql("SELECT pg_reload_conf()");
        a.wait("shows drift", |i| i.drifted.contains(&"synchronous_standby_names".to_owned())).await;
        a.postgres.configure(blocked(None)).await.unwrap();
        let instance = a.wait("is corrected", |i| i.drifted.is_empty()).await;
        assert_eq!(instance.standby_names, "ANY 1 (\"~blocked~\")");
        assert_eq!(a.sql("SHOW work_mem"), "5MB", "what the agent does not own stays");
    });
}

#[test]
fn a_frozen_server_is_silent_and_not_stopped() {
    run("revocation::a_frozen_server_is_silent_and_not_stopped", || async {
        use nix::sys::signal::{Signal, kill};
        let servers = Servers::new(1);
        let a = &servers.members[0];
        assert_eq!(a.postgres.observe().await.process, PostgresProcess::Stopped);
        a.postgres.initialize(a.id.incarnation, &blocked(None)).await.unwrap();
        a.instance().await;
        let backend = a.sql(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'matriarch-agent' AND backend_type = 'client backend'",
        );
        let backend = nix::unistd::Pid::from_raw(backend.parse().unwrap());
        kill(backend, Signal::SIGSTOP).unwrap();
        assert_eq!(a.postgres.observe().await.process, PostgresProcess::Silent);
        kill(backend, Signal::SIGCONT).unwrap();
        a.instance().await;
    });
}
