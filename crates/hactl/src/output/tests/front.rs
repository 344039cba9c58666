//! What stands in front of the database hosts, as it is shown.

use ha_rpc::proto::{EvidenceSource, ProxyStatusReply, Route, RouteState, Upstream, VirtualRouterState};

use crate::args::Format;
use crate::ask::Asked;
use crate::output::{proxy, routes, span, topology, vip};
use crate::overview::Overview;
use crate::overview::tests::{MIB, answers, cluster, healthy};
use crate::vips::Floating;
use crate::vips::tests::{asked as vrrp, router};

fn route(port: u32, state: RouteState, members: &[&str], reason: &str) -> Route {
    Route {
        port,
        state: state.into(),
        members: members.iter().map(|name| (*name).to_owned()).collect(),
        epoch: 4,
        reason: reason.to_owned(),
        since_ms: 75_000,
    }
}

fn upstream(member: &str, role: &str) -> Upstream {
    let leads = role == "leader";
    Upstream {
        member: member.to_owned(),
        address: format!("10.0.1.1{}:5432", &member[2..]),
        role: role.to_owned(),
        source: EvidenceSource::Push.into(),
        heard_ms_ago: Some(120),
        epoch: 4,
        takes_writes: leads,
        takes_reads: !leads,
        lag_bytes: (!leads).then_some(3 * MIB),
        reason: if leads { "leads" } else { "streams" }.to_owned(),
        sessions: 7,
        session_limit: 200,
        sessions_cut: if leads { 2 } else { 0 },
        ..Upstream::default()
    }
}

fn reply(name: &str) -> ProxyStatusReply {
    ProxyStatusReply {
        cluster: "pg-cluster".to_owned(),
        proxy: name.to_owned(),
        uptime_ms: 3 * 3_600_000,
        writes: Some(route(5000, RouteState::Open, &["pg1"], "pg1 leads")),
        reads: Some(route(5001, RouteState::Open, &["pg2", "pg3"], "standbys")),
        upstreams: vec![upstream("pg1", "leader"), upstream("pg2", "standby"), upstream("pg3", "standby")],
        sessions: 21,
        session_limit: 2000,
        ..ProxyStatusReply::default()
    }
}

fn asked(name: &str, answer: Result<ProxyStatusReply, &str>) -> Asked<ProxyStatusReply> {
    let cluster = cluster();
    let host = cluster.proxy(name).unwrap();
    Asked { name: host.name.clone(), address: host.address, answer: answer.map_err(str::to_owned) }
}

fn both() -> Vec<Asked<ProxyStatusReply>> {
    vec![asked("ha1", Ok(reply("ha1"))), asked("ha2", Ok(reply("ha2")))]
}

#[test]
fn proxies_that_agree_are_one_line_for_each_port() {
    let lines = |proxies: &[Asked<ProxyStatusReply>]| routes::lines(&cluster(), proxies, false);
    assert_eq!(lines(&both()), ["5000 writes -> pg1", "5001 reads  -> pg2, pg3"]);
    let mut other = reply("ha2");
    let why = "no agent has been heard yet";
    other.writes = Some(route(5000, RouteState::Holding, &[], why));
    other.draining = true;
    let differ = [asked("ha1", Ok(reply("ha1"))), asked("ha2", Ok(other))];
    assert_eq!(
        lines(&differ),
        [
            "5000 writes -> pg1 [ha1]; nowhere, new sessions wait: no agent has been heard yet [ha2]",
            "5001 reads  -> pg2, pg3",
            "ha2 is draining: it takes no new sessions",
        ]
    );
    let half = [asked("ha1", Ok(reply("ha1"))), asked("ha2", Err("no answer"))];
    assert_eq!(lines(&half), ["5000 writes -> pg1", "5001 reads  -> pg2, pg3", "? ha2: no answer"]);
    let silent = [asked("ha1", Err("no answer"))];
    assert_eq!(lines(&silent), ["5000, 5001 -> unknown: no pg-proxy answers", "? ha1: no answer"]);
    assert_eq!(lines(&[]), ["No [[proxy]] in the file: clients connect to the members themselves"]);
}

