//! vrrpd on one proxy host, the distribution's keepalived and HAProxy with the usual configuration on the other, as in the
//! middle of a migration: one owner at any time, and the address goes both ways when a side dies, drains or stops.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::arp_watch::ArpWatch;
use ha_lab::log_check::check_logs;
use ha_lab::wait::holds_for;
use ha_lab::{CLIENT, Lab, LabOptions, clock};
use integration_tests::labs;

/// Longest Down interval of either side (one second, three missed, a second of skew), and room for a loaded machine.
const DOWN: Duration = Duration::from_secs(8);
/// How long a settled pair is watched.
const QUIET: Duration = Duration::from_secs(5);
/// While the address is handed over, both may answer for the time that a packet and a scheduler take.
const HAND_OVER: Duration = Duration::from_millis(300);
/// A refresh is a second apart, so that the address lives for three, and goes at the kernel's next look.
const LEASE: Duration = Duration::from_millis(4200);

const KEEPALIVED: &str = "[Service]\nExecStart=/usr/sbin/keepalived --dont-fork --log-console --dump-conf \
     --use-file /etc/matriarch/keepalived.conf\nRestart=no\nTimeoutStopSec=10\n";
const HAPROXY: &str = "[Service]\nExecStart=/usr/sbin/haproxy -f /etc/matriarch/haproxy.cfg\nRestart=no\n";

/// As the usual set-up has it, shortened to what answers.
const HAPROXY_CFG: &str = "\
defaults
    mode tcp
    timeout client 30m
    timeout server 30m
    timeout connect 4s
listen postgres_primary
    bind *:5000
    server pg1 10.0.1.11:5432 maxconn 200
";

/// The peer's configuration: the two hosts of the usual set-up differ in state and priority.
fn keepalived_conf(host: &str, version: u8) -> String {
    let (state, priority) = if host == "ha1" { ("MASTER", 101) } else { ("BACKUP", 100) };
    let protocol = match version {
        2 => "    authentication {\n        auth_type PASS\n        auth_pass cfgha26\n    }\n",
        _ => "    version 3\n",
    };
    format!(
        "\
vrrp_script chk_haproxy {{
    script \"/usr/bin/pidof haproxy\"
    interval 2
    weight 2
    fall 2
    rise 2
}}
vrrp_instance VI_PG {{
    state {state}
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 1
{protocol}    virtual_ipaddress {{
        10.0.1.10/24
    }}
    track_script {{
        chk_haproxy
    }}
}}
"
    )
}

/// A lab with two proxy hosts and a client; no database is needed to hold an address.
struct Pair {
    lab: Lab,
    /// The host of vrrpd and pg-proxy.
    ours: &'static str,
    /// The host of keepalived and HAProxy.
    theirs: &'static str,
}

