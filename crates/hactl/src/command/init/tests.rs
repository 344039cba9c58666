use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use clap::Parser as _;

use super::*;
use crate::args::Command;

struct Made {
    _dir: tempfile::TempDir,
    out: PathBuf,
    manifest: String,
}

fn init(options: &[&str]) -> anyhow::Result<Made> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let manifest = init_into(&out, options)?;
    Ok(Made { _dir: dir, out, manifest })
}

fn init_into(out: &Path, options: &[&str]) -> anyhow::Result<String> {
    let fixed = ["hactl", "init", "--out", out.to_str().unwrap()];
    let args = Args::parse_from(fixed.iter().chain(options));
    let Command::Init(init) = &args.command else { panic!("{args:?}") };
    write_all(&args, init)
}

const REFERENCE: [&str; 12] = [
    "--database",
    "pg1=10.0.1.11",
    "--database",
    "pg2=10.0.1.12",
    "--database",
    "pg3=10.0.1.13",
    "--proxy",
    "ha1=10.0.1.21",
    "--proxy",
    "ha2=10.0.1.22",
    "--vip",
    "10.0.1.10/24",
];

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o7777
}

#[test]
fn each_host_gets_what_its_role_needs_and_nothing_readable_that_is_secret() {
    let made = init(&REFERENCE).unwrap();
    let etc = |host: &str, file: &str| made.out.join(host).join("etc/matriarch").join(file);
    for host in ["pg1", "pg2", "pg3"] {
        let cluster = ha_config::load(&etc(host, "cluster.toml")).unwrap();
        assert_eq!(cluster.databases.len(), 3);
        ha_config::load_secrets(&etc(host, "secrets.toml")).unwrap();
        for private in ["secrets.toml", "tls/host.key", "tls/etcd.key"] {
            assert_eq!(mode(&etc(host, private)), 0o600, "{host} {private}");
        }
        for public in ["cluster.toml", "etcd.yaml", "tls/ca.crt", "tls/host.crt", "tls/etcd.crt"] {
            assert_eq!(mode(&etc(host, public)), 0o644, "{host} {public}");
        }
    }
    for host in ["ha1", "ha2"] {
        assert!(!etc(host, "secrets.toml").exists() && !etc(host, "etcd.yaml").exists());
        assert_eq!(mode(&etc(host, "tls/host.key")), 0o600);
    }
    assert_eq!(mode(&made.out), 0o700);
    assert_eq!(mode(&made.out.join("authority/ca.key")), 0o600);
    assert_eq!(mode(&made.out.join("admin/admin.key")), 0o600);
    let text = |host: &str| std::fs::read_to_string(etc(host, "secrets.toml")).unwrap();
    assert_eq!(text("pg1"), text("pg3"), "replication needs the same passwords everywhere");
    let secret_values = text("pg1");
    for value in secret_values.split('"').filter(|part| part.len() == 64) {
        assert!(!made.manifest.contains(value), "the manifest shows a secret");
    }
    assert!(made.manifest.contains("0600  postgres   /etc/matriarch/secrets.toml"), "{}", made.manifest);
    let key = |host: &str| std::fs::read_to_string(etc(host, "tls/host.key")).unwrap();
    assert_ne!(key("pg1"), key("pg2"));
    assert!(key("pg1").starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS 8");
}

#[test]
fn certificates_name_their_holder_and_are_signed_by_the_authority() {
    let made = init(&REFERENCE).unwrap();
    let ca_pem = std::fs::read(made.out.join("authority/ca.crt")).unwrap();
    // x509-parser writes addresses as hexadecimal bytes.
    let check = |path: &str, wanted: &[&str], server: bool| {
        let (_, ca) = x509_parser::pem::parse_x509_pem(&ca_pem).unwrap();
        let ca = ca.parse_x509().unwrap();
        assert!(ca.is_ca());
        let pem = std::fs::read(made.out.join(path)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let cert = pem.parse_x509().unwrap();
        assert_eq!(cert.issuer(), ca.subject());
        assert!(!cert.is_ca());
        let names = cert.subject_alternative_name().unwrap().unwrap();
        let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
        for name in wanted {
            assert!(names.iter().any(|found| found.contains(name)), "{path}: {name} in {names:?}");
        }
        assert_eq!(names.len(), wanted.len(), "{path}: {names:?}");
        let usage = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth);
        assert_eq!(usage.server_auth, server, "{path}");
    };
    check(
        "pg1/etc/matriarch/tls/host.crt",
        &[
            "pg1)",
            "ha1)",
            "ha2)",
            "0a:00:01:0b",
            "0a:00:01:0a",
            "0a:00:01:15",
            "0a:00:01:16",
            "matriarch://pg-cluster/host/pg1",
        ],
        true,
    );
    check(
        "ha2/etc/matriarch/tls/host.crt",
        &["ha2)", "0a:00:01:16", "0a:00:01:0a", "matriarch://pg-cluster/proxy/ha2"],
        true,
    );
    check("pg3/etc/matriarch/tls/etcd.crt", &["pg3)", "0a:00:01:0d"], true);
    check("admin/admin.crt", &["matriarch://pg-cluster/admin/admin"], false);
}

#[test]
fn an_existing_file_is_copied_byte_by_byte() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/cluster.toml");
    let made = init(&["--config", reference.to_str().unwrap()]).unwrap();
    let copied = std::fs::read(made.out.join("ha1/etc/matriarch/cluster.toml")).unwrap();
    assert_eq!(copied, std::fs::read(reference).unwrap());
}

