//! From the cluster's file to what vrrpd needs: one plan for each floating address. Everything that it cannot do yet is
//! refused here, all of it at once.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ha_config::{
    Cluster, Problem, Problems, ProxyHost, ProxySecrets, Vip, VipSigning, VrrpKey, load, load_proxy_secrets,
};
use vrrp::signature::Key;
use vrrp::{PriorityModel, Replay, Setup, SharedSettings, Signing, SigningMode, Version};

use crate::args::Args;
use crate::interface_watch::Wanted;

/// Preferences go from 0 to this (39 more hosts than anybody has).
const PREFERENCE_MAX: usize = 39;
/// Size of a password in an advertisement of version 2.
const PASSWORD_LEN: usize = 8;

/// What this process is to do.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) cluster: Cluster,
    /// This host.
    pub(crate) host: ProxyHost,
    /// Of each floating address, those of one `vip.group` together: they are one decision.
    pub(crate) routers: Vec<Vec<RouterPlan>>,
}

/// One virtual router, as configured.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RouterPlan {
    pub(crate) wanted: Wanted,
    pub(crate) setup: Setup,
    /// What must be the same on all hosts; a password as its fingerprint.
    pub(crate) settings: Arc<SharedSettings>,
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
    if let Some(vip) = cluster.vips.iter().find(|vip| vip.signing != VipSigning::Off)
        && secrets.vrrp_key.is_none()
    {
        let path = args.config.with_file_name("secrets.toml");
        let expected = format!("a key, because {} has vip.signing", vip.address);
        return Err(Problems::one(Problem::new(&path, None, "vrrp_key", "nothing", expected)));
    }
    let routers = groups(&cluster.vips)
        .map(|vips| vips.into_iter().filter_map(|vip| plan(&cluster, &host, vip, &secrets)).collect())
        .collect();
    Ok(Configuration { cluster, host, routers })
}

/// What a valid file may ask for and vrrpd cannot do.
fn unsuitable(path: &Path, cluster: &Cluster) -> Vec<Problem> {
    if cluster.vips.is_empty() {
        let expected = "at least one [[vip]], or no vrrpd on this host";
        return vec![Problem::new(path, None, "vip", "none", expected)];
    }
    Vec::new()
}

/// Floating addresses that move together, in the order of the file.
fn groups(vips: &[Vip]) -> impl Iterator<Item = Vec<&Vip>> {
    let is_first = |index: usize, vip: &Vip| {
        vip.group.is_none() || !vips[..index].iter().any(|earlier| earlier.group == vip.group)
    };
    vips.iter().enumerate().filter(move |(index, vip)| is_first(*index, vip)).map(|(index, first)| {
        let others = vips[index + 1..].iter().filter(|vip| first.group.is_some() && vip.group == first.group);
        std::iter::once(first).chain(others).collect()
    })
}

fn plan(cluster: &Cluster, host: &ProxyHost, vip: &Vip, secrets: &ProxySecrets) -> Option<RouterPlan> {
    let floating = cluster.vips.iter().flat_map(addresses).collect();
    let password = secrets.vrrp_password.as_ref().map(|password| padded(password.expose().as_bytes()));
    let order = vip.order(&cluster.proxies);
    let rank = order.iter().position(|name| **name == host.name).unwrap_or(order.len());
    let last = order.len().saturating_sub(1).min(PREFERENCE_MAX);
    let others = cluster.proxies.iter().filter(|other| other.name != host.name);
    let setup = Setup {
        version: Version::from_number(vip.version)?,
        interval: vip.interval,
        preference: u8::try_from(last.saturating_sub(rank)).unwrap_or(0),
        model: match vip.priority_model.base(&host.name) {
            Some(base) => PriorityModel::Weights { base },
            None => PriorityModel::Tiers,
        },
        preempt: vip.preempt,
        preempt_delay: vip.preempt_delay,
        // Version 3 has none (RFC 9568 section 9), and signatures replace it.
        auth: password.filter(|_| vip.version == 2 && vip.signing == VipSigning::Off),
        signing: signing(vip, secrets),
        // By multicast over IPv6 they send from link-local addresses, which nobody has written down.
        peers: others
            .map(|other| other.address)
            .filter(|other| other.is_ipv4() == vip.address.is_ipv4() && (other.is_ipv4() || vip.unicast))
            .collect(),
        unicast: vip.unicast,
        max_hops: vip.max_hops,
        ..setup_of(vip)
    };
    let settings = Arc::new(shared_settings(vip, &setup));
    let wanted =
        Wanted { vip: vip.clone(), addresses: addresses(vip).collect(), own: host.address, floating };
    Some(RouterPlan { wanted, setup, settings })
}

