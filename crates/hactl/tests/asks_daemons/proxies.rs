use ha_rpc::status_code::Outcome;

use crate::world::World;

#[test]
fn the_list_says_where_the_ports_lead_and_who_says_nothing() {
    let world = World::with_proxies(11).serve(&["pg1", "pg2", "ha1", "ha2"]);
    let (out, _) = world.expect(&["list"], 0);
    assert!(out.contains("\n 5000 writes -> pg1\n 5001 reads  -> pg2\n"), "{out}");
    *world.play.holding.lock().unwrap() = Some("ha2");
    let (out, _) = world.expect(&["list"], 0);
    let differ = " 5000 writes -> pg1 [ha1]; nowhere, new sessions wait: a switchover is under way [ha2]\n";
    assert!(out.contains(differ), "{out}");
    // Rows for programs are what they were.
    assert_eq!(world.expect_json(&["list"], 0).as_array().unwrap().len(), 2);

    let half = World::with_proxies(12).serve(&["pg1", "pg2", "ha2"]);
    let (out, _) = half.expect(&["list"], 0);
    assert!(
        out.contains(" 5000 writes -> pg1\n") && out.contains(" ? ha1: connect to ha1 at 127.91.12.21:7001"),
        "{out}"
    );
    let none = World::with_proxies(13).serve(&["pg1", "pg2"]);
    let (out, _) = none.expect(&["list"], 0);
    assert!(out.contains(" 5000, 5001 -> unknown: no pg-proxy answers\n"), "{out}");
    let without = World::new(14).serve(&["pg1", "pg2"]);
    let (out, _) = without.expect(&["list"], 0);
    assert!(out.contains(" No [[proxy]] in the file: clients connect to the members themselves\n"), "{out}");
}

#[test]
fn proxies_are_shown_with_their_upstreams() {
    let world = World::with_proxies(15).serve(&["ha1"]);
    let (out, _) = world.expect(&["proxy"], 0);
    assert!(
        out.contains("ha1 (127.91.15.21)  serving") && out.contains("ha2 (127.91.15.22)  unreachable"),
        "{out}"
    );
    let one = world.expect_json(&["proxy", "ha1"], 0);
    assert_eq!(
        (&one[0]["writes"]["members"][0], &one[0]["reads"]["members"][0]),
        (&"pg1".into(), &"pg2".into())
    );
    assert_eq!((one.as_array().unwrap().len(), &one[0]["upstreams"][1]["member"]), (1, &"pg2".into()));
    let (_, err) = world.expect(&["proxy", "ha2"], 5);
    assert!(err.contains("systemctl status pg-proxy") && err.contains("7001"), "{err}");
    let (_, err) = world.expect(&["proxy", "pg1"], 3);
    assert!(err.contains("it has ha1, ha2"), "{err}");
    let (_, err) = World::new(16).expect(&["proxy"], 2);
    assert!(err.contains("no [[proxy]]"), "{err}");
}

#[test]
fn an_address_is_well_when_exactly_one_host_holds_it() {
    let world = World::with_proxies(17).serve(&["ha1", "ha2"]);
    let (out, _) = world.expect(&["vip"], 0);
    assert!(out.starts_with("10.9.9.9/24  held by ha1\n"), "{out}");
    *world.play.holders.lock().unwrap() = vec!["ha1", "ha2"];
    let (out, err) = world.expect(&["vip"], 1);
    assert!(out.starts_with("10.9.9.9/24  HELD BY 2 HOSTS: ha1 and ha2\n"), "{out}");
    assert!(err.contains("do not hear each other") && err.contains("protocol 112"), "{err}");
    world.play.holders.lock().unwrap().clear();
    let nobody = world.expect_json(&["vip"], 1);
    assert_eq!(
        (&nobody[0]["holders"], &nobody[0]["hosts"][1]["state"]),
        (&"nobody".into(), &"backup".into())
    );

    let half = World::with_proxies(18).serve(&["ha2"]);
    let (out, err) = half.expect(&["vip"], 1);
    assert!(out.contains("no answer from ha1") && out.contains(" ? ha1: connect to ha1"), "{out}");
    assert!(err.contains("systemctl status vrrpd on ha1") && err.contains("7002"), "{err}");
    World::with_proxies(19).expect(&["vip"], 5);
    let (_, err) = World::new(20).expect(&["vip"], 2);
    assert!(err.contains("no [[vip]]"), "{err}");
}

#[test]
fn the_whole_chain_is_one_picture() {
    let world = World::with_proxies(21).serve(&["pg1", "pg2", "ha1"]);
    let (out, _) = world.expect(&["topology"], 0);
    let places: Vec<usize> = [
        "+- 10.9.9.9/24  held by ha1",
        "+- ha1  ",
        "5000 writes -> pg1",
        "+- ha2  ",
        "+- pg1  ",
        "|  +- pg2  ",
        "+- etcd  ",
    ]
    .map(|part| out.find(part).unwrap_or_else(|| panic!("{part} is missing in:\n{out}")))
    .into();
    assert!(places.is_sorted(), "{out}");
    let document = world.expect_json(&["topology"], 0);
    assert_eq!(
        (&document["leader"], &document["members"][1]["streams_from"]),
        (&"pg1".into(), &"pg1".into())
    );
    let nobody = World::with_proxies(22);
    let (out, err) = nobody.expect(&["topology"], 5);
    assert!(out.contains("+- ha2  ") && err.contains("systemctl status pg-agent"), "{out}\n{err}");
}

