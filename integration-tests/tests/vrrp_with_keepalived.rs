//! vrrpd on one proxy host, the distribution's keepalived and HAProxy with the usual configuration on the other, as in the
//! middle of a migration: one owner at any time, and the address goes both ways when a side dies, drains or stops.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::arp_watch::{ArpLog, ArpWatch};
use ha_lab::classic::{self, CHECK, WORKING_CHECK};
use ha_lab::log_check::check_logs;
use ha_lab::wait::holds_for;
use ha_lab::{CLIENT, Lab, LabOptions, clock};
use integration_tests::labs;

/// Longest Down interval of either side (one second, three missed, a second of skew), and room for a loaded machine.
const DOWN: Duration = Duration::from_secs(8);
/// How long a settled pair is watched: longer than a Down interval, in which a second owner would appear.
const QUIET: Duration = Duration::from_secs(4);
/// While the address is handed over, both may answer for the time that a packet and a scheduler take.
const HAND_OVER: Duration = Duration::from_millis(300);
/// A refresh is a second apart, so that the address lives for three, and goes at the kernel's next look.
const LEASE: Duration = Duration::from_millis(4200);

/// A time in which the address was on one host.
struct Settled {
    host: &'static str,
    what: &'static str,
    from: Duration,
    to: Duration,
}

impl Settled {
    /// The client saw it so too. The first moments may still see the end of a hand-over.
    fn check(&self, log: &ArpLog) -> Result<()> {
        let span = self.from + HAND_OVER..self.to;
        let strange = log
            .questions
            .iter()
            .find(|asked| span.contains(&asked.at) && !asked.owners.iter().eq([self.host]));
        ensure!(strange.is_none(), "{}: not {} alone answers: {strange:?}", self.what, self.host);
        Ok(())
    }
}

