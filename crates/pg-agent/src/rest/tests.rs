use ha_core::MonoTime;
use ha_core::postgres_view::PostgresProcess;
use ha_decision::MemberRole;
use serde_json::{Value, json};

use super::answer::{Answer, Asked, answer};
use super::fixture::{NOW, leader, standby};
use crate::snapshot::AgentSnapshot;

fn ask(method: &str, target: &str, picture: &AgentSnapshot) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    answer(&Asked { method, path, query }, Some(picture), NOW)
}

fn code(target: &str, picture: &AgentSnapshot) -> u16 {
    ask("GET", target, picture).code
}

fn page(target: &str, picture: &AgentSnapshot) -> Value {
    serde_json::from_str(&ask("GET", target, picture).body.unwrap()).unwrap()
}

/// Path; leader, listed standby, other standby, stopped standby, leader whose server gives no answer.
const CODES: &[(&str, [u16; 5])] = &[
    ("/", [200, 503, 503, 503, 200]),
    ("/primary", [200, 503, 503, 503, 200]),
    ("/master", [200, 503, 503, 503, 200]),
    ("/leader", [200, 503, 503, 503, 200]),
    ("/read-write", [200, 503, 503, 503, 200]),
    ("/x-primary", [200, 503, 503, 503, 200]),
    ("/standby-leader", [503, 503, 503, 503, 503]),
    ("/standby_leader", [503, 503, 503, 503, 503]),
    ("/replica", [503, 200, 200, 503, 503]),
    ("/replica?lag=1000", [503, 200, 503, 503, 503]),
    ("/replica?lag=1MB", [503, 200, 200, 503, 503]),
    ("/replica?tag_az=eu", [503, 503, 503, 503, 503]),
    ("/read-only", [200, 200, 200, 503, 200]),
    ("/read-only-sync", [200, 200, 503, 503, 200]),
    ("/read-only-synchronous", [200, 200, 503, 503, 200]),
    ("/read-only-quorum", [200, 200, 503, 503, 200]),
    ("/sync", [503, 200, 503, 503, 503]),
    ("/synchronous", [503, 200, 503, 503, 503]),
    ("/quorum", [503, 200, 503, 503, 503]),
    ("/async", [503, 503, 200, 503, 503]),
    ("/asynchronous", [503, 503, 200, 503, 503]),
    ("/health", [200, 200, 200, 503, 503]),
    ("/liveness", [200, 200, 200, 200, 200]),
    ("/readiness", [200, 200, 200, 503, 200]),
    ("/readiness?lag=1000", [200, 200, 503, 503, 200]),
    ("/patroni", [200, 200, 200, 200, 200]),
    ("/cluster", [200, 200, 200, 200, 200]),
    ("/history", [200, 200, 200, 200, 200]),
    ("/config", [502, 502, 502, 502, 502]),
    ("/metrics", [200, 200, 200, 200, 200]),
    ("/unheard-of", [503, 503, 503, 503, 503]),
];

fn pictures() -> [AgentSnapshot; 5] {
    let mut stopped = standby(MemberRole::Replica, 0);
    stopped.postgres.process = PostgresProcess::Stopped;
    let mut silent = leader();
    silent.postgres.process = PostgresProcess::Silent;
    [leader(), standby(MemberRole::SyncStandby, 0), standby(MemberRole::Replica, 4096), stopped, silent]
}

#[test]
fn every_path_has_its_code_in_every_role() {
    for (path, expected) in CODES {
        let got = pictures().map(|picture| code(path, &picture));
        assert_eq!(got, *expected, "{path}");
    }
}

#[test]
fn head_and_options_give_the_same_code_without_a_body_for_health_checks_only() {
    for (path, expected) in CODES {
        for method in ["HEAD", "OPTIONS"] {
            let answered = ask(method, path, &leader());
            let own_page =
                ["/liveness", "/readiness", "/patroni", "/cluster", "/history", "/config", "/metrics"]
                    .iter()
                    .any(|own| path.starts_with(own));
            assert_eq!(answered.code, if own_page { 503 } else { expected[0] }, "{method} {path}");
            assert_eq!(answered.body, None, "{method} {path}");
        }
    }
}

#[test]
fn nothing_can_be_changed_here() {
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for path in ["/switchover", "/config", "/restart", "/"] {
            assert_eq!(ask(method, path, &leader()).code, 501, "{method} {path}");
        }
    }
}