/// What would make hosts discard each other's advertisements.
fn shared_settings(vip: &Vip, setup: &Setup) -> SharedSettings {
    let one = |name: &str, value: String| (name.to_owned(), value);
    let password = setup.auth.map_or("none".to_owned(), |password| {
        // Hosts that have the password can compare, others learn nothing that helps: the address goes in as well.
        let text = [vip.address.to_string().as_bytes(), &password].concat();
        short_hex(ring::digest::digest(&ring::digest::SHA256, &text).as_ref())
    });
    let mode = match setup.signing.as_ref().map(|signing| signing.mode) {
        None => "off",
        Some(SigningMode::ReceiveOnly) => "receive-only",
        Some(SigningMode::Permissive) => "permissive",
        Some(SigningMode::Enforce) => "enforce",
    };
    let signing = setup.signing.iter().flat_map(|signing| {
        let keys = std::iter::once(&signing.key).chain(&signing.next_key);
        let fingerprints = keys.map(move |key| {
            (format!("fingerprint of key {}", key.id), fingerprint(key, &vip.address.to_string()))
        });
        std::iter::once(one("signing key", signing.key.id.to_string())).chain(fingerprints)
    });
    let settings = [
        one("vrid", setup.vrid.to_string()),
        one("version", setup.version.number().to_string()),
        one("interval", format!("{:?}", setup.interval)),
        one(
            "priorities",
            if vip.priority_model == ha_config::PriorityModel::Tiers { "tiers" } else { "weights" }
                .to_owned(),
        ),
        one("transport", if setup.unicast { "unicast" } else { "multicast" }.to_owned()),
        one("checksum", format!("{:?}", setup.checksum).to_lowercase()),
        one("password", password),
        one("max_hops", setup.max_hops.to_string()),
        one("signing", mode.to_owned()),
    ];
    settings.into_iter().chain(signing).collect()
}

/// By which hosts see that a key of the same number is another one. It is made with the key as a signature is, over what no
/// signature is made over, so it tells as little of it.
fn fingerprint(key: &Key, address: &str) -> String {
    let code = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key.secret);
    // The text that is signed begins with a byte of 4 or 6.
    short_hex(ring::hmac::sign(&code, format!("fingerprint of the key for {address}").as_bytes()).as_ref())
}

/// The first 8 bytes.
fn short_hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The virtual router of a floating address, everything else at its default.
fn setup_of(vip: &Vip) -> Setup {
    let setup = Setup::new(vip.router_id(), vip.address);
    Setup { link_local: vip.link_local.or(setup.link_local), ..setup }
}

fn signing(vip: &Vip, secrets: &ProxySecrets) -> Option<Signing> {
    let mode = match vip.signing {
        VipSigning::Off => return None,
        VipSigning::ReceiveOnly => SigningMode::ReceiveOnly,
        VipSigning::Permissive => SigningMode::Permissive,
        VipSigning::Enforce => SigningMode::Enforce,
    };
    let key = |key: &VrrpKey| Key { id: key.id, secret: key.secret.expose().as_bytes().to_vec() };
    Some(Signing {
        mode,
        key: key(secrets.vrrp_key.as_ref()?),
        next_key: secrets.vrrp_next_key.as_ref().map(key),
        replay: vip.replay_window.map_or(Replay::Monotonic, Replay::Time),
    })
}

/// What the virtual router of this floating address puts on an interface.
fn addresses(vip: &Vip) -> impl Iterator<Item = IpAddr> + use<> {
    setup_of(vip).addresses()
}

