//! Java's and Rust's drivers do through the proxies what applications do with them: on both ports, in the clear and with TLS that
//! is passed through or ends at the proxies, by the floating address and by a list of both proxies.

mod rust;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use ha_lab::client_load::{PASSWORD, USER};
use ha_lab::front::{READ_PORT, WRITE_PORT};
use ha_lab::sessions::{SAMPLER, sampling_rules};
use ha_lab::{CLIENT, Lab, LabOptions};
use integration_tests::front::{Front, OPEN, front_scenario, own_front_scenario};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};

use self::rust::{Server, use_session};

/// In the clear, in TLS, and in TLS with every check that a client can make.
const MODES: [&str; 3] = ["disable", "require", "verify-full"];
const AUTHORITY: &str = "/etc/matriarch/tls/ca.crt";
const ENDS_HERE: &str = "\n[routing]\ntls = \"terminate\"\ntls_certificate = \"/etc/matriarch/tls/host.crt\"\n\
                         tls_key = \"/etc/matriarch/tls/host.key\"\n";
const JDBC: &str = include_str!("drivers/jdbc.bsh");
/// The script goes where the host has room for it.
const JAVA: &str = "printf %s \"$1\" >/tmp/jdbc.bsh && shift && exec java -Xmx128m \
    -cp /usr/share/java/bsh.jar:/usr/share/java/postgresql.jar bsh.Interpreter /tmp/jdbc.bsh \"$@\"";

#[test]
fn drivers_with_tls_passed_through() {
    front_scenario("drivers_with_tls_passed_through", &[], |front| {
        jdbc_on_both_ports(front, true)?;
        rust_on_both_ports(front, true)?;
        one_proxy_at_a_time(front)
    });
}

#[test]
fn drivers_with_tls_ended_at_the_proxy() {
    let configure = |mut options: LabOptions| {
        options.appendix.push_str(&sampling_rules());
        options.appendix.push_str(ENDS_HERE);
        options
    };
    own_front_scenario("drivers_with_tls_ended_at_the_proxy", configure, &[], |lab| {
        let hosts: Vec<&str> = lab.hosts().iter().map(|host| host.name.as_str()).collect();
        lab.power_on(&hosts)?;
        let front = Front::of(lab)?;
        jdbc_on_both_ports(&front, false)?;
        rust_on_both_ports(&front, false)?;
        one_proxy_at_a_time(&front)
    });
}

/// By the floating address and by a list of both proxies; `seen` is whether PostgreSQL sees the client's TLS. Whosever
/// certificate it is, the address in the URL is one of its names.
fn jdbc_on_both_ports(front: &Front<'_>, seen: bool) -> Result<()> {
    let (mut urls, mut expected) = (Vec::new(), Vec::new());
    for (port, standby, kind) in [(WRITE_PORT, false, "primary"), (READ_PORT, true, "secondary")] {
        for mode in MODES {
            for hosts in [format!("{}:{port}", front.vip), listed(front.lab, port)?] {
                urls.push(url(&hosts, SAMPLER, &format!("sslmode={mode}&targetServerType={kind}")));
                expected.push(format!("{standby} {} done", seen && mode != "disable"));
            }
        }
        // A login by password, which TLS at the proxies must not disturb.
        let hosts = format!("{}:{port}", front.vip);
        urls.push(url(&hosts, USER, &format!("password={PASSWORD}&sslmode=require")));
        expected.push(format!("{standby} {seen} done"));
    }
    for ((url, said), expected) in urls.iter().zip(jdbc(front.lab, &urls)?).zip(expected) {
        ensure!(said == expected, "{url}: {said:?} instead of {expected:?}");
    }
    Ok(())
}

fn url(hosts: &str, user: &str, more: &str) -> String {
    format!(
        "jdbc:postgresql://{hosts}/postgres?user={user}&sslrootcert={AUTHORITY}&prepareThreshold=1\
         &connectTimeout=5&socketTimeout=60&{more}"
    )
}

