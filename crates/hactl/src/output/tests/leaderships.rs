//! The history of leaderships, told and untold.

use ha_rpc::proto::{HistoryEntry, LeadershipPhases};

use super::*;

fn entries() -> [HistoryEntry; 4] {
    let entry = |number: u32, leader: &str, reason: &str| HistoryEntry {
        timeline: number,
        epoch: u64::from(number),
        leader: leader.to_owned(),
        reason: reason.to_owned(),
        ..HistoryEntry::default()
    };
    let handed_over = LeadershipPhases {
        trigger: "leader_asked".to_owned(),
        checkpoint_ms: Some(31),
        hold_ms: Some(162),
        stop_ms: Some(190),
        detect_ms: Some(4),
        decide_ms: Some(112),
        promote_ms: Some(140),
        reattach_ms: Some(85),
        reroute_ms: Some(3),
        total_ms: Some(531),
        promises: [("pg3".to_owned(), 45)].into(),
        proxies: Some(2),
        ..LeadershipPhases::default()
    };
    let taken_over = LeadershipPhases {
        trigger: "leader_silent".to_owned(),
        detect_ms: Some(12_409),
        decide_ms: Some(307),
        promote_ms: Some(251),
        wal_silent_ms: Some(12_409),
        refusals: [("pg3".to_owned(), "it still hears the leader".to_owned())].into(),
        ..LeadershipPhases::default()
    };
    [
        entry(1, "pg1", "initdb"),
        HistoryEntry { from_lsn: Some(10 * MIB), ..entry(2, "pg2", "the leader asked for it") },
        HistoryEntry {
            from_lsn: Some(11 * MIB),
            at: "2026-11-29T00:26:53.042Z".to_owned(),
            phases: Some(handed_over),
            ..entry(3, "pg1", "the leader asked for it")
        },
        HistoryEntry {
            from_lsn: Some(12 * MIB),
            at: "2026-11-29T01:02:03Z".to_owned(),
            phases: Some(taken_over),
            ..entry(4, "pg2", "the leader fell silent: neither its agent nor its WAL is heard")
        },
    ]
}

#[test]
fn history_is_a_row_for_each_leadership() {
    let text = history::render(&entries(), Format::Table).unwrap();
    let expected = "\
+----+-------+--------+----------------------+--------+---------+--------+---------+----------+---------+--------+-------------------------+
| TL | Epoch | Leader | When                 |   Stop |  Detect | Decide | Promote | Reattach | Reroute |  Total | Why                     |
+==========================================================================================================================================+
|  1 |     1 | pg1    |                      |        |         |        |         |          |         |        | initdb                  |
|  2 |     2 | pg2    |                      |        |         |        |         |          |         |        | the leader asked for it |
|  3 |     3 | pg1    | 2026-11-29T00:26:53Z | 0.19 s |  0.00 s | 0.11 s |  0.14 s |   0.08 s |  0.00 s | 0.53 s | switchover              |
|  4 |     4 | pg2    | 2026-11-29T01:02:03Z |        | 12.40 s | 0.30 s |  0.25 s |          |         |        | leader silent           |
+----+-------+--------+----------------------+--------+---------+--------+---------+----------+---------+--------+-------------------------+
";
    assert_eq!(text, expected);
    assert_eq!(history::render(&[], Format::Json).unwrap(), "[]\n");
}

#[test]
fn json_tells_everything_and_yaml_the_same() {
    let text = history::render(&entries(), Format::Json).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&value[0]["from_lsn"], &value[1]["from_lsn"]),
        (&serde_json::Value::Null, &"0/A00000".into())
    );
    assert!(value[0]["phases"].is_null() && value[0]["at"].is_null());
    assert_eq!(value[2]["at"], "2026-11-29T00:26:53.042Z");
    assert_eq!(value[2]["phases"]["hold_ms"], 162);
    assert_eq!(value[2]["phases"]["promises_ms"], serde_json::json!({"pg3": 45}));
    assert_eq!(value[3]["phases"]["trigger"], "leader_silent");
    assert_eq!(value[3]["phases"]["refusals"]["pg3"], "it still hears the leader");
    assert!(value[3]["phases"]["reattach_ms"].is_null());
    let yaml = history::render(&entries(), Format::Yaml).unwrap();
    assert!(yaml.contains("leader: pg2") && yaml.contains("    stop_ms: 190\n"), "{yaml}");
}

#[test]
fn tsv_keeps_its_first_columns() {
    let text = history::render(&entries(), Format::Tsv).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Epoch\tTL\tFrom LSN\tLeader\tWhen\tReason\tTrigger\t"), "{}", lines[0]);
    assert_eq!(lines[1], "1\t1\t\tpg1\t\tinitdb\t\t\t\t\t\t\t\t\t\t");
    assert_eq!(
        lines[3],
        "3\t3\t0/B00000\tpg1\t2026-11-29T00:26:53.042Z\tthe leader asked for it\tleader_asked\t31\t162\t190\t4\t112\t140\t85\t3\t531"
    );
}