impl Pair {
    fn prepare(name: &str, version: u8, ours: &'static str, theirs: &'static str) -> Result<Self> {
        let vip = "address = \"10.0.1.10/24\"";
        let mut options = LabOptions::five_hosts(&labs().join(name))?
            .units_of("pg1", &[])
            .units_of("pg2", &[])
            .units_of("pg3", &[])
            .units_of(theirs, &["haproxy", "keepalived"]);
        options.edits =
            vec![(vip.to_owned(), format!("{vip}\nvrid = 51\nversion = {version}\ninterval = \"1s\""))];
        for (unit, text) in [("keepalived", KEEPALIVED), ("haproxy", HAPROXY)] {
            options.unit_files.push((unit.to_owned(), text.to_owned()));
        }
        let lab = Lab::prepare(&options)?;
        let etc = |host: &str, file: &str| lab.dir().host(host).join("etc").join(file);
        fs::write(etc(theirs, "keepalived.conf"), keepalived_conf(theirs, version)).context("configure")?;
        // keepalived refuses to trust a file that others can write to or execute.
        fs::set_permissions(etc(theirs, "keepalived.conf"), fs::Permissions::from_mode(0o600))
            .context("configure")?;
        fs::write(etc(theirs, "haproxy.cfg"), HAPROXY_CFG).context("configure")?;
        if version == 2 {
            let secrets = etc(ours, "secrets.toml");
            fs::write(&secrets, "vrrp_password = \"cfgha26\"\n").context("write the password")?;
            fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).context("write the password")?;
        }
        lab.power_on(&[CLIENT])?;
        Ok(Self { lab, ours, theirs })
    }

    /// Whatever each host was doing before: afterwards the address is on `host` and stays there.
    fn settles_on(&self, host: &str, what: &str) -> Result<Duration> {
        let begin = clock::now();
        self.lab.wait_vip_on(host, DOWN).context(what.to_owned())?;
        let after = clock::now().saturating_sub(begin);
        let watch = ArpWatch::start(&self.lab, self.lab.vip()?)?;
        holds_for(&format!("{what}: the address on {host}"), QUIET, || {
            let holders = self.lab.vip_holders().map_err(|error| format!("{error:#}"))?;
            if holders == [host] { Ok(()) } else { Err(format!("it is on {holders:?}")) }
        })?;
        let log = watch.finish()?;
        let since = log.questions.first().map(|question| question.at).context("no question was asked")?;
        // The first moments may still see the end of a hand-over.
        ensure!(log.owned_only_by(host, since + HAND_OVER), "{what}: not only {host} answers: {log:?}");
        Ok(after)
    }

    /// No two owners except around these moments.
    fn never_two_owners(watch: ArpWatch, allowed: &[(Duration, Duration)]) -> Result<()> {
        let spans = watch.finish()?.doubly_owned();
        let excused = |span: &(Duration, Duration)| {
            let short = span.1.saturating_sub(span.0) <= HAND_OVER;
            short || allowed.iter().any(|(from, to)| *from <= span.0 && span.1 <= *to)
        };
        ensure!(spans.iter().all(excused), "two owners: {spans:?}, allowed {allowed:?}");
        Ok(())
    }

    fn log_of(&self, host: &str, unit: &str) -> String {
        fs::read_to_string(self.lab.dir().log(host, unit)).unwrap_or_default()
    }

    /// Every way in which the address moves between the two.
    fn both_ways(&self) -> Result<()> {
        let Self { lab, ours, theirs } = self;
        // keepalived alone has it; ours comes and is in better health by its tier.
        lab.power_on(&[theirs])?;
        self.settles_on(theirs, "keepalived alone")?;
        let watch = ArpWatch::start(lab, lab.vip()?)?;
        lab.power_on(&[ours])?;
        self.settles_on(ours, "vrrpd joins")?;

        // Its proxy dies, and comes back.
        lab.mask(ours, "pg-proxy")?;
        lab.signal(ours, "pg-proxy", "SIGKILL")?;
        self.settles_on(theirs, "pg-proxy killed")?;
        lab.start_unit(ours, "pg-proxy")?;
        self.settles_on(ours, "pg-proxy back")?;

        // It stops properly, and starts.
        lab.stop_unit(ours, "vrrpd")?;
        self.settles_on(theirs, "vrrpd stopped")?;
        lab.start_unit(ours, "vrrpd")?;
        self.settles_on(ours, "vrrpd back")?;

        // keepalived holds it because our proxy is dead, and stops: better a dead proxy than no address.
        lab.mask(ours, "pg-proxy")?;
        lab.signal(ours, "pg-proxy", "SIGKILL")?;
        self.settles_on(theirs, "pg-proxy killed again")?;
        lab.stop_unit(theirs, "keepalived")?;
        self.settles_on(ours, "keepalived stopped")?;
        lab.start_unit(theirs, "keepalived")?;
        self.settles_on(theirs, "keepalived back")?;

        // Its whole host dies.
        lab.power_off(&[theirs])?;
        self.settles_on(ours, "keepalived's host off")?;
        lab.power_on(&[theirs])?;
        self.settles_on(theirs, "keepalived's host on")?;
        lab.start_unit(ours, "pg-proxy")?;
        self.settles_on(ours, "both in order")?;

        // vrrpd is killed: nothing says good-bye, and the kernel takes the address away.
        lab.mask(ours, "vrrpd")?;
        let killed = lab.signal(ours, "vrrpd", "SIGKILL")?;
        self.settles_on(theirs, "vrrpd killed")?;
        Self::never_two_owners(watch, &[(killed, killed + LEASE)])?;
        lab.start_unit(ours, "vrrpd")?;
        self.settles_on(ours, "vrrpd restarted")?;

        // Its whole host dies.
        lab.power_off(&[ours])?;
        self.settles_on(theirs, "vrrpd's host off")?;
        Ok(())
    }

    /// What each said of the other.
    fn no_complaints(&self, expected_of_theirs: &[&str]) -> Result<()> {
        check_logs(&self.lab, &[])?;
        let ours = self.log_of(self.ours, "vrrpd");
        let complaint = ours.lines().find(|line| line.contains("heard, but") || line.contains("not ours"));
        ensure!(complaint.is_none(), "vrrpd about keepalived: {complaint:?}");
        let theirs = self.log_of(self.theirs, "keepalived");
        let words = ["nvalid", "bogus", "ismatch", "hecksum", "Dropping", "discard"];
        let unexpected = theirs.lines().find(|line| {
            words.iter().any(|word| line.contains(word))
                && !expected_of_theirs.iter().any(|text| line.contains(text))
        });
        ensure!(unexpected.is_none(), "keepalived about vrrpd: {unexpected:?}");
        Ok(())
    }
}

fn run(name: &str, version: u8, ours: &'static str, theirs: &'static str, expected_of_theirs: &[&str]) {
    let mut pair = match Pair::prepare(name, version, ours, theirs) {
        Ok(pair) => pair,
        Err(error) => panic!("{name}: {error:#}"),
    };
    let result = pair.both_ways().and_then(|()| pair.no_complaints(expected_of_theirs));
    if let Err(error) = result {
        pair.lab.keep_files();
        panic!("{name}: {error:#}\n  logs: {}/<host>/log", pair.lab.dir().path().display());
    }
}

#[test]
fn vrrp_with_keepalived_as_the_second_host() {
    run("vrrp_with_keepalived_second", 2, "ha1", "ha2", &[]);
}

#[test]
fn vrrp_with_keepalived_as_the_first_host() {
    run("vrrp_with_keepalived_first", 2, "ha2", "ha1", &[]);
}

#[test]
fn vrrp_with_keepalived_in_version_3() {
    run("vrrp_with_keepalived_version_3", 3, "ha1", "ha2", &[]);
}