/// Both proxies' own addresses.
fn listed(lab: &Lab, port: u16) -> Result<String> {
    let hosts = lab.proxies().into_iter().map(|proxy| Ok(format!("{}:{port}", lab.address(proxy)?)));
    Ok(hosts.collect::<Result<Vec<_>>>()?.join(","))
}

/// What the script says of each URL.
fn jdbc(lab: &Lab, urls: &[String]) -> Result<Vec<String>> {
    let mut argv = vec!["sh", "-c", JAVA, "sh", JDBC];
    argv.extend(urls.iter().map(String::as_str));
    let output = lab.exec_as(CLIENT, "nobody", &argv)?;
    let lines: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
    ensure!(output.code == Some(0) && lines.len() == urls.len(), "JDBC: {output:?}");
    Ok(lines)
}

/// rustls always checks the name.
fn rust_on_both_ports(front: &Front<'_>, seen: bool) -> Result<()> {
    let vip = front.vip.to_string();
    let places = [(WRITE_PORT, TargetSessionAttrs::ReadWrite), (READ_PORT, TargetSessionAttrs::ReadOnly)];
    for (port, wanted) in places {
        for mode in [SslMode::Disable, SslMode::Require] {
            for user in [SAMPLER, USER] {
                let mut config = config(&vip, front.vip, port, user);
                config.target_session_attrs(wanted).ssl_mode(mode);
                let server =
                    use_session(front.lab, config).with_context(|| format!("{mode:?} {user} {port}"))?;
                let expected = Server { standby: port == READ_PORT, tls: seen && mode == SslMode::Require };
                ensure!(server == expected, "{mode:?} {user} {port}: {server:?}");
            }
        }
    }
    // A login that is bound to the server's own certificate shows that nobody stands between.
    let mut bound = config(&vip, front.vip, WRITE_PORT, USER);
    bound.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
    let bound = use_session(front.lab, bound);
    ensure!(bound.is_ok() == seen, "channel binding: {bound:?}");
    let mut wrong = config("pg9", front.vip, WRITE_PORT, SAMPLER);
    wrong.ssl_mode(SslMode::Require);
    let wrong = use_session(front.lab, wrong);
    ensure!(wrong.is_err(), "a name that no certificate has: {wrong:?}");
    Ok(())
}

fn config(name: &str, address: Ipv4Addr, port: u16, user: &str) -> Config {
    let mut config = Config::new();
    config.host(name).hostaddr(address.into()).port(port).user(user).password(PASSWORD).dbname("postgres");
    config
}

/// Whoever lists the proxies needs no floating address.
fn one_proxy_at_a_time(front: &Front<'_>) -> Result<()> {
    let lab = front.lab;
    let url = url(&listed(lab, WRITE_PORT)?, SAMPLER, "sslmode=require");
    for proxy in lab.proxies() {
        lab.stop_unit(proxy, "pg-proxy")?;
        let said = jdbc(lab, std::slice::from_ref(&url))?;
        ensure!(
            said[0].starts_with("false ") && said[0].ends_with(" done"),
            "JDBC without {proxy}: {said:?}"
        );
        let mut config = Config::new();
        config.user(SAMPLER).dbname("postgres").port(WRITE_PORT).ssl_mode(SslMode::Disable);
        config.connect_timeout(std::time::Duration::from_secs(5));
        for other in lab.proxies() {
            config.host(lab.address(other)?.to_string());
        }
        let server = use_session(lab, config).with_context(|| format!("tokio-postgres without {proxy}"))?;
        ensure!(!server.standby, "tokio-postgres without {proxy}: {server:?}");
        lab.start_unit(proxy, "pg-proxy")?;
        lab.wait_route_open(lab.address(proxy)?, WRITE_PORT, OPEN)?;
    }
    Ok(())
}
