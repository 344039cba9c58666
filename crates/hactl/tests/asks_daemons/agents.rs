use ha_rpc::status_code::Outcome;
use tonic::Status;

use crate::world::World;

#[test]
fn a_switchover_goes_to_the_leader_and_ends_when_the_new_one_takes_writes() {
    let world = World::new(1).serve(&["pg1", "pg2"]);
    let (out, _) = world.expect(&["list"], 0);
    assert!(out.contains("epoch 3  synchronous: quorum 1 of pg2"), "{out}");
    // Nobody is there to confirm.
    let (_, err) = world.expect(&["switchover", "--candidate", "pg2"], 4);
    assert!(err.contains("--yes"), "{err}");
    assert!(world.asked().is_empty());
    let (out, _) = world.expect(&["switchover", "--candidate", "pg2", "--yes"], 0);
    assert!(out.starts_with("pg2 leads epoch 4 and takes writes; took "), "{out}");
    let (out, _) = world.expect(&["switchover", "--candidate", "pg1", "--without-stop", "--yes"], 0);
    assert!(out.starts_with("pg1 leads epoch 5 and takes writes; took "), "{out}");
    world.expect(&["switchover", "--candidate", "pg2", "--yes"], 0);
    assert_eq!(world.asked(), ["pg1 switchover", "pg2 switchover without a stop", "pg1 switchover"]);
    let (out, _) = world.expect(&["list", "--format", "json"], 0);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&rows[0]["Role"], &rows[1]["Role"]), (&"Sync Standby".into(), &"Leader".into()));
}

#[test]
fn refusals_and_broken_connections_have_their_own_exit_codes() {
    let world = World::new(2).serve(&["pg1", "pg2"]);
    let switchover = &["switchover", "--candidate", "pg2", "--yes"];
    for (status, code, text) in [
        (Outcome::Refused.status("pg2 does not stream from the leader"), 3, "does not stream"),
        (Outcome::CalledOff.status("called off after 10 s: pg2 lags"), 1, "called off after 10 s"),
        (Status::unavailable("broken pipe"), 6, "the outcome is not known"),
    ] {
        *world.play.refusal.lock().unwrap() = Some(status);
        let (_, err) = world.expect(switchover, code);
        assert!(err.contains(text), "{err}");
    }
    for wrong in [&["switchover", "--leader", "pg2", "--yes"] as &[&str], &["restart", "pg9", "--yes"]] {
        world.expect(wrong, 3);
    }
}

#[test]
fn without_the_leader_a_failover_goes_to_the_listed_member() {
    let world = World::new(3).serve(&["pg2"]);
    let (out, _) = world.expect(&["list"], 0);
    assert!(out.contains("unreachable") && out.contains("? pg1: "), "{out}");
    let (_, err) = world.expect(&["switchover", "--yes"], 5);
    assert!(err.contains("pg1 leads, but its agent cannot be reached"), "{err}");
    let (out, _) = world.expect(&["failover", "--accept-data-loss", "--yes"], 0);
    assert!(out.contains("Not heard: pg1") && out.contains("pg2 leads epoch 4"), "{out}");
    assert_eq!(world.asked(), ["pg2 failover true"]);
}

#[test]
fn all_members_are_restarted_with_the_leader_last_and_only_if_all_are_there() {
    let world = World::new(4).serve(&["pg1", "pg2"]);
    world.expect(&["restart", "--yes"], 0);
    assert_eq!(world.asked(), ["pg2 restart", "pg1 restart"]);
    world.expect(&["reload"], 0);
    world.expect(&["pause", "--for", "30m", "--reason", "new kernel"], 0);
    world.expect(&["resume"], 0);
    world.expect(&["reinit", "pg2", "--yes"], 0);
    assert_eq!(
        world.asked(),
        ["pg1 reload", "pg2 reload", "pg1 pause 1800000 new kernel", "pg1 resume", "pg2 reinit"]
    );
    let half = World::new(5).serve(&["pg1"]);
    half.expect(&["restart", "--yes"], 5);
    assert!(half.asked().is_empty());
}

#[test]
fn without_any_agent_the_table_and_the_reasons_are_printed() {
    let world = World::new(6);
    let (out, err) = world.expect(&["list"], 5);
    assert!(out.contains("| pg1 "), "{out}");
    assert!(
        err.contains("no agent of cluster pg-cluster can be reached") && err.contains("systemctl"),
        "{err}"
    );
    let elsewhere = world.hactl(&["--cert-dir", "/nowhere", "list"]);
    assert_ne!(elsewhere.status.code(), Some(0));
}