#[test]
fn etcd_listens_on_the_hosts_address_only_and_knows_its_peers() {
    let made = init(&REFERENCE).unwrap();
    let text = std::fs::read_to_string(made.out.join("pg2/etc/matriarch/etcd.yaml")).unwrap();
    let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(yaml["listen-client-urls"], "https://10.0.1.12:2379");
    assert_eq!(yaml["listen-peer-urls"], "https://10.0.1.12:2380");
    let peers = "pg1=https://10.0.1.11:2380,pg2=https://10.0.1.12:2380,pg3=https://10.0.1.13:2380";
    assert_eq!(yaml["initial-cluster"], peers);
    for section in ["client-transport-security", "peer-transport-security"] {
        assert_eq!(yaml[section]["client-cert-auth"], true, "{section}");
    }
}

#[test]
fn a_directory_with_anything_in_it_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    let message = format!("{:#}", init_into(dir.path(), &REFERENCE).unwrap_err());
    assert!(message.contains("is not empty"), "{message}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn wrong_options_are_reported_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let wrong = ["--name", "No \"Name\"", "--database", "pg1=10.0.0.1", "--database", "pg1=10.0.0.1"];
    let message = format!("{:#}", init_into(&out, &wrong).unwrap_err());
    for part in ["name:", "database[1].name", "database[1].address"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(init_into(&out, &[]).is_err());
    assert!(init_into(&out, &["--config", "/x", "--database", "pg1=10.0.0.1"]).is_err());
    assert!(!out.exists());
}

#[test]
fn the_password_of_vrrp_is_only_on_proxy_hosts_and_only_for_version_2() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cluster.toml");
    let text = "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n\
                [[database]]\nname = \"pg2\"\naddress = \"10.0.1.12\"\n\
                [[proxy]]\nname = \"pg2\"\naddress = \"10.0.1.12\"\n\
                [[proxy]]\nname = \"ha1\"\naddress = \"10.0.1.21\"\n\
                [[vip]]\naddress = \"10.0.1.10/24\"\nversion = 2\ninterval = \"1s\"\n";
    std::fs::write(&config, text).unwrap();
    let made = init(&["--config", config.to_str().unwrap()]).unwrap();
    let etc = |host: &str, file: &str| made.out.join(host).join("etc/matriarch").join(file);
    let password = |host: &str| {
        ha_config::load_proxy_secrets(&etc(host, "secrets.toml"))
            .unwrap()
            .vrrp_password
            .map(|p| p.expose().len())
    };
    assert_eq!(["pg1", "pg2", "ha1"].map(password), [None, Some(8), Some(8)]);
    assert_eq!(mode(&etc("ha1", "secrets.toml")), 0o600);
    let text = std::fs::read_to_string(etc("ha1", "secrets.toml")).unwrap();
    assert!(
        !text.contains("superuser") && !text.contains("heartbeat"),
        "no business of a proxy host: {text}"
    );
    assert!(made.manifest.contains("0600  root       /etc/matriarch/secrets.toml"), "{}", made.manifest);

    // A host in both lists has what both roles need: database secrets, and one certificate of role host.
    ha_config::load_secrets(&etc("pg2", "secrets.toml")).unwrap();
    let pem = std::fs::read(etc("pg2", "tls/host.crt")).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
    let identity = ha_rpc::PeerIdentity::of_certificate(&pem.contents).unwrap();
    assert_eq!(identity.to_string(), "matriarch://demo/host/pg2");
    assert!(
        ha_rpc::Rpc::FollowRole.may_be_called_by(identity.role)
            && ha_rpc::Rpc::Talk.may_be_called_by(identity.role)
    );
    assert!(
        made.manifest.contains("pg2 (10.0.1.12, database and proxy: etcd pg-guard pg-agent pg-proxy vrrpd)")
    );
}

#[test]
fn signed_advertisements_have_a_key_in_place_of_a_password() {
    let text = "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n[[proxy]]\nname = \"ha1\"\n\
                address = \"10.0.1.21\"\n[[vip]]\naddress = \"10.0.1.10/24\"\nversion = 2\ninterval = \"1s\"\n\
                signing = \"permissive\"\n";
    let cluster = ha_config::parse(text, Path::new("cluster.toml")).unwrap();
    let made = Secrets::with(&cluster, None).unwrap().for_proxy().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.toml");
    std::fs::write(&path, &made).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let read = ha_config::load_proxy_secrets(&path).unwrap();
    assert_eq!((read.vrrp_password, read.vrrp_key.map(|key| key.id)), (None, Some(1)), "{made}");
}

#[test]
fn a_given_password_of_vrrp_must_fit() {
    let with_version = |version| {
        let text = format!(
            "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n[[proxy]]\nname = \"ha1\"\n\
             address = \"10.0.1.21\"\n[[vip]]\naddress = \"10.0.1.10/24\"\nversion = {version}\ninterval = \"1s\"\n"
        );
        ha_config::parse(&text, Path::new("cluster.toml")).unwrap()
    };
    let made = |version, given: &str| {
        let secrets = Secrets::with(&with_version(version), Some(given.to_owned()))?;
        anyhow::Ok(secrets.for_proxy())
    };
    assert!(made(2, "pass1234").unwrap().unwrap().ends_with("vrrp_password = \"pass1234\"\n"));
    assert_eq!(made(3, "anything at all").unwrap(), None, "version 3 has no password");
    for bad in ["ninechars", "a b", "a\"b"] {
        let error = made(2, bad).unwrap_err();
        assert_eq!(crate::exit_code::code_of(&error), Code::Configuration);
        assert!(!error.to_string().contains(bad), "{error}");
    }
}
