//! HAProxy passes clients on to a proxy and tells whose connections they are, in both versions of the PROXY protocol. From its
//! address nothing else is taken, and from no other address anything of the kind.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_lab::front::WRITE_PORT;
use ha_lab::stand_in::stand_in;
use ha_lab::wait::wait_for;
use ha_lab::wire::WireSession;
use ha_lab::{CLIENT, Lab, LabOptions, classic};
use integration_tests::front::{OPEN, own_front_scenario};

/// Where HAProxy listens, by what it says to the proxy.
const BINARY: u16 = 6002;
const TEXT: u16 = 6001;
const NOTHING: u16 = 6000;
/// Longer than a line takes to reach the log.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn haproxy_in_front_of_our_proxy() {
    own_front_scenario("haproxy_in_front_of_our_proxy", configure, &[], |lab| {
        let (proxy, balancer) = (lab.address("ha1")?, lab.address("ha2")?);
        classic::configure_haproxy_as(lab, "ha2", &haproxy(proxy))?;
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        wait_for("an open route", OPEN, || {
            WireSession::open(lab, proxy, WRITE_PORT).map(drop).map_err(|error| format!("{error:#}"))
        })?;
        let client = lab.address(CLIENT)?;
        for port in [BINARY, TEXT] {
            let before = told(lab, client, Some(balancer))?;
            let open = || WireSession::open(lab, balancer, port).map_err(|error| format!("{error:#}"));
            let mut session = wait_for(&format!("a session through port {port} of HAProxy"), OPEN, open)?;
            session.ping()?;
            drop(session);
            wait_for("the line of a session that was passed on", SOON, || {
                let now = told(lab, client, Some(balancer)).map_err(|error| format!("{error:#}"))?;
                if now > before { Ok(()) } else { Err(format!("still {now}")) }
            })?;
        }
        // HAProxy's own checks are no sessions of anybody, and no fault.
        ensure!(refused(lab)? == 0, "headers were refused");
        ensure!(told(lab, client, None)? > 0, "whoever comes directly needs no header");

        WireSession::open(lab, balancer, NOTHING).map(drop).err().context("served without a header")?;
        ensure!(refused(lab)? >= 1, "the missing header was not counted");
        let mut session = WireSession::open(lab, balancer, BINARY)?;
        session.ping()
    });
}

fn configure(options: LabOptions) -> LabOptions {
    let primary = stand_in("primary");
    let mut options = options.units_of("pg1", &[&primary.0]).units_of("pg2", &[]).units_of("pg3", &[]);
    options.unit_files.push(primary);
    options.appendix.push_str("\n[routing]\nproxy_protocol_from = [\"10.0.1.22\"]\n");
    options.units_of("ha1", &["pg-proxy"]).classic_units("ha2", &["haproxy"])
}

fn haproxy(proxy: Ipv4Addr) -> String {
    let mut text =
        "global\nmaxconn 100\ndefaults\nmode tcp\ntimeout client 1m\ntimeout server 1m\ntimeout connect 4s\n"
            .to_owned();
    for (port, header) in
        [(BINARY, "check inter 200ms send-proxy-v2"), (TEXT, "check inter 200ms send-proxy"), (NOTHING, "")]
    {
        text.push_str(&format!(
            "listen port_{port}\nbind *:{port}\nserver ha1 {proxy}:{WRITE_PORT} {header}\n"
        ));
    }
    text
}

/// How many sessions of this client ended, by the proxy's log, that came directly or through this balancer.
fn told(lab: &Lab, client: Ipv4Addr, through: Option<Ipv4Addr>) -> Result<usize> {
    let path = lab.dir().log("ha1", "pg-proxy");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let of_client =
        |line: &&str| line.contains("session ended") && line.contains(&format!(" client={client}:"));
    let came_so = |line: &&str| match through {
        Some(balancer) => line.contains(&format!(" through={balancer}:")),
        None => !line.contains(" through="),
    };
    Ok(text.lines().filter(of_client).filter(came_so).count())
}

fn refused(lab: &Lab) -> Result<u64> {
    lab.proxy_status("ha1")?["headers_refused_total"].as_u64().context("no headers_refused_total")
}
