//! A backend dies: the server must not let clients in again by itself, because commits that no standby has confirmed are
//! visible after recovery.

use std::time::{Duration, Instant};

use crate::servers::{Servers, blocked, run};
use ha_core::postgres_view::PostgresProcess;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_crashed_backend_ends_the_server() {
    run("crashing::a_crashed_backend_ends_the_server", || async {
        let servers = Servers::new(1);
        let a = &servers.members[0];
        a.postgres.initialize(a.id.incarnation, &blocked(None)).await.unwrap();
        let before = a.instance().await.life;
        let backend: i32 = a
            .sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'matriarch-agent' LIMIT 1")
            .parse()
            .unwrap();
        kill(Pid::from_raw(backend), Signal::SIGKILL).unwrap();
        let begun = Instant::now();
        loop {
            let process = a.postgres.observe().await.process;
            if process == PostgresProcess::Stopped {
                break;
            }
            if let PostgresProcess::Running(instance) = &process {
                assert_eq!(instance.life, before);
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it goes on: {process:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Nobody but the agent starts it, and that is a new life, which passes the barrier.
        a.postgres.start(false, &blocked(None)).await.unwrap();
        assert_ne!(a.instance().await.life, before);
    });
}