#[test]
fn a_proxy_shows_its_ports_and_its_upstreams() {
    let proxies = [asked("ha1", Ok(reply("ha1"))), asked("ha2", Err("connect to ha2: no answer"))];
    let shown: Vec<_> = proxies.iter().collect();
    let text = proxy::render(&shown, Format::Table, false).unwrap();
    let expected = "\
ha1 (10.0.1.21)  serving for 3 h, 21 of 2000 sessions, 0 waiting
  5000 writes -> pg1  (for 75 s)
  5001 reads  -> pg2, pg3  (for 75 s)
+----------+----------------+---------+-------+--------+-------+-----+----------+-------+----------+-----+
| Upstream | Address        | Role    | Epoch | Writes | Reads | Lag | Known by | Heard | Sessions | Cut |
+========================================================================================================+
| pg1      | 10.0.1.11:5432 | leader  |     4 | yes    | no    |     | push     | 0.1 s |    7/200 |   2 |
| pg2      | 10.0.1.12:5432 | standby |     4 | no     | yes   |   3 | push     | 0.1 s |    7/200 |     |
| pg3      | 10.0.1.13:5432 | standby |     4 | no     | yes   |   3 | push     | 0.1 s |    7/200 |     |
+----------+----------------+---------+-------+--------+-------+-----+----------+-------+----------+-----+
 pg1: leads
 pg2: streams
 pg3: streams

ha2 (10.0.1.22)  unreachable: connect to ha2: no answer
";
    assert_eq!(text, expected);
    let tsv = proxy::render(&shown, Format::Tsv, true).unwrap();
    assert!(tsv.lines().all(|line| line.matches('\t').count() == 16), "{tsv}");
    assert!(tsv.contains(
        "ha1\t10.0.1.21\tserving\tpg1\tpg2,pg3\tpg2\t10.0.1.12:5432\tstandby\t4\tno\tyes\t3145728\t"
    ));
    assert!(
        tsv.contains("ha2\t10.0.1.22\tunreachable\t") && tsv.ends_with("\tconnect to ha2: no answer\n"),
        "{tsv}"
    );
    let value: serde_json::Value =
        serde_json::from_str(&proxy::render(&shown, Format::Json, true).unwrap()).unwrap();
    assert_eq!(value[0]["writes"]["members"], serde_json::json!(["pg1"]));
    assert_eq!(value[0]["upstreams"][0]["sessions_cut"], 2);
    assert_eq!(value[1]["unreachable"], "connect to ha2: no answer");
    assert!(proxy::render(&shown, Format::Yaml, true).unwrap().contains("source: push"));
}

#[test]
fn a_proxy_says_which_file_is_in_force_and_what_of_the_one_that_lies_there_is_not() {
    let mut reloaded = reply("ha1");
    reloaded.file_digest = "0123456789abcdef".to_owned();
    reloaded.file_read_ms_ago = 75_000;
    reloaded.reloads_total = 2;
    reloaded.reloads_refused_total = 1;
    reloaded.file_refused =
        "cluster.toml:9: routing.balance: found \"random\"\ncluster.toml:10: more".to_owned();
    reloaded.replaced = vec![ha_rpc::proto::ReplacedProcess { process: 4700, sessions: 3 }];
    reloaded.needs_restart = vec!["routing.write_port: 5000 -> 6000".to_owned()];
    let proxies = [asked("ha1", Ok(reloaded))];
    let shown: Vec<_> = proxies.iter().collect();
    let text = proxy::render(&shown, Format::Table, false).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).take(6).collect();
    assert_eq!(
        lines,
        [
            "  file 0123456789abcdef read 75 s ago, reloaded 2 times",
            "  the changed file is refused:",
            "    cluster.toml:9: routing.balance: found \"random\"",
            "    cluster.toml:10: more",
            "  needs a restart: routing.write_port: 5000 -> 6000",
            "  process 4700, which was replaced, still has 3 sessions",
        ],
        "{text}"
    );
    let value: serde_json::Value =
        serde_json::from_str(&proxy::render(&shown, Format::Json, true).unwrap()).unwrap();
    assert_eq!(value[0]["needs_restart"][0], "routing.write_port: 5000 -> 6000");
    assert_eq!((&value[0]["reloads_total"], &value[0]["reloads_refused_total"]), (&2.into(), &1.into()));
    assert!(value[0]["file_refused"].as_str().unwrap().contains("routing.balance"));
}

