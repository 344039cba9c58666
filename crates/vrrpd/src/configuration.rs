//! From the cluster's file to what vrrpd needs: one plan for each floating address. Everything that it cannot do yet is
//! refused here, all of it at once.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ha_config::{Cluster, Problem, Problems, ProxyHost, Vip, load, load_proxy_secrets};
use vrrp::{Setup, Version};

use crate::args::Args;
use crate::interface_watch::Wanted;

/// Preferences go from 0 to this (39 more hosts than anybody has).
const PREFERENCE_MAX: usize = 39;
/// Size of a password in an advertisement of version 2.
const PASSWORD_LEN: usize = 8;

/// What this process is to do.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) cluster: Cluster,
    /// This host.
    pub(crate) host: ProxyHost,
    pub(crate) routers: Vec<RouterPlan>,
}

/// One virtual router, as configured.
#[derive(Clone)]
pub(crate) struct RouterPlan {
    pub(crate) wanted: Wanted,
    pub(crate) setup: Setup,
}

// By hand, so that the password reaches no log by accident.
impl std::fmt::Debug for RouterPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterPlan").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// Reads and checks everything.
///
/// # Errors
/// All problems of both files, and of what vrrpd cannot do yet.
pub(crate) fn configuration(args: &Args) -> Result<Configuration, Problems> {
    let secrets = load_proxy_secrets(&args.config.with_file_name("secrets.toml"));
    let cluster = load(&args.config).and_then(|cluster| {
        let host = cluster.this_proxy(args.node.as_deref()).cloned();
        let unsuitable = Problems::from_vec(unsuitable(&args.config, &cluster));
        match (host, unsuitable) {
            (Ok(host), None) => Ok((cluster, host)),
            (Ok(_), Some(problems)) | (Err(problems), None) => Err(problems),
            (Err(problems), Some(more)) => Err(problems.and(more)),
        }
    });
    let (cluster, host, secrets) = match (cluster, secrets) {
        (Ok((cluster, host)), Ok(secrets)) => (cluster, host, secrets),
        (Err(problems), Ok(_)) | (Ok(_), Err(problems)) => return Err(problems),
        (Err(problems), Err(more)) => return Err(problems.and(more)),
    };
    let password = secrets.vrrp_password.as_ref().map(|password| padded(password.expose().as_bytes()));
    let routers = cluster.vips.iter().filter_map(|vip| plan(&cluster, &host, vip, password)).collect();
    Ok(Configuration { cluster, host, routers })
}

/// What a valid file may ask for and vrrpd cannot do.
fn unsuitable(path: &Path, cluster: &Cluster) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |key: String, found: String, expected: &str| {
        problems.push(Problem::new(path, None, key, found, expected));
    };
    if cluster.vips.is_empty() {
        problem("vip".to_owned(), "none".to_owned(), "at least one [[vip]], or no vrrpd on this host");
    }
    for (index, vip) in cluster.vips.iter().enumerate() {
        if vip.address.is_ipv6() {
            let expected = "an IPv4 address: vrrpd cannot hold IPv6 addresses yet";
            problem(format!("vip[{index}].address"), format!("{:?}", vip.address.to_string()), expected);
        }
    }
    let six = cluster.proxies.iter().enumerate().filter(|(_, host)| host.address.is_ipv6());
    for (index, host) in six {
        let expected = "an IPv4 address: advertisements are sent over IPv4 only, for now";
        problem(format!("proxy[{index}].address"), format!("{:?}", host.address.to_string()), expected);
    }
    problems
}

fn plan(
    cluster: &Cluster,
    host: &ProxyHost,
    vip: &Vip,
    password: Option<[u8; PASSWORD_LEN]>,
) -> Option<RouterPlan> {
    let (IpAddr::V4(address), IpAddr::V4(own)) = (vip.address, host.address) else { return None };
    let floating = cluster.vips.iter().filter_map(|vip| four(vip.address)).collect();
    let order = vip.order(&cluster.proxies);
    let rank = order.iter().position(|name| **name == host.name).unwrap_or(order.len());
    let last = order.len().saturating_sub(1).min(PREFERENCE_MAX);
    let others = cluster.proxies.iter().filter(|other| other.name != host.name);
    let setup = Setup {
        version: Version::from_number(vip.version)?,
        interval: vip.interval,
        preference: u8::try_from(last.saturating_sub(rank)).unwrap_or(0),
        preempt: vip.preempt,
        preempt_delay: vip.preempt_delay,
        // Version 3 has none (RFC 9568 section 9).
        auth: password.filter(|_| vip.version == 2),
        peers: others.filter_map(|other| four(other.address)).collect(),
        unicast: vip.unicast,
        ..Setup::new(vip.router_id(), address)
    };
    Some(RouterPlan { wanted: Wanted { vip: vip.clone(), own, floating }, setup })
}

fn four(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Filled up with zeros (RFC 2338 section 5.3.10.2); ha-config refuses longer ones.
fn padded(password: &[u8]) -> [u8; PASSWORD_LEN] {
    let mut bytes = [0; PASSWORD_LEN];
    let length = password.len().min(PASSWORD_LEN);
    bytes[..length].copy_from_slice(&password[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(node: &str, vips: &str, secrets: Option<&str>) -> Result<Configuration, Problems> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("cluster.toml");
        let base = include_str!("../../../deploy/config/cluster.toml");
        std::fs::write(&config, base.replace("[[vip]]\naddress = \"10.0.1.10/24\"\n", vips)).unwrap();
        if let Some(text) = secrets {
            let path = dir.path().join("secrets.toml");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let proxy_socket = dir.path().join("proxy.sock");
        configuration(&Args { config, node: Some(node.to_owned()), check_config: false, proxy_socket })
    }

    const TWO: &str = "[[vip]]\naddress = \"10.0.1.10/24\"\n\
                       [[vip]]\naddress = \"10.0.1.11/24\"\nversion = 2\ninterval = \"1s\"\nvrid = 51\n\
                       preference = [\"ha2\"]\nunicast = true\n";

    #[test]
    fn each_address_is_a_virtual_router_and_the_first_in_order_is_preferred() {
        let two = TWO.replace("10.0.1.11", "10.0.1.9");
        let read = read("ha1", &two, Some("vrrp_password = \"cfgha26\"\n")).unwrap();
        let [first, second] = &read.routers[..] else { panic!("{:?}", read.routers) };
        let (one, two) = (&first.setup, &second.setup);
        assert_eq!((one.vrid, one.preference, one.auth, one.unicast), (10, 1, None, false));
        assert_eq!((two.vrid, two.preference, two.unicast), (51, 0, true));
        assert_eq!((two.version, two.auth), (Version::V2, Some(*b"cfgha26\0")));
        assert_eq!(two.peers, [Ipv4Addr::new(10, 0, 1, 22)]);
        assert_eq!(second.wanted.floating.len(), 2);
        let shown = format!("{read:?}");
        assert!(!shown.contains("cfgha26") && !shown.contains("99, 102"), "{shown}");
    }

    #[test]
    fn what_it_cannot_do_is_refused_all_at_once() {
        let vips = "[[vip]]\naddress = \"fd00::a/64\"\ninterface = \"eth0\"\nvrid = 7\n";
        let problems = read("ha9", vips, Some("vrrp_password = \"much too long\"\n")).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        for wanted in ["vip[0].address", "proxy.name", "vrrp_password"] {
            assert!(keys.contains(&wanted), "{wanted} in {keys:?}: {problems}");
        }
        let none = read("ha1", "", None).unwrap_err().to_string();
        assert!(none.contains("at least one [[vip]]"), "{none}");
    }
}