/// Filled up with zeros (RFC 2338 section 5.3.10.2); ha-config refuses longer ones.
fn padded(password: &[u8]) -> [u8; PASSWORD_LEN] {
    let mut bytes = [0; PASSWORD_LEN];
    let length = password.len().min(PASSWORD_LEN);
    bytes[..length].copy_from_slice(&password[..length]);
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(crate) fn read(node: &str, vips: &str, secrets: Option<&str>) -> Result<Configuration, Problems> {
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
        let (state_dir, resumption_file) = (dir.path().to_owned(), dir.path().join("vrrpd.state"));
        let node = Some(node.to_owned());
        let args = Args { config, node, check_config: false, proxy_socket, resumption_file, state_dir };
        configuration(&args)
    }

    fn flat(read: &Configuration) -> Vec<&RouterPlan> {
        read.routers.iter().flatten().collect()
    }

    const TWO: &str = "[[vip]]\naddress = \"10.0.1.10/24\"\n\
                       [[vip]]\naddress = \"10.0.1.11/24\"\nversion = 2\ninterval = \"1s\"\nvrid = 51\n\
                       preference = [\"ha2\"]\nunicast = true\n";

    #[test]
    fn each_address_is_a_virtual_router_and_the_first_in_order_is_preferred() {
        let two = TWO.replace("10.0.1.11", "10.0.1.9");
        let read = read("ha1", &two, Some("vrrp_password = \"cfgha26\"\n")).unwrap();
        let [first, second] = &flat(&read)[..] else { panic!("{read:?}") };
        let (one, two) = (&first.setup, &second.setup);
        assert_eq!((one.vrid, one.preference, one.auth, one.unicast), (10, 1, None, false));
        assert_eq!((two.vrid, two.preference, two.unicast), (51, 0, true));
        assert_eq!((two.version, two.auth), (Version::V2, Some(*b"cfgha26\0")));
        assert_eq!(two.peers, [IpAddr::from([10, 0, 1, 22])]);
        let said = &second.settings;
        assert_eq!((said["transport"].as_str(), said["interval"].as_str()), ("unicast", "1s"));
        assert_eq!((said["password"].len(), first.settings["password"].as_str()), (16, "none"));
        assert_eq!(second.wanted.floating.len(), 2);
        let shown = format!("{read:?}");
        assert!(!shown.contains("cfgha26") && !shown.contains("99, 102"), "{shown}");
    }

    #[test]
    fn an_ipv6_address_has_a_link_local_one_beside_it_and_a_group_is_one_decision() {
        let vips = "[[vip]]\naddress = \"10.0.1.10/24\"\ngroup = \"front\"\n[[vip]]\naddress = \"fd00::10/64\"\ninterface = \"eth0\"\n\
                    vrid = 10\n[[vip]]\naddress = \"fd00::11/64\"\ninterface = \"eth0\"\nlink_local = \"fe80::11\"\ngroup = \"front\"\n";
        let read = read("ha1", vips, None).unwrap();
        assert_eq!(read.routers.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let [four, given, six] = &flat(&read)[..] else { panic!("{read:?}") };
        let all = |plan: &RouterPlan| plan.setup.addresses().map(|one| one.to_string()).collect::<Vec<_>>();
        assert_eq!(all(four), ["10.0.1.10"]);
        assert_eq!(all(six), ["fe80::5e00:20a", "fd00::10"]);
        assert_eq!(all(given), ["fe80::11", "fd00::11"]);
        assert_eq!((six.setup.vrid, &six.setup.peers[..], six.wanted.floating.len()), (10, &[][..], 5));
    }

    #[test]
    fn signatures_need_a_key_and_replace_the_password() {
        let vips =
            "[[vip]]\naddress = \"10.0.1.10/24\"\nversion = 2\ninterval = \"1s\"\nsigning = \"enforce\"\n";
        let without = read("ha1", vips, Some("vrrp_password = \"cfgha26\"\n")).unwrap_err().to_string();
        assert!(without.contains("vrrp_key: found nothing"), "{without}");
        let secrets = "vrrp_password = \"cfgha26\"\nvrrp_key = \"7:0123456789abcdef0123456789abcdef\"\n";
        let read = read("ha1", vips, Some(secrets)).unwrap();
        let setup = &flat(&read)[0].setup;
        let signing = setup.signing.as_ref().unwrap();
        assert_eq!((setup.auth, signing.mode, signing.key.id), (None, SigningMode::Enforce, 7));
        assert_eq!((signing.replay, &signing.key.secret[..4]), (Replay::Monotonic, &b"0123"[..]));
        assert!(!format!("{signing:?}").contains("48, 49"), "{signing:?}");
    }

    #[test]
    fn other_keys_modes_of_signing_and_hops_are_differences_and_show_no_key() {
        let of = |line: &str, secrets: &str| {
            let vips = format!("[[vip]]\naddress = \"10.0.1.10/24\"\nunicast = true\n{line}\n");
            Arc::clone(&flat(&read("ha1", &vips, Some(secrets)).unwrap())[0].settings)
        };
        const SIGNED: &str = "signing = \"enforce\"";
        const SECRET: &str = "0123456789abcdef0123456789abcdef";
        let current = format!("vrrp_key = \"7:{SECRET}\"\n");
        let next = |secrets: &str, key: &str| format!("{secrets}vrrp_next_key = \"{key}\"\n");
        let ours = of(SIGNED, &current);
        assert!(
            ours.values().all(|value| !value.contains(&SECRET[..8]) && !value.contains("3031")),
            "{ours:?}"
        );
        let differs = |line: &str, secrets: &str| vrrp::difference(&ours, &of(line, secrets));
        assert_eq!(differs(SIGNED, &current), None);
        let mode = "signing off instead of enforce";
        assert_eq!(differs("", &current).as_deref(), Some(mode));
        let mode = "signing receive-only instead of enforce";
        assert_eq!(differs("signing = \"receive-only\"", &current).as_deref(), Some(mode));
        let hops = format!("{SIGNED}\nmax_hops = 3");
        assert_eq!(differs(&hops, &current).as_deref(), Some("max_hops 3 instead of 0"));

        // The same number and another key.
        let other = current.replace('0', "x");
        let said = differs(SIGNED, &other).unwrap();
        assert!(said.starts_with("fingerprint of key 7 ") && !said.contains(", "), "{said}");
        // One more key is none yet; the one that is signed with is.
        let eighth = "8:fedcba9876543210fedcba9876543210";
        assert_eq!(differs(SIGNED, &next(&current, eighth)), None);
        let changed = next(&format!("vrrp_key = \"{eighth}\"\n"), &format!("7:{SECRET}"));
        assert_eq!(differs(SIGNED, &changed).as_deref(), Some("signing key 8 instead of 7"));
        // A host of an earlier version says nothing of all this.
        let mut earlier = (*ours).clone();
        earlier.retain(|name, _| !name.contains("sign") && !name.contains("key") && name != "max_hops");
        assert_eq!((vrrp::difference(&ours, &earlier), vrrp::difference(&earlier, &ours)), (None, None));
        // Of another address the same key has another fingerprint.
        let two = "[[vip]]\naddress = \"10.0.1.10/24\"\nsigning = \"enforce\"\n\
                   [[vip]]\naddress = \"10.0.1.9/24\"\nsigning = \"enforce\"\n";
        let two = read("ha1", two, Some(&current)).unwrap();
        let prints: Vec<&String> =
            flat(&two).iter().map(|plan| &plan.settings["fingerprint of key 7"]).collect();
        assert!(prints[0].len() == 16 && prints[0] != prints[1], "{prints:?}");
    }

    #[test]
    fn what_it_cannot_do_is_refused_all_at_once() {
        let problems = read("ha9", "", Some("vrrp_password = \"much too long\"\n")).unwrap_err();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        for wanted in ["vip", "proxy.name", "vrrp_password"] {
            assert!(keys.contains(&wanted), "{wanted} in {keys:?}: {problems}");
        }
        let none = read("ha1", "", None).unwrap_err().to_string();
        assert!(none.contains("at least one [[vip]]"), "{none}");
    }
}