#[test]
fn history_is_what_any_agent_knows() {
    let world = World::new(23).serve(&["pg1", "pg2"]);
    let rows = world.expect_json(&["history"], 0);
    let epochs: Vec<u64> =
        rows.as_array().unwrap().iter().map(|row| row["epoch"].as_u64().unwrap()).collect();
    assert_eq!((epochs, &rows[1]["leader"]), (vec![1, 2, 3], &"pg2".into()));
    let (out, _) = world.expect(&["history", "--format", "tsv"], 0);
    assert!(out.contains("\n2\t2\t0/2000000\tpg2\t2026-01-02T03:04:05Z\tswitchover\t"), "{out}");
    let (_, err) = World::new(24).expect(&["history"], 5);
    assert!(err.contains("pg2: connect to pg2"), "{err}");
}

#[test]
fn a_member_is_taken_out_at_every_proxy_or_at_one() {
    let world = World::with_proxies(61).serve(&["ha1", "ha2"]);
    let (_, err) = world.expect(&["proxy", "drain", "pg2"], 4);
    assert!(err.contains("If it leads, writes wait") && err.contains("--yes"), "{err}");
    let (_, err) = world.expect(&["proxy", "drain", "pg9", "--yes"], 3);
    assert!(err.contains("pg9"), "{err}");
    assert!(world.asked().is_empty());
    let (out, _) = world.expect(&["proxy", "drain", "pg2", "--yes"], 0);
    assert_eq!(out, "ha1: done; pg2 has 7 sessions there\nha2: done; pg2 has 7 sessions there\n");
    let (out, _) = world.expect(&["proxy", "maintenance", "pg2", "--proxy", "ha2", "--yes"], 0);
    assert_eq!(out, "ha2: done; pg2 has 7 sessions there\n");
    world.expect(&["proxy", "ready", "pg2", "--proxy", "ha1"], 0);
    let mut asked = world.asked();
    asked.sort();
    let expected = [
        "ha1 pg2 UPSTREAM_ADMIN_DRAIN",
        "ha1 pg2 UPSTREAM_ADMIN_READY",
        "ha2 pg2 UPSTREAM_ADMIN_DRAIN",
        "ha2 pg2 UPSTREAM_ADMIN_MAINTENANCE",
    ];
    assert_eq!(asked, expected);
    let half = World::with_proxies(62).serve(&["ha2"]);
    let (out, err) = half.expect(&["proxy", "drain", "pg2", "--yes"], 1);
    assert!(out.contains("ha1: NOT DONE") && out.contains("ha2: done"), "{out}");
    assert!(err.contains("not every proxy"), "{err}");
}

#[test]
fn a_proxy_host_is_drained_and_undrained() {
    let world = World::with_proxies(64).serve(&["ha1", "ha2"]);
    world.play.holders.lock().unwrap().clear();
    let (_, err) = world.expect(&["vip", "drain", "ha1"], 4);
    assert!(err.contains("Keep floating addresses off ha1"), "{err}");
    let (_, err) = world.expect(&["vip", "drain", "ha9", "--yes"], 3);
    assert!(err.contains("\"ha9\" is no proxy host"), "{err}");
    assert!(world.asked().is_empty());
    let (out, _) = world.expect(&["vip", "drain", "ha1", "--yes"], 0);
    assert!(out.contains("ha1 is drained"), "{out}");
    let (out, _) = world.expect(&["vip", "undrain", "ha1"], 0);
    assert!(out.contains("may hold floating addresses again"), "{out}");
    assert_eq!(world.asked(), ["ha1 is drained", "ha1 is undrained"]);
    *world.play.holders.lock().unwrap() = vec!["ha1"];
    let (_, err) = world.expect(&["vip", "drain", "ha1", "--yes"], 1);
    assert!(err.contains("holds 10.9.9.9 all the same"), "{err}");
}

#[test]
fn a_floating_address_is_moved_by_its_holder() {
    let world = World::with_proxies(63).serve(&["ha1", "ha2"]);
    world.play.holders.lock().unwrap().clear();
    let (_, err) = world.expect(&["vip", "move", "--yes"], 3);
    assert!(err.contains("not certain that one host holds 10.9.9.9"), "{err}");
    *world.play.holders.lock().unwrap() = vec!["ha1"];
    let (_, err) = world.expect(&["vip", "move"], 4);
    assert!(err.contains("Give 10.9.9.9 from ha1") && err.contains("--yes"), "{err}");
    let (_, err) = world.expect(&["vip", "move", "--address", "10.9.9.8", "--yes"], 3);
    assert!(err.contains("10.9.9.8 is no [[vip]]"), "{err}");
    assert!(world.asked().is_empty());
    let (out, _) = world.expect(&["vip", "move", "--yes"], 0);
    assert!(out.starts_with("10.9.9.9 moved from ha1 to ha2; took "), "{out}");
    assert_eq!(world.asked(), ["ha1 moves 10.9.9.9"]);
    *world.play.refusal.lock().unwrap() = Some(Outcome::Failed.status("no other host took it"));
    let (_, err) = world.expect(&["vip", "move", "--yes"], 1);
    assert!(err.contains("ha1: no other host took it"), "{err}");
}