/// No two owners except around these moments.
fn never_two_owners(log: &ArpLog, allowed: (Duration, Duration)) -> Result<()> {
    let spans = log.doubly_owned();
    let excused = |span: &(Duration, Duration)| {
        span.1.saturating_sub(span.0) <= HAND_OVER || allowed.0 <= span.0 && span.1 <= allowed.1
    };
    ensure!(spans.iter().all(excused), "two owners: {spans:?}, allowed {allowed:?}");
    Ok(())
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
    fn prepare(name: &str, version: u8, check: &str, [ours, theirs]: [&'static str; 2]) -> Result<Self> {
        let vip = "address = \"10.0.1.10/24\"";
        let mut options = LabOptions::five_hosts(&labs().join(name))?
            .units_of("pg1", &[])
            .units_of("pg2", &[])
            .units_of("pg3", &[])
            .classic_units(theirs, &["haproxy", "keepalived"]);
        options.edits =
            vec![(vip.to_owned(), format!("{vip}\nvrid = 51\nversion = {version}\ninterval = \"1s\""))];
        let lab = Lab::prepare(&options)?;
        classic::configure_keepalived(&lab, theirs, version, check)?;
        classic::configure_haproxy(&lab, theirs)?;
        if version == 2 {
            let secrets = lab.dir().host(ours).join("etc/secrets.toml");
            fs::write(&secrets, "vrrp_password = \"cfgha26\"\n").context("write the password")?;
            fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).context("write the password")?;
        }
        lab.power_on(&[CLIENT])?;
        Ok(Self { lab, ours, theirs })
    }

    /// Whatever each host was doing before: afterwards the address is on `host` and stays there.
    fn settles_on(&self, host: &'static str, what: &'static str) -> Result<Settled> {
        self.lab.wait_vip_on(host, DOWN).context(what)?;
        let from = clock::now();
        holds_for(&format!("{what}: the address on {host}"), QUIET, || {
            let holders = self.lab.vip_holders().map_err(|error| format!("{error:#}"))?;
            if holders == [host] { Ok(()) } else { Err(format!("it is on {holders:?}")) }
        })?;
        Ok(Settled { host, what, from, to: clock::now() })
    }

    fn log_of(&self, host: &str, unit: &str) -> String {
        fs::read_to_string(self.lab.dir().log(host, unit)).unwrap_or_default()
    }

    /// Every way in which the address moves between the two.
    fn both_ways(&self) -> Result<()> {
        let &Self { ref lab, ours, theirs } = self;
        let mut settled = Vec::new();
        let mut settles_on = |host, what| self.settles_on(host, what).map(|span| settled.push(span));
        let kill_proxy = || {
            lab.mask(ours, "pg-proxy")?;
            lab.signal(ours, "pg-proxy", "SIGKILL")
        };
        // keepalived alone has it; ours comes and is in better health by its tier.
        lab.power_on(&[theirs])?;
        lab.wait_vip_on(theirs, DOWN).context("keepalived alone")?;
        let watch = ArpWatch::start(lab, lab.vip()?)?;
        settles_on(theirs, "keepalived alone")?;
        lab.power_on(&[ours])?;
        settles_on(ours, "vrrpd joins")?;

        // Its proxy dies, and comes back.
        kill_proxy()?;
        settles_on(theirs, "pg-proxy killed")?;
        lab.start_unit(ours, "pg-proxy")?;
        settles_on(ours, "pg-proxy back")?;

        // It stops properly, and starts.
        lab.stop_unit(ours, "vrrpd")?;
        settles_on(theirs, "vrrpd stopped")?;
        lab.start_unit(ours, "vrrpd")?;
        settles_on(ours, "vrrpd back")?;

        // keepalived holds it because our proxy is dead, and stops: better a dead proxy than no address.
        kill_proxy()?;
        settles_on(theirs, "pg-proxy killed again")?;
        lab.stop_unit(theirs, "keepalived")?;
        settles_on(ours, "keepalived stopped")?;
        lab.start_unit(theirs, "keepalived")?;
        settles_on(theirs, "keepalived back")?;

        // Its whole host dies.
        lab.power_off(&[theirs])?;
        settles_on(ours, "keepalived's host off")?;
        lab.power_on(&[theirs])?;
        settles_on(theirs, "keepalived's host on")?;
        lab.start_unit(ours, "pg-proxy")?;
        settles_on(ours, "both in order")?;

        // vrrpd is killed: nothing says good-bye, and the kernel takes the address away.
        lab.mask(ours, "vrrpd")?;
        let killed = lab.signal(ours, "vrrpd", "SIGKILL")?;
        settles_on(theirs, "vrrpd killed")?;
        lab.start_unit(ours, "vrrpd")?;
        settles_on(ours, "vrrpd restarted")?;

        // Its whole host dies.
        lab.power_off(&[ours])?;
        settles_on(theirs, "vrrpd's host off")?;

        let log = watch.finish()?;
        settled.iter().try_for_each(|span| span.check(&log))?;
        never_two_owners(&log, (killed, killed + LEASE))
    }

    /// What each said of the other.
    fn no_complaints(&self, check: &str) -> Result<()> {
        check_logs(&self.lab, &[])?;
        let ours = self.log_of(self.ours, "vrrpd");
        let complaint = ours.lines().find(|line| line.contains("heard, but") || line.contains("not ours"));
        ensure!(complaint.is_none(), "vrrpd about keepalived: {complaint:?}");
        let theirs = self.log_of(self.theirs, "keepalived");
        let raised = ["to 102", "to 103"].iter().any(|text| theirs.contains(text));
        ensure!(raised == (check == WORKING_CHECK), "keepalived's priority: {theirs}");
        let words = ["nvalid", "bogus", "ismatch", "checksum", "ropping"];
        let complaint = theirs.lines().find(|line| words.iter().any(|word| line.contains(word)));
        ensure!(complaint.is_none(), "keepalived about vrrpd: {complaint:?}");
        Ok(())
    }
}

fn run(name: &str, version: u8, check: &str, hosts: [&'static str; 2]) {
    let mut pair = match Pair::prepare(name, version, check, hosts) {
        Ok(pair) => pair,
        Err(error) => panic!("{name}: {error:#}"),
    };
    if let Err(error) = pair.both_ways().and_then(|()| pair.no_complaints(check)) {
        pair.lab.keep_files();
        panic!("{name}: {error:#}\n  logs: {}/<host>/log", pair.lab.dir().path().display());
    }
}

#[test]
fn vrrp_with_keepalived_as_the_second_host() {
    run("vrrp_with_keepalived_second", 2, CHECK, ["ha1", "ha2"]);
}

#[test]
fn vrrp_with_keepalived_as_the_first_host() {
    run("vrrp_with_keepalived_first", 2, WORKING_CHECK, ["ha2", "ha1"]);
}

#[test]
fn vrrp_with_keepalived_in_version_3() {
    run("vrrp_with_keepalived_version_3", 3, WORKING_CHECK, ["ha1", "ha2"]);
}