#[test]
fn a_leader_past_its_deadline_or_with_a_stuck_loop_takes_no_writes() {
    let mut late = leader();
    late.status.deadline = Some(MonoTime(NOW.0));
    assert_eq!(code("/primary", &late), 503);
    let mut stuck = leader();
    stuck.at = NOW.minus(stuck.lease_ttl);
    assert_eq!(code("/primary", &stuck), 503);
    assert_eq!(code("/liveness", &stuck), 503);
    let mut standby = standby(MemberRole::Replica, 0);
    standby.at = NOW.minus(standby.lease_ttl);
    assert_eq!(code("/liveness", &standby), 200, "a standby has twice the time");
}

#[test]
fn in_maintenance_without_the_store_the_running_role_counts() {
    let mut picture = leader();
    picture.status.serves_writes = false;
    picture.status.store_connected = false;
    assert_eq!(code("/primary", &picture), 503);
    picture.status.paused = Some("disk".to_owned());
    assert_eq!(code("/primary", &picture), 200);
}

#[test]
fn without_the_store_nobody_is_known_to_be_listed() {
    let mut picture = standby(MemberRole::SyncStandby, 0);
    picture.status.store_connected = false;
    for path in ["/sync", "/quorum", "/async", "/read-only-sync"] {
        assert_eq!(code(path, &picture), 503, "{path}");
    }
    assert_eq!(code("/replica", &picture), 200);
    assert_eq!(page("/patroni", &picture)["cluster_unlocked"], json!(true));
}

#[test]
fn tags_take_a_standby_out_or_are_asked_for() {
    let mut picture = standby(MemberRole::Replica, 0);
    let mut members = picture.members.to_vec();
    members[1].tags.nosync = true;
    picture.members = members.clone().into();
    assert_eq!(code("/replica?tag_nosync=true", &picture), 200);
    assert_eq!(code("/replica?tag_nosync=false", &picture), 503);
    members[1].tags.noloadbalance = true;
    picture.members = members.into();
    assert_eq!(code("/replica", &picture), 503);
    assert_eq!(code("/read-only", &picture), 503);
}

#[test]
fn the_status_page_has_patronis_fields() {
    let standby = page("/patroni", &standby(MemberRole::SyncStandby, 16));
    assert_eq!(standby["state"], json!("running"));
    assert_eq!(standby["role"], json!("replica"));
    assert_eq!(standby["server_version"], json!(150_014));
    assert_eq!(standby["xlog"]["received_location"], json!(0x0500_0000 - 16));
    assert_eq!(standby["xlog"]["replayed_timestamp"], Value::Null);
    assert_eq!(standby["sync_standby"], json!(true));
    assert_eq!(standby["replication_state"], json!("streaming"));
    assert_eq!(standby["database_system_identifier"], json!("7512345678901234567"));
    assert_eq!(standby["patroni"], json!({"version": "0.1.0", "scope": "demo", "name": "pg2"}));
    assert_eq!(standby.get("cluster_unlocked"), None);
    let primary = page("/", &leader());
    assert_eq!(primary["role"], json!("primary"));
    assert_eq!(primary["xlog"], json!({"location": 0x0500_0000}));
    assert_eq!(primary["dcs_last_seen"], json!(1_795_374_164));
}

