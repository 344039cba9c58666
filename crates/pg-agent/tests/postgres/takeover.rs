//! The jobs of a bootstrap, a planned takeover and a return without rewind, on three real servers.

use crate::servers::{Servers, any_one, blocked, run};
use ha_core::{Epoch, Timeline};
use ha_decision::StopMode;

#[test]
fn a_clean_takeover_loses_nothing_and_needs_no_rewind() {
    run("takeover::a_clean_takeover_loses_nothing_and_needs_no_rewind", || async {
        let servers = Servers::new(3);
        let [a, b, c] = &servers.members[..] else { unreachable!() };

        a.postgres.initialize(a.id.incarnation, &blocked(None)).await.unwrap();
        let first = a.instance().await;
        assert!(!first.in_recovery && first.timeline == Timeline(1), "{first:?}");
        assert_eq!(first.standby_names, "ANY 1 (\"~blocked~\")");
        assert_eq!(first.drifted, Vec::<String>::new());
        let barrier = a.postgres.prove_blocked().await.unwrap();
        assert!(barrier > first.flush);

        for index in 1..3 {
            let upstream = servers.upstream(index, 0, 1);
            let standby = &servers.members[index];
            // The slot does not exist yet: the clone must do without.
            standby.postgres.clone_from(&upstream, standby.id.incarnation).await.unwrap();
            a.postgres.keep_slots(&[(b.id.name.clone(), None), (c.id.name.clone(), None)]).await.unwrap();
            standby.postgres.start(true, &blocked(Some(upstream))).await.unwrap();
            let instance =
                standby.wait("streams", |i| i.receiver.as_ref().is_some_and(|r| r.streaming)).await;
            assert_eq!(instance.receiver.unwrap().epoch, Some(Epoch(1)));
            assert!(instance.in_recovery && instance.drifted.is_empty(), "{:?}", instance.drifted);
        }
        let both = [b.id.clone(), c.id.clone()].into();
        a.postgres.configure(any_one(&both, 1)).await.unwrap();
        a.postgres.mark_epoch(Epoch(1)).await.unwrap();
        a.wait("has two synchronous walsenders", |i| {
            i.senders.iter().filter(|s| s.name.is_some() && s.streaming && s.sync_priority > 0).count() == 2
        })
        .await;
        a.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)");

        let end = a.postgres.stop(StopMode::Fast).await.unwrap().expect("a clean stop has an end");
        let (timeline, flush) = b.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap();
        assert_eq!((timeline, flush), (Timeline(1), end), "the standby has the last byte and no more");
        assert_eq!(c.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap(), (Timeline(1), end));
        assert_eq!(std::fs::read_dir(b.place.state_dir.join("pass")).unwrap().count(), 0);

        // Timeline 2 was reserved by a leadership that never came to be.
        b.postgres.keep_slots(&[(a.id.name.clone(), None), (c.id.name.clone(), None)]).await.unwrap();
        b.postgres.configure(any_one(&[c.id.clone()].into(), 2)).await.unwrap();
        b.postgres.promote(Timeline(3), &[Timeline(2)]).await.unwrap();
        let promoted = b.instance().await;
        assert!(!promoted.in_recovery && promoted.timeline == Timeline(3), "{promoted:?}");
        assert_eq!(promoted.history.len(), 1, "{:?}", promoted.history);
        assert_eq!(promoted.history[0].0, Timeline(1));

        c.postgres.configure(blocked(Some(servers.upstream(2, 1, 2)))).await.unwrap();
        b.postgres.mark_epoch(Epoch(2)).await.unwrap();
        let followed = c.wait("follows", |i| i.timeline == Timeline(3)).await;
        assert_eq!(followed.receiver.unwrap().epoch, Some(Epoch(2)));

        a.postgres.start(true, &blocked(Some(servers.upstream(0, 1, 2)))).await.unwrap();
        a.wait("returns", |i| i.timeline == Timeline(3) && i.receiver.as_ref().is_some_and(|r| r.streaming))
            .await;
        // A standby that has fetched the placeholder can start again.
        c.postgres.stop(StopMode::Fast).await.unwrap();
        c.postgres.start(true, &blocked(Some(servers.upstream(2, 1, 2)))).await.unwrap();
        c.wait("streams again", |i| i.receiver.as_ref().is_some_and(|r| r.streaming)).await;
        assert_eq!(b.sql("SELECT n FROM kept"), "1");
        b.postgres.checkpoint().await.unwrap();
        b.wait("shows its checkpoint", |i| i.checkpoint_timeline == Timeline(3)).await;

        for server in &servers.members {
            let log = std::fs::read_to_string(&server.place.paths.log_file).unwrap();
            assert!(!log.contains("secret"), "a password reached the log of {}", server.id);
        }
    });
}

#[test]
fn another_timeline_than_the_reserved_one_is_refused_before_promoting() {
    run("takeover::another_timeline_than_the_reserved_one_is_refused_before_promoting", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        let b = &servers.members[1];
        b.postgres.revoke(Epoch(1), &blocked(None)).await.unwrap();
        let refused = b.postgres.promote(Timeline(4), &[Timeline(2)]).await.unwrap_err();
        assert!(refused.to_string().contains("would take timeline 3"), "{refused}");
        assert!(b.instance().await.in_recovery);
        // The placeholder is unused now, and a standby would not start over it.
        b.postgres.stop(StopMode::Fast).await.unwrap();
        b.postgres.start(true, &blocked(None)).await.unwrap();
        assert!(b.instance().await.in_recovery);
    });
}
