mod front;
mod leaderships;

use ha_rpc::proto::{GuardState, PolicyKind, ServerState};

use super::*;
use crate::args::Format;
use crate::overview::Overview;
use crate::overview::tests::{MIB, answers, cluster, healthy, reply, sync};

fn overview() -> Overview {
    let mut replies = healthy();
    replies[1].server.as_mut().unwrap().pending_restart = vec!["max_connections".to_owned()];
    replies[2].tags = [("nofailover", "true"), ("failover_priority", "3")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    Overview::new(&cluster(), answers(replies))
}

#[test]
fn a_healthy_cluster_is_a_table_and_nothing_else() {
    let replies = healthy();
    let text = list::render(&Overview::new(&cluster(), answers(replies)), &[], Format::Table, false).unwrap();
    let expected = "\
Cluster: pg-cluster (7512345678901234567)  epoch 4  synchronous: quorum 1 of pg2, pg3
+--------+-----------+--------------+-----------+----+-------------+-------------+------------+------------+-----------------+------+
| Member | Host      | Role         | State     | TL | Receive LSN | Receive Lag | Replay LSN | Replay Lag | Pending restart | Tags |
+===================================================================================================================================+
| pg1    | 10.0.1.11 | Leader       | running   |  3 |             |             |            |            |                 |      |
| pg2    | 10.0.1.12 | Sync Standby | streaming |  3 |    0/A00000 |           0 |   0/A00000 |          0 |                 |      |
| pg3    | 10.0.1.13 | Sync Standby | streaming |  3 |    0/700000 |           3 |   0/700000 |          3 |                 |      |
+--------+-----------+--------------+-----------+----+-------------+-------------+------------+------------+-----------------+------+
";
    assert_eq!(text, expected);
}

#[test]
fn json_has_bytes_and_leaves_out_what_is_not_known() {
    let text = list::render(&overview(), &[], Format::Json, true).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value[0]["Role"], "Leader");
    assert_eq!(value[0]["Receive LSN"], "0/A00000");
    assert!(value[0].get("Receive Lag").is_none());
    assert_eq!(value[1]["Pending restart"][0], "max_connections");
    assert_eq!(value[2]["Replay Lag"], 3 * MIB);
    assert_eq!(value[2]["Tags"], serde_json::json!({"nofailover": true, "failover_priority": 3}));
    // The order of the columns is kept.
    let first: Vec<usize> = ["\"Cluster\"", "\"Member\"", "\"Host\"", "\"Role\"", "\"State\"", "\"TL\""]
        .map(|key| text.find(key).unwrap())
        .into();
    assert!(first.is_sorted(), "{text}");
    assert!(list::render(&overview(), &[], Format::Yaml, true).unwrap().contains("Member: pg1\n"));
}

#[test]
fn tsv_is_a_header_and_one_line_per_member() {
    let text = list::render(&overview(), &[], Format::Tsv, true).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].starts_with("Cluster\tMember\tHost\tRole\tState\tTL\tReceive LSN\tReceive Lag"));
    assert_eq!(
        lines[2],
        "pg-cluster\tpg2\t10.0.1.12\tSync Standby\tstreaming\t3\t0/A00000\t0\t0/A00000\t0\t*\t"
    );
    assert!(lines.iter().all(|line| line.matches('\t').count() == 11));
    assert_eq!(tsv_line(["a\tb", "c\nd"]), "a b\tc d\n");
}

#[test]
fn what_a_human_must_see_stands_above_and_below_the_table() {
    let mut pinned = sync(6, "pg1", &[]);
    pinned.policy = PolicyKind::Pinned.into();
    pinned.k = 0;
    let mut leader = reply("pg1", ServerState::RunningPrimary, 10 * MIB, pinned.clone());
    leader.alarms = vec!["PINNED: pg1 alone holds the last commits".to_owned()];
    leader.paused = Some("kernel update".to_owned());
    let mut second = reply("pg2", ServerState::Stopped, 0, pinned);
    second.alarms.clone_from(&leader.alarms);
    second.blocked = Some("waiting for pg1".to_owned());
    second.paused.clone_from(&leader.paused);
    second.file_digest = "ffffffffffffffff".to_owned();
    let overview = Overview::new(&cluster(), answers(vec![leader, second]));
    let text = list::render(&overview, &[], Format::Table, true).unwrap();
    for part in [
        "\u{1b}[1;31mPINNED: pg1 alone holds the last commits\u{1b}[0m",
        "Maintenance mode: on (kernel update)",
        "! PINNED: pg1 alone holds the last commits [pg1, pg2]",
        "! pg2: waiting for pg1",
        "! pg1 does not take writes: pg1 does something",
        "? pg3: no answer",
        "cluster.toml differs between the members: pg1 0123456789abcdef, pg2 ffffffffffffffff",
        "unreachable",
        "stopped",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!list::render(&overview, &[], Format::Table, false).unwrap().contains('\u{1b}'));
}

#[test]
fn status_shows_one_member_in_depth() {
    let mut replies = healthy();
    replies[0].guard = Some(GuardState {
        armed: true,
        deadline_ms_left: Some(6200),
        answers: true,
        layers: vec!["guard".to_owned(), "hardware watchdog".to_owned()],
        degraded: vec!["memory is not locked".to_owned()],
        watchdog: "/dev/watchdog0 (i6300ESB timer)".to_owned(),
        watchdog_timeout_ms: Some(5000),
    });
    let overview = Overview::new(&cluster(), answers(replies));
    let text = status::render(&overview, Some("pg1"), Format::Table, false).unwrap();
    for part in [
        "epoch            4 (generation 40, revision 400)",
        "pg1 (Leader, running)",
        "doing          pg1 does something",
        "guard          armed, deadline in 6200 ms unless renewed",
        "guard layers   guard, hardware watchdog",
        "guard          degraded: memory is not locked",
        "watchdog       /dev/watchdog0",
        "PostgreSQL     17.6",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!text.contains("pg2 ("), "{text}");
    let table = guard::render(&overview, Format::Table, false).unwrap();
    for part in
        ["hardware watchdog", "resets 5 s after", "! pg1: memory is not locked", "? pg2: its guard does not"]
    {
        assert!(table.contains(part), "{part:?} is missing in:\n{table}");
    }
    let json = guard::render(&overview, Format::Json, false).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value[0]["watchdog_timeout_ms"], 5000);
    let json = status::render(&overview, None, Format::Json, false).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["leader"], "pg1");
    assert_eq!(value["policy"]["kind"], "quorum");
    assert_eq!(value["members"][0]["guard_deadline_ms_left"], 6200);
    assert_eq!(value["members"][2]["replay_lag_bytes"], 3 * MIB);
    assert!(status::render(&overview, None, Format::Yaml, false).unwrap().contains("kind: quorum"));
    assert!(status::render(&overview, None, Format::Tsv, false).unwrap().contains("pg1\tguard\tarmed"));
}