#[test]
fn the_cluster_page_shows_who_is_alive_and_needs_no_store() {
    let mut picture = standby(MemberRole::SyncStandby, 16);
    picture.status.store_connected = false;
    let page = page("/cluster", &picture);
    assert_eq!(page["scope"], json!("demo"));
    let members = page["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "nobody has heard pg3: {members:?}");
    assert_eq!(members[0]["role"], json!("leader"));
    assert_eq!(members[0]["state"], json!("running"));
    assert_eq!(members[0]["api_url"], json!("http://10.0.1.11:8008/patroni"));
    assert_eq!(members[0].get("lag"), None);
    assert_eq!(members[1]["role"], json!("sync_standby"));
    assert_eq!(members[1]["state"], json!("streaming"));
    assert_eq!((&members[1]["lag"], &members[1]["lsn"]), (&json!(16), &json!("0/4FFFFF0")));
    assert_eq!(members[1]["port"], json!(5433));
}

#[test]
fn the_history_page_has_the_time_once_the_change_of_leader_is_told() {
    let mut record = ha_core::record::HistoryRecord {
        epoch: ha_core::Epoch(2),
        parent: ha_core::Timeline(1),
        switch_lsn: ha_core::Lsn(0x5000),
        member: "pg2".parse().unwrap(),
        reason: "the leader asked for it".to_owned(),
        extra: Default::default(),
    };
    let mut view = ha_core::cluster_view::StoreView::default();
    view.history.insert(ha_core::Timeline(2), record.clone());
    record.complete("2026-11-29T00:26:53.042Z", &ha_core::phases::Phases::default());
    view.history.insert(ha_core::Timeline(3), record);
    let picture = AgentSnapshot { view: Some(view), ..leader() };
    let line = |time: &str| json!([1, 0x5000, "the leader asked for it", time, "pg2"]);
    assert_eq!(page("/history", &picture), json!([line(""), line("2026-11-29T00:26:53.042Z")]));
}

#[test]
fn metrics_carry_both_families_of_names() {
    let text = ask("GET", "/metrics", &leader()).body.unwrap();
    for line in [
        "patroni_primary{scope=\"demo\",name=\"pg1\"} 1",
        "patroni_xlog_location{scope=\"demo\",name=\"pg1\"} 83886080",
        "patroni_postgres_state{scope=\"demo\",name=\"pg1\"} 5",
        "patroni_version{scope=\"demo\",name=\"pg1\"} 000100",
        "matriarch_serves_writes{scope=\"demo\",name=\"pg1\"} 1",
        "matriarch_deadline_seconds{scope=\"demo\",name=\"pg1\"} 5",
        "matriarch_heartbeat_age_seconds{scope=\"demo\",name=\"pg1\",member=\"pg2\"} 0.25",
        "matriarch_heartbeats_missed_total{scope=\"demo\",name=\"pg1\",member=\"pg2\"} 3",
        "matriarch_heartbeat_round_trip_seconds{scope=\"demo\",name=\"pg1\",member=\"pg2\"} 0.00025",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        assert!(value.is_some(), "{line}");
    }
}

#[test]
fn before_the_first_picture_everything_is_unavailable() {
    for path in ["/", "/replica", "/health", "/liveness", "/metrics"] {
        let asked = Asked { method: "GET", path, query: "" };
        assert_eq!(answer(&asked, None, NOW).code, 503, "{path}");
    }
}

#[tokio::test]
async fn the_server_answers_on_its_socket_with_keep_alive() {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut picture = leader();
    picture.at = ha_daemon::boottime();
    picture.status.deadline = None;
    let (_source, pictures) = tokio::sync::watch::channel(Some(Arc::new(picture)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = tokio::spawn(super::serve(address, pictures));
    let mut stream = loop {
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(_) => {
                assert!(!server.is_finished(), "the server ended");
                tokio::task::yield_now().await;
            }
        }
    };
    for (request, expected) in
        [("HEAD /primary", "200 OK"), ("GET /replica", "503 Service"), ("POST /failover", "501 Not")]
    {
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut bytes = vec![0; 8192];
        let length = stream.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {expected}")), "{request}: {text}");
    }
    server.abort();
}

#[tokio::test]
async fn an_agent_that_cannot_know_yet_lets_health_checks_wait() {
    use axum::extract::State;
    use axum::http::{Method, StatusCode};
    use futures_util::FutureExt as _;

    let (pictures, seen) = tokio::sync::watch::channel(None);
    let ask = |method: Method, path: &'static str| {
        super::respond(State(seen.clone()), method, axum::http::Uri::from_static(path))
    };
    let mut before = Box::pin(ask(Method::OPTIONS, "/primary"));
    assert!((&mut before).now_or_never().is_none(), "it has not looked yet");
    let mut undecided = leader();
    undecided.at = ha_daemon::boottime();
    undecided.status.serves_writes = false;
    undecided.status.undecided = true;
    pictures.send_replace(Some(std::sync::Arc::new(undecided.clone())));
    assert!((&mut before).now_or_never().is_none(), "its leadership is not taken up yet");
    // What is no health check is answered as things are.
    assert_eq!(ask(Method::GET, "/patroni").now_or_never().unwrap().status(), StatusCode::OK);
    undecided.status.undecided = false;
    undecided.status.serves_writes = true;
    undecided.status.deadline = None;
    pictures.send_replace(Some(std::sync::Arc::new(undecided)));
    assert_eq!(before.await.status(), StatusCode::OK);
}
