//! Wrong files: each names all of its problems, with line and key, in one message.
//!
//! A case is a file and the complete list of problems expected: `(line, key, parts of the message)`.

use std::path::Path;

type Expected = (Option<usize>, &'static str, &'static [&'static str]);

struct Case {
    name: &'static str,
    text: String,
    problems: &'static [Expected],
}

/// Ten lines: name on 1, pg1 on 2 to 4, pg2 on 5 to 7, pg3 on 8 to 10.
const HOSTS: &str = r#"name = "pg-cluster"
[[database]]
name = "pg1"
address = "10.0.1.11"
[[database]]
name = "pg2"
address = "10.0.1.12"
[[database]]
name = "pg3"
address = "10.0.1.13"
"#;

/// A good beginning and, from line 11, `rest`.
fn after_hosts(rest: &str) -> String {
    format!("{HOSTS}{rest}")
}

fn cases() -> Vec<Case> {
    let mut cases = hosts_cases();
    cases.extend(timing_cases());
    cases.extend(replication_cases());
    cases.extend(postgres_cases());
    cases.extend(front_cases());
    cases.extend(shape_cases());
    cases
}

fn shape_cases() -> Vec<Case> {
    vec![
        Case {
            name: "an empty file",
            text: String::new(),
            problems: &[(None, "name", &["found nothing"]), (None, "database", &["no [[database]]"])],
        },
        Case {
            name: "a mistake of syntax",
            text: "name = \"a\"\naddress = 10.0.0.1\n".to_owned(),
            problems: &[(Some(2), "", &["TOML syntax"])],
        },
        Case {
            name: "two mistakes of syntax",
            text: "name = pg\n[[database]]\nname = \"pg1\naddress = \"10.0.0.1\"\n".to_owned(),
            problems: &[(Some(1), "", &["quoted"]), (Some(3), "", &["TOML syntax"])],
        },
        Case {
            name: "typos in keys and tables",
            text: after_hosts(
                "[failovr]\nautomatic = true\n[failover]\nleese_ttl = \"10s\"\nmode = \"strict\"\n[postgres]\nfoo = 1\n",
            ),
            problems: &[
                (Some(11), "failovr", &["unknown key", "did you mean \"failover\""]),
                (Some(14), "failover.leese_ttl", &["unknown key", "did you mean \"lease_ttl\""]),
                (Some(15), "failover.mode", &["unknown key", "belongs into [replication]"]),
                (Some(17), "postgres.foo", &["unknown key", "one of version, bin_dir"]),
            ],
        },
        Case {
            name: "wrong types everywhere",
            text: after_hosts(
                "[failover]\nautomatic = \"yes\"\nlease_ttl = 10\n[replication]\nacks = \"1\"\nmembers = \"pg1\"\n\
                 [postgres]\nport = 5432.5\nhba = [1]\n[etcd]\ntls = 1\n[guard]\nsocket = true\n",
            ),
            problems: &[
                (Some(12), "failover.automatic", &["found \"yes\"", "true or false"]),
                (Some(13), "failover.lease_ttl", &["found 10,", "\"5s\""]),
                (Some(15), "replication.acks", &["found \"1\"", "whole number"]),
                (Some(16), "replication.members", &["found \"pg1\"", "a list"]),
                (Some(18), "postgres.port", &["found 5432.5", "port"]),
                (Some(19), "postgres.hba[0]", &["found 1,"]),
                (Some(21), "etcd.tls", &["found 1,"]),
                (Some(23), "guard.socket", &["absolute path"]),
            ],
        },
        Case {
            name: "a table that should be a list of tables, and the reverse",
            text: "name = \"a\"\n[database]\nname = \"pg1\"\n[[postgres]]\nport = 5432\n".to_owned(),
            problems: &[
                (Some(2), "database", &["a table", "[[database]] with two brackets"]),
                (Some(4), "postgres", &["a list", "[postgres]"]),
            ],
        },
        Case {
            name: "a key twice and another problem",
            text: after_hosts("[failover]\nlease_ttl = \"10s\"\nlease_ttl = \"20s\"\ndetection = \"1\"\n"),
            problems: &[
                (Some(13), "lease_ttl", &["a second time"]),
                (Some(14), "failover.detection", &["found \"1\""]),
            ],
        },
    ]
}

fn hosts_cases() -> Vec<Case> {
    vec![
        Case {
            name: "no name and hosts without name or address",
            text: "[[database]]\nname = \"pg1\"\n[[database]]\naddress = \"10.0.0.2\"\n".to_owned(),
            problems: &[
                (Some(1), "database[0].address", &["found nothing"]),
                (Some(3), "database[1].name", &["found nothing"]),
                (None, "name", &["found nothing", "cluster's name"]),
            ],
        },
        Case {
            name: "names and addresses that are none",
            text: "name = \"PG Cluster\"\n[[database]]\nname = \"pg.1\"\naddress = \"10.0.1\"\n[[database]]\nname = \"pg2\"\n\
                   address = \"0.0.0.0\"\n"
                .to_owned(),
            problems: &[
                (Some(1), "name", &["\"PG Cluster\"", "a-z"]),
                (Some(3), "database[0].name", &["\"pg.1\""]),
                (Some(4), "database[0].address", &["\"10.0.1\""]),
                (Some(7), "database[1].address", &["\"0.0.0.0\""]),
            ],
        },
        Case {
            name: "a name twice and an address twice",
            text: after_hosts("[[database]]\nname = \"pg1\"\naddress = \"10.0.1.12\"\n"),
            problems: &[
                (Some(12), "database[3].name", &["\"pg1\" a second time"]),
                (Some(13), "database[3].address", &["also pg2's"]),
            ],
        },
        Case {
            name: "a proxy with a database host's address",
            text: after_hosts("[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.11\"\n"),
            problems: &[(Some(13), "proxy[0].address", &["also pg1's"])],
        },
        Case {
            name: "a host in both lists with two addresses",
            text: after_hosts("[[proxy]]\nname = \"pg1\"\naddress = \"10.0.1.21\"\n"),
            problems: &[(Some(13), "proxy[0].address", &["\"10.0.1.11\"", "one host, one address"])],
        },
        Case {
            name: "replicatefrom in a circle and from nobody",
            text: "name = \"a\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\ntags.replicatefrom = \"pg2\"\n\
                   [[database]]\nname = \"pg2\"\naddress = \"10.0.1.12\"\ntags.replicatefrom = \"pg1\"\n\
                   [[database]]\nname = \"pg3\"\naddress = \"10.0.1.13\"\ntags = { replicatefrom = \"pg9\", nosink = true }\n"
                .to_owned(),
            problems: &[
                (Some(5), "database[0].tags.replicatefrom", &["a circle: pg2 from pg1 from pg2"]),
                (Some(9), "database[1].tags.replicatefrom", &["a circle: pg1 from pg2 from pg1"]),
                (Some(13), "database[2].tags.nosink", &["did you mean \"nosync\""]),
                (Some(13), "database[2].tags.replicatefrom", &["\"pg9\"", "pg1, pg2, pg3"]),
            ],
        },
        Case {
            name: "nobody may lead",
            text: "name = \"a\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\ntags.nofailover = true\n\
                   [[database]]\nname = \"pg2\"\naddress = \"10.0.1.12\"\ntags.failover_priority = 0\n"
                .to_owned(),
            problems: &[(Some(2), "database", &["no member that may lead"])],
        },
    ]
}

fn timing_cases() -> Vec<Case> {
    vec![
        Case {
            name: "a lease too short for its renewals",
            text: after_hosts("[failover]\nlease_ttl = \"5s\"\n"),
            problems: &[(
                Some(12),
                "failover.lease_ttl",
                &[
                    "renew_interval 2s + 2 x call_deadline 1s = 4s",
                    "lease_ttl 5s - drift 50ms",
                    "= 2450ms",
                    "<=",
                ],
            )],
        },
        Case {
            name: "margins that eat the lease",
            text: after_hosts("[guard]\nkill_lead = \"9s\"\n"),
            problems: &[(Some(12), "guard.kill_lead", &["kill_lead 9s", "less than nothing"])],
        },
        Case {
            name: "a watchdog that could not be pinged between two renewals",
            text: after_hosts("[guard]\nwatchdog_timeout = \"7s\"\n"),
            problems: &[(
                Some(12),
                "guard.watchdog_timeout",
                &["watchdog_timeout 7s", "lease_ttl 10s - renew_interval 2s", "leaves 6s"],
            )],
        },
        Case {
            name: "a required watchdog that renewals are too rare for",
            text: after_hosts("[failover]\nrenew_interval = \"4s\"\n[guard]\nwatchdog = \"required\"\n"),
            problems: &[(Some(14), "guard.watchdog", &["watchdog_timeout 5s", "leaves 4s"])],
        },
        Case {
            name: "a watchdog that nothing could mean",
            text: after_hosts(
                "[guard]\nwatchdog = true\nwatchdog_device = \"watchdog\"\nwatchdog_timeout = \"1500ms\"\n",
            ),
            problems: &[
                (Some(12), "guard.watchdog", &["\"required\""]),
                (Some(13), "guard.watchdog_device", &["absolute"]),
                (Some(14), "guard.watchdog_timeout", &["1500ms", "whole seconds"]),
            ],
        },
        Case {
            name: "a member's record that dies before the lease",
            text: after_hosts("[failover]\nmember_ttl = \"10s\"\n"),
            problems: &[(
                Some(12),
                "failover.member_ttl",
                &["member_ttl 10s and lease_ttl 10s", "member_ttl > lease_ttl"],
            )],
        },
        Case {
            name: "pinning while a takeover may still run",
            text: after_hosts("[replication]\ndegrade_after = \"3s\"\n[failover]\nlease_ttl = \"10500ms\"\n"),
            problems: &[
                (Some(12), "replication.degrade_after", &["degrade_after 3s", "= 3300ms", "pin"]),
                (Some(14), "failover.lease_ttl", &["\"10500ms\"", "whole seconds"]),
            ],
        },
        Case {
            name: "refused times cause no misleading further problems",
            text: after_hosts(
                "[failover]\ndetection = \"10ms\"\nmember_ttl = \"5s\"\npromise_timeout = \"fast\"\nlease_ttl = \"1h\"\n",
            ),
            problems: &[
                (Some(12), "failover.detection", &["\"10ms\"", "300ms"]),
                (Some(14), "failover.promise_timeout", &["\"fast\""]),
                (Some(15), "failover.lease_ttl", &["\"1h\"", "10m"]),
            ],
        },
    ]
}

fn replication_cases() -> Vec<Case> {
    vec![
        Case {
            name: "more confirmations than standbys",
            text: after_hosts("[replication]\nmode = \"strict\"\nacks = 3\n"),
            problems: &[(Some(13), "replication.acks", &["found 3,", "at most 2"])],
        },
        Case {
            name: "more confirmations than listed members",
            text: after_hosts("[replication]\nacks = 2\nmembers = [\"pg2\"]\n"),
            problems: &[(Some(12), "replication.acks", &["found 2,", "at most 1"])],
        },
        Case {
            name: "floating addresses that cannot be told apart, and nobody to talk to",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n\
                 [[vip]]\naddress = \"10.0.1.10/24\"\nunicast = true\ninterface = \"longer-than-linux-takes\"\n\
                 [[vip]]\naddress = \"10.0.1.9/24\"\nvrid = 10\n\
                 [[vip]]\naddress = \"10.0.2.9/24\"\ninterface = \"eth1\"\n[[vip]]\naddress = \"10.0.3.9/24\"\ninterface = \"eth2\"\n",
            ),
            problems: &[
                (Some(16), "vip[0].unicast", &["a second [[proxy]]"]),
                (Some(17), "vip[0].interface", &["at most 15 bytes"]),
                (Some(20), "vip[1].vrid", &["10, as that of 10.0.1.10"]),
                (Some(24), "vip[3].vrid", &["which means 9, as that of 10.0.2.9"]),
            ],
        },
        Case {
            name: "several confirmations without slots",
            text: after_hosts("[replication]\nacks = 2\nslots = false\n"),
            problems: &[(Some(13), "replication.slots", &["found false", "count one member twice"])],
        },
        Case {
            name: "strict mode alone",
            text: "name = \"a\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n[replication]\nmode = \"strict\"\n"
                .to_owned(),
            problems: &[(Some(6), "replication.mode", &["single [[database]]"])],
        },
        Case {
            name: "an unknown mode, unknown and repeated members, no confirmations, sizes that are none",
            text: after_hosts(
                "[replication]\nmode = \"sync\"\nmembers = [\n  \"pg1\",\n  \"pg4\",\n  \"pg1\",\n]\nacks = 0\n\
                 maximum_lag = \"1Mb\"\nmax_slot_wal_keep_size = \"1kB\"\n",
            ),
            problems: &[
                (Some(12), "replication.mode", &["\"sync\"", "\"strict\""]),
                (Some(15), "replication.members[1]", &["\"pg4\"", "pg1, pg2, pg3"]),
                (Some(16), "replication.members[2]", &["\"pg1\" a second time"]),
                (Some(18), "replication.acks", &["found 0,"]),
                (Some(19), "replication.maximum_lag", &["\"1Mb\""]),
                (Some(20), "replication.max_slot_wal_keep_size", &["\"1kB\"", "\"unlimited\""]),
            ],
        },
    ]
}

fn postgres_cases() -> Vec<Case> {
    vec![
        Case {
            name: "a version that is too old and paths that are not absolute",
            text: after_hosts(
                "[postgres]\nversion = 13\ndata_dir = \"data\"\nbin_dir = \"~/bin\"\nport = 70000\n",
            ),
            problems: &[
                (Some(12), "postgres.version", &["found 13,", "14 to 18"]),
                (Some(13), "postgres.data_dir", &["absolute"]),
                (Some(14), "postgres.bin_dir", &["absolute"]),
                (Some(15), "postgres.port", &["70000"]),
            ],
        },
        Case {
            name: "parameters that the agent owns",
            text: after_hosts(
                "[postgres.parameters]\nsynchronous_standby_names = \"*\"\nFsync = false\nwork_mem = \"16MB\"\n\
                 ssl_cert_file = \"x\"\nrecovery_target_time = \"now\"\nlisten_addresses = \"*\"\nsynchronous_commit = \"local\"\n\
                 shared_buffers = [1]\n",
            ),
            problems: &[
                (
                    Some(12),
                    "postgres.parameters.synchronous_standby_names",
                    &["the agent sets", "sync record"],
                ),
                (Some(13), "postgres.parameters.Fsync", &["the agent sets fsync"]),
                (Some(15), "postgres.parameters.ssl_cert_file", &["[tls]"]),
                (Some(16), "postgres.parameters.recovery_target_time", &["newest timeline"]),
                (Some(17), "postgres.parameters.listen_addresses", &["`address`"]),
                (Some(18), "postgres.parameters.synchronous_commit", &["\"local\"", "\"on\""]),
                (Some(19), "postgres.parameters.shared_buffers", &["a list"]),
            ],
        },
        Case {
            name: "owned parameters and a taken port on one host",
            text: format!(
                "{HOSTS}[database.postgres]\nport = 8008\nparameters = {{ hba_file = \"/x\" }}\nversion = 15\n"
            ),
            problems: &[
                (Some(12), "database[2].postgres.port", &["8008", "REST"]),
                (Some(13), "database[2].postgres.parameters.hba_file", &["postgres.hba"]),
                (Some(14), "database[2].postgres.version", &["unknown key"]),
            ],
        },
        Case {
            name: "roles, users, access lines and initdb arguments",
            text: after_hosts(
                "[postgres]\nos_user = \"root\"\nsuperuser = \"pg_boss\"\nreplication_user = \"rewind_user\"\n\
                 hba = [\n  \"hosts all all all md5\",\n  \"host replication all 10.0.0.0/8 trust\",\n  \"host all all all scram-sha-256\",\n]\n\
                 initdb = [\"--pgdata=/x\"]\n",
            ),
            problems: &[
                (Some(12), "postgres.os_user", &["\"root\""]),
                (Some(13), "postgres.superuser", &["\"pg_boss\"", "pg_"]),
                (Some(14), "postgres.replication_user", &["\"rewind_user\"", "role of its own"]),
                (Some(16), "postgres.hba[0]", &["pg_hba.conf"]),
                (Some(17), "postgres.hba[1]", &["instead of \"trust\""]),
                (Some(20), "postgres.initdb[0]", &["--pgdata"]),
            ],
        },
    ]
}

fn front_cases() -> Vec<Case> {
    vec![
        Case {
            name: "a floating address that is a host's, one without proxies, one twice",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n[[vip]]\naddress = \"10.0.1.11/24\"\n\
                 [[vip]]\naddress = \"10.0.1.10/24\"\n[[vip]]\naddress = \"10.0.1.10/24\"\n",
            ),
            problems: &[
                (Some(15), "vip[0].address", &["this one is pg1's"]),
                (Some(19), "vip[2].address", &["a second time"]),
            ],
        },
        Case {
            name: "a floating address nobody can hold",
            text: after_hosts("[[vip]]\naddress = \"10.0.1.10/24\"\n[[vip]]\naddress = \"10.0.1.10\"\n"),
            problems: &[
                (Some(12), "vip[0].address", &["at least one [[proxy]]"]),
                (Some(14), "vip[1].address", &["\"10.0.1.10\"", "/24"]),
            ],
        },
        Case {
            name: "a floating address in another subnet, or the subnet's own",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n[[vip]]\naddress = \"10.0.2.10/24\"\n\
                 [[vip]]\naddress = \"10.0.1.255/24\"\n",
            ),
            problems: &[
                (Some(15), "vip[0].address", &["ha1 outside", "vip.interface"]),
                (Some(17), "vip[1].address", &["subnet's first or last"]),
            ],
        },
        Case {
            name: "families, hops and groups of floating addresses that do not fit",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n[[proxy]]\nname = \"ha2\"\naddress = \"10.0.1.22\"\n\
                 [[vip]]\naddress = \"10.0.1.10/24\"\nlink_local = \"fe80::1\"\nmax_hops = 3\ngroup = \"front\"\n\
                 [[vip]]\naddress = \"fd00::10/64\"\ninterface = \"eth0\"\nlink_local = \"fd00::1\"\n\
                 unicast = true\nversion = 2\ninterval = \"1s\"\ngroup = \"front\"\n",
            ),
            problems: &[
                (Some(19), "vip[0].link_local", &["\"fe80::1\"", "only an IPv6 address"]),
                (Some(20), "vip[0].max_hops", &["found 3", "vip.unicast"]),
                (Some(25), "vip[1].link_local", &["\"fd00::1\"", "fe80::/10"]),
                (Some(26), "vip[1].unicast", &["an IPv6 address of each [[proxy]]", "ha1 10.0.1.21"]),
                (Some(27), "vip[1].version", &["3: VRRP version 2 knows IPv4 only"]),
                (Some(29), "vip[1].group", &["the same vip.interval as 10.0.1.10"]),
            ],
        },
        Case {
            name: "a virtual hardware address by unicast, and one that is neither wanted nor not",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n[[proxy]]\nname = \"ha2\"\naddress = \"10.0.1.22\"\n\
                 [[vip]]\naddress = \"10.0.1.10/24\"\nunicast = true\nvirtual_mac = true\n\
                 [[vip]]\naddress = \"10.0.1.9/24\"\nvirtual_mac = \"yes\"\n",
            ),
            problems: &[
                (Some(20), "vip[0].virtual_mac", &["found true", "false with vip.unicast"]),
                (Some(23), "vip[1].virtual_mac", &["\"yes\"", "true or false"]),
            ],
        },
        Case {
            name: "VRRP values out of range",
            text: after_hosts(
                "[[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n[[vip]]\naddress = \"10.0.1.10/24\"\nvrid = 256\nversion = 2\n\
                 interval = \"200ms\"\npreference = [\"ha1\", \"ha3\"]\n",
            ),
            problems: &[
                (Some(16), "vip[0].vrid", &["256"]),
                (Some(18), "vip[0].interval", &["\"200ms\" with version = 2", "whole seconds"]),
                (Some(19), "vip[0].preference[1]", &["\"ha3\"", "ha1"]),
            ],
        },
        Case {
            name: "ports twice and an unknown balance",
            text: after_hosts("[routing]\nread_port = 5000\nbalance = \"first\"\nmax_connections = 0\n"),
            problems: &[
                (Some(12), "routing.read_port", &["5000", "routing.write_port"]),
                (Some(13), "routing.balance", &["\"first\"", "\"round-robin\""]),
                (Some(14), "routing.max_connections", &["found 0,"]),
            ],
        },
        Case {
            name: "TLS that ends nowhere and networks that are none",
            text: after_hosts(
                "[routing]\ntls = \"terminate\"\ntls_key = \"clients.key\"\nrequire_tls = 1\n\
                 proxy_protocol_from = [\"10.0.0.0/33\", \"10.1.2.3/8\", \"10.0.0.1\", \"10.0.0.1/32\", \"lb\"]\n",
            ),
            problems: &[
                (Some(11), "routing.tls_certificate", &["found nothing", "beside tls_key"]),
                (Some(13), "routing.tls_key", &["absolute"]),
                (Some(14), "routing.require_tls", &["found 1"]),
                (Some(15), "routing.proxy_protocol_from[0]", &["\"10.0.0.0/33\"", "a network"]),
                (Some(15), "routing.proxy_protocol_from[1]", &["\"10.1.2.3/8\"", "\"10.0.0.0/8\""]),
                (Some(15), "routing.proxy_protocol_from[3]", &["a second time"]),
                (Some(15), "routing.proxy_protocol_from[4]", &["\"lb\""]),
            ],
        },
        Case {
            name: "a certificate that nobody would see",
            text: after_hosts("[routing]\ntls_certificate = \"/srv/c.crt\"\ntls_key = \"/srv/c.key\"\n"),
            problems: &[
                (Some(12), "routing.tls_certificate", &["pass-through", "\"terminate\""]),
                (Some(13), "routing.tls_key", &["pass-through", "\"terminate\""]),
            ],
        },
        Case {
            name: "an unknown way with TLS",
            text: after_hosts("[routing]\ntls = \"both\"\ntls_certificate = \"/srv/c.crt\"\n"),
            problems: &[(Some(12), "routing.tls", &["\"both\"", "\"terminate\""])],
        },
        Case {
            name: "linearizable reads without standbys that they could rest on",
            text: after_hosts(
                "[replication]\nmode = \"asynchronous\"\n[routing]\nreads = \"linearizable\"\n",
            ),
            problems: &[(Some(14), "routing.reads", &["asynchronous", "\"fresh\""])],
        },
        Case {
            name: "reads of a kind that nobody knows",
            text: after_hosts("[routing]\nreads = \"serializable\"\n"),
            problems: &[(Some(12), "routing.reads", &["\"serializable\"", "\"linearizable\""])],
        },
        Case {
            name: "a proxy port that PostgreSQL has on the same host",
            text: after_hosts(
                "[[proxy]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n[routing]\nread_port = 5432\nwrite_port = 8009\n",
            ),
            problems: &[
                (Some(16), "routing.write_port", &["8009", "gRPC", "pg1"]),
                (None, "postgres.port", &["5432", "routing.read_port on pg1"]),
            ],
        },
        Case {
            name: "endpoints that are none",
            text: after_hosts(
                "[etcd]\nendpoints = [\"http://10.0.0.1:2379\", \"https://10.0.0.1\", \"https://a:2379\", \"https://a:2379\"]\n\
                 ca = \"ca.crt\"\n[tls]\nkey = 5\n[hooks]\nrole_changed = \"script.sh\"\n",
            ),
            problems: &[
                (Some(12), "etcd.endpoints[0]", &["https://ADDRESS:PORT"]),
                (Some(12), "etcd.endpoints[1]", &["https://ADDRESS:PORT"]),
                (Some(12), "etcd.endpoints[3]", &["a second time"]),
                (Some(13), "etcd.ca", &["absolute"]),
                (Some(15), "tls.key", &["absolute"]),
                (Some(17), "hooks.role_changed", &["absolute"]),
            ],
        },
        Case {
            name: "guard settings that cannot work",
            text: after_hosts(
                "[guard]\nmode = \"maybe\"\ndrift = 1000\nnet_margin = \"-1s\"\ncgroup = \"matriarch\"\n",
            ),
            problems: &[
                (Some(12), "guard.mode", &["\"maybe\"", "\"required\""]),
                (Some(13), "guard.drift", &["1000", "0 to 100"]),
                (Some(14), "guard.net_margin", &["\"-1s\""]),
                (Some(15), "guard.cgroup", &["absolute"]),
            ],
        },
    ]
}

