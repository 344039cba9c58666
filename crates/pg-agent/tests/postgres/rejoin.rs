//! A diverged old primary comes back by rewind, and by a new clone.

use crate::servers::{Servers, any_one, blocked, run};
use ha_core::postgres_view::{DataDirectory, PostgresProcess};
use ha_core::{Epoch, Incarnation, Timeline};
use ha_decision::StopMode;

/// pg1 crashed with a commit that nobody else has; pg2 leads on timeline 2.
async fn diverge(servers: &Servers) {
    let [a, b] = &servers.members[..] else { unreachable!() };
    b.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap();
    a.sql("SET synchronous_commit = local; CREATE TABLE lost (n int)");
    assert_eq!(a.postgres.stop(StopMode::Immediate).await.unwrap(), None);
    assert_eq!(a.postgres.observe().await.process, PostgresProcess::Stopped);
    b.postgres.configure(any_one(&[a.id.clone()].into(), 2)).await.unwrap();
    b.postgres.promote(Timeline(2), &[]).await.unwrap();
    b.postgres.checkpoint().await.unwrap();
    b.postgres.keep_slots(&[(a.id.name.clone(), None)]).await.unwrap();
    b.sql("SET synchronous_commit = local; CREATE TABLE won (n int)");
}

async fn follows_again(servers: &Servers, incarnation: Incarnation) {
    let [a, b] = &servers.members[..] else { unreachable!() };
    let DataDirectory::Present(facts) = a.postgres.observe().await.data else { panic!("no data") };
    assert_eq!(facts.incarnation, Some(incarnation));
    a.postgres.start(true, &blocked(Some(servers.upstream(0, 1, 2)))).await.unwrap();
    let target = b.instance().await.flush;
    a.wait("catches up", |i| i.timeline == Timeline(2) && i.replay >= target).await;
    assert_eq!(a.sql("SELECT to_regclass('lost') IS NULL AND to_regclass('won') IS NOT NULL"), "t");
    assert_eq!(a.sql("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn an_old_primary_is_rewound() {
    run("rejoin::an_old_primary_is_rewound", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        diverge(&servers).await;
        let source = servers.upstream(0, 1, 2);
        servers.members[0].postgres.rewind(&source, Incarnation(0x77)).await.unwrap();
        follows_again(&servers, Incarnation(0x77)).await;
    });
}

#[test]
fn an_old_primary_is_cloned_and_its_data_kept_aside() {
    run("rejoin::an_old_primary_is_cloned_and_its_data_kept_aside", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        diverge(&servers).await;
        let a = &servers.members[0];
        let source = servers.upstream(0, 1, 2);
        a.postgres.clone_from(&source, Incarnation(0x88)).await.unwrap();
        follows_again(&servers, Incarnation(0x88)).await;
        let home = a.place.paths.data_dir.parent().unwrap();
        let aside = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("data.old-");
        assert_eq!(std::fs::read_dir(home).unwrap().flatten().filter(aside).count(), 1);
    });
}

#[test]
fn an_unreachable_source_changes_nothing() {
    run("rejoin::an_unreachable_source_changes_nothing", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        diverge(&servers).await;
        let [a, b] = &servers.members[..] else { unreachable!() };
        b.postgres.stop(StopMode::Fast).await.unwrap();
        let source = servers.upstream(0, 1, 2);
        let failure = a.postgres.rewind(&source, Incarnation(0x77)).await.unwrap_err();
        let failure = ha_decision::JobFailure::from(failure);
        assert!(!failure.needs_clone, "{failure:?}");
        assert!(a.postgres.clone_from(&source, Incarnation(0x88)).await.is_err());
        let DataDirectory::Present(facts) = a.postgres.observe().await.data else { panic!("no data") };
        assert_eq!(facts.incarnation, Some(a.id.incarnation));
    });
}

#[test]
fn servers_with_certificates_clone_stream_and_rewind_encrypted() {
    run("rejoin::servers_with_certificates_clone_stream_and_rewind_encrypted", || async {
        let servers = Servers::with_certificates(2);
        servers.bring_up().await;
        let [a, b] = &servers.members[..] else { unreachable!() };
        let encrypted =
            "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid) HAVING count(*) > 0";
        assert_eq!(a.sql(encrypted), "t");
        diverge(&servers).await;
        a.postgres.rewind(&servers.upstream(0, 1, 2), Incarnation(0x77)).await.unwrap();
        follows_again(&servers, Incarnation(0x77)).await;
        assert_eq!(b.sql(encrypted), "t");
    });
}