#[test]
fn the_holder_of_an_address_stands_above_the_table_and_alarms_below() {
    let cluster = cluster();
    let mut backup = router(VirtualRouterState::Backup, 188);
    backup.alarms = vec!["10.0.1.99 advertises with another version".to_owned()];
    let hosts = [vrrp("ha1", Ok(router(VirtualRouterState::Active, 189))), vrrp("ha2", Ok(backup))];
    let floating = Floating::all(&cluster, &hosts);
    let text = vip::render(&floating, Format::Table, false).unwrap();
    let expected = "\
10.0.1.10/24  held by ha1
+-----------+------+--------+----------+----------+-------+-----------+------+----------+------------------------+
| Address   | Host | State  | Priority | Holds it | Since | Interface | VRID | pg-proxy | Reason                 |
+================================================================================================================+
| 10.0.1.10 | ha1  | active |      189 | yes      |  75 s | eth0      |   10 | serving  | nobody else advertises |
| 10.0.1.10 | ha2  | backup |      188 | no       |  75 s | eth0      |   10 | serving  | ha1 advertises         |
+-----------+------+--------+----------+----------+-------+-----------+------+----------+------------------------+
 ! ha2: 10.0.1.99 advertises with another version
 ha2 hears 10.0.1.21 advertise 10.0.1.10 with priority 189
";
    assert_eq!(text, expected);
    let value: serde_json::Value =
        serde_json::from_str(&vip::render(&floating, Format::Json, true).unwrap()).unwrap();
    assert_eq!((&value[0]["holders"], &value[0]["held_by"][0]), (&"one".into(), &"ha1".into()));
    assert_eq!(value[0]["hosts"][1]["alarms"][0], "10.0.1.99 advertises with another version");
    assert!(vip::render(&floating, Format::Yaml, true).unwrap().contains("holds_address: true"));
    let tsv = vip::render(&floating, Format::Tsv, true).unwrap();
    assert!(
        tsv.contains("10.0.1.10\tha2\tbackup\t188\tno\t75000\teth0\t10\tserving\tha1 advertises\n"),
        "{tsv}"
    );
}

#[test]
fn the_chain_is_one_picture() {
    let mut replies = healthy();
    replies[2].store_connected = false;
    let mut cluster = cluster();
    cluster.databases[2].tags.replicatefrom = Some("pg2".parse().unwrap());
    let overview = Overview::new(&cluster, answers(replies));
    let hosts =
        [vrrp("ha1", Ok(router(VirtualRouterState::Active, 189))), vrrp("ha2", Err("connection refused"))];
    let floating = Floating::all(&cluster, &hosts);
    let proxies = [asked("ha1", Ok(reply("ha1"))), asked("ha2", Err("connection refused"))];
    let chain =
        topology::Chain { cluster: &cluster, overview: &overview, proxies: &proxies, floating: &floating };
    let text = chain.render(Format::Table, false).unwrap();
    let expected = "\
Cluster: pg-cluster (7512345678901234567)  epoch 4  synchronous: quorum 1 of pg2, pg3

+- 10.0.1.10/24  held by ha1
|
+- ha1  10.0.1.21  holds the address, active 189 for 75 s, pg-proxy serving, 21 of 2000 sessions
|     5000 writes -> pg1
|     5001 reads  -> pg2, pg3
+- ha2  10.0.1.22  vrrpd unreachable, pg-proxy unreachable
|     ? connection refused
|
+- pg1  10.0.1.11  Leader, running, timeline 3, takes writes
|  +- pg2  10.0.1.12  Sync Standby, streaming, timeline 3, 0 MiB behind
|     +- pg3  10.0.1.13  Sync Standby, streaming, timeline 3, 3 MiB behind
|
+- etcd  https://10.0.1.11:2379, https://10.0.1.12:2379, https://10.0.1.13:2379  reached by pg1, pg2, not reached by pg3
";
    assert_eq!(text, expected);
    let value: serde_json::Value = serde_json::from_str(&chain.render(Format::Json, true).unwrap()).unwrap();
    assert_eq!(value["members"][2]["streams_from"], "pg2");
    assert_eq!(value["vips"][0]["held_by"][0], "ha1");
    assert_eq!(value["etcd"]["disconnected"], serde_json::json!(["pg3"]));
    let tsv = chain.render(Format::Tsv, true).unwrap();
    assert!(tsv.contains("member\tpg3\t10.0.1.13\tpg2\tSync Standby; streaming"), "{tsv}");
    assert!(chain.render(Format::Yaml, true).unwrap().contains("streams_from: pg1"));
    // Without a leader nobody hangs on anybody.
    let overview = Overview::new(&cluster, answers(Vec::new()));
    let chain = topology::Chain { overview: &overview, ..chain };
    let text = chain.render(Format::Table, false).unwrap();
    assert!(text.contains("\n+- pg1  10.0.1.11  Replica, unreachable\n|     ? no answer\n+- pg2"), "{text}");
    assert!(text.contains("no agent says whether it can be reached"), "{text}");
}

#[test]
fn lengths_of_time_have_two_digits() {
    for (ms, text) in [
        (120, "0.1 s"),
        (9_900, "9.9 s"),
        (75_000, "75 s"),
        (7_140_000, "119 min"),
        (10_800_000, "3 h"),
        (200_000_000, "2 days"),
    ] {
        assert_eq!(span(ms), text);
    }
}