#[test]
fn each_wrong_file_names_all_of_its_problems_and_no_others() {
    let cases = cases();
    assert!(cases.len() >= 20);
    let mut failures = Vec::new();
    for case in cases {
        let Err(found) = ha_config::parse(&case.text, Path::new("wrong.toml")) else {
            failures.push(format!("{}: was accepted", case.name));
            continue;
        };
        let places: Vec<_> = found.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
        let wanted: Vec<_> = case.problems.iter().map(|(line, key, _)| (*line, *key)).collect();
        if places != wanted {
            failures.push(format!("{}: wanted {wanted:?}, got\n{found}", case.name));
            continue;
        }
        for (problem, (line, key, parts)) in found.iter().zip(case.problems) {
            let message = problem.to_string();
            let place = line.map_or("wrong.toml: ".to_owned(), |line| format!("wrong.toml:{line}: "));
            if !message.starts_with(&format!("{place}{key}")) {
                failures.push(format!("{}: {message} does not begin with {place}{key}", case.name));
            }
            for part in parts.iter().filter(|part| !message.contains(**part)) {
                failures.push(format!("{}: {part:?} is missing in: {message}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_missing_or_binary_file_is_a_problem_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    let message = ha_config::load(&path).unwrap_err().to_string();
    assert!(message.contains("No such file") && message.contains("hactl init"), "{message}");
    std::fs::write(&path, b"name = \"a\"\n\xff\xfe\n").unwrap();
    let message = ha_config::load(&path).unwrap_err().to_string();
    assert!(message.contains(":2:") && message.contains("UTF-8"), "{message}");
}
