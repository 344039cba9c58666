//! `secrets.toml`: what must not stand in `cluster.toml`.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::keys;
use crate::problem::{Problem, Problems};
use crate::reader::{Report, Table};
use crate::secret::Secret;

/// The passwords of the agent's database roles and the key of the heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Password of `postgres.superuser`.
    pub superuser_password: Secret,
    /// Password of `postgres.replication_user`.
    pub replication_password: Secret,
    /// Password of `postgres.rewind_user`.
    pub rewind_password: Secret,
    /// Key that authenticates heartbeats.
    pub heartbeat_key: Option<Secret>,
}

/// What a proxy host must know; passwords of database roles are none of its business.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySecrets {
    /// Simple text password of VRRP version 2 (RFC 2338 section 5.3.10.2): at most 8 bytes, sent in the clear.
    pub vrrp_password: Option<Secret>,
    /// Signs our advertisements, see `vip.signing`.
    pub vrrp_key: Option<VrrpKey>,
    /// A second key that others may sign with, while keys are changed.
    pub vrrp_next_key: Option<VrrpKey>,
}

/// A key that signs advertisements, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VrrpKey {
    /// 1 to 255.
    pub id: u8,
    /// 32 to 64 bytes.
    pub secret: Secret,
}

/// Reads the proxy host's part of `secrets.toml` (or the environment, `MATRIARCH_VRRP_PASSWORD`, `MATRIARCH_VRRP_KEY`,
/// `MATRIARCH_VRRP_NEXT_KEY`). A missing file holds nothing.
///
/// # Errors
/// All problems at once; one of them when group or others may access the file.
pub fn load_proxy_secrets(path: &Path) -> Result<ProxySecrets, Problems> {
    read_with(path, &environment, |top, environment| {
        let reading = Reading { top, path, environment };
        let vrrp_password = reading.value("vrrp_password", false);
        if vrrp_password.as_ref().is_some_and(|password| password.expose().len() > VRRP_PASSWORD_BYTES) {
            top.refuse(
                "vrrp_password",
                "a longer text",
                "at most 8 bytes: VRRP version 2 has room for no more",
            );
            return None;
        }
        let (vrrp_key, vrrp_next_key) = (reading.key("vrrp_key")?, reading.key("vrrp_next_key")?);
        let ids = [&vrrp_key, &vrrp_next_key].map(|key| key.as_ref().map(|key| key.id));
        let expected = match ids {
            [None, Some(_)] => "nothing, or a vrrp_key as well: it is the one to sign with",
            [Some(one), Some(other)] if one == other => "a number other than that of vrrp_key",
            _ => return Some(ProxySecrets { vrrp_password, vrrp_key, vrrp_next_key }),
        };
        top.refuse("vrrp_next_key", "a key", expected);
        None
    })
}

/// Length of a key that signs advertisements, in bytes.
const VRRP_KEY_BYTES: std::ops::RangeInclusive<usize> = 32..=64;

/// Room for the password in an advertisement of VRRP version 2.
const VRRP_PASSWORD_BYTES: usize = 8;

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads `secrets.toml`; each value may be replaced by the environment (`MATRIARCH_SUPERUSER_PASSWORD`,
/// `MATRIARCH_REPLICATION_PASSWORD`, `MATRIARCH_REWIND_PASSWORD`, `MATRIARCH_HEARTBEAT_KEY`). A missing file is no
/// problem when the environment holds every password.
///
/// # Errors
/// All problems at once; one of them when group or others may access the file.
pub fn load_secrets(path: &Path) -> Result<Secrets, Problems> {
    load_with(path, &environment)
}

/// [`load_secrets`] with the environment given, so that it can be tested.
fn load_with(path: &Path, environment: Environment<'_>) -> Result<Secrets, Problems> {
    read_with(path, environment, |top, environment| read(&Reading { top, path, environment }))
}

/// Gives the value of an environment variable that is set and not empty.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

fn read_with<T>(
    path: &Path,
    environment: Environment<'_>,
    read: impl FnOnce(&Table<'_>, Environment<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // The environment alone may be enough; what it lacks is reported below as missing in the file.
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            let expected = "a file that its owner, this user, may read";
            return Err(Problems::one(Problem::new(path, None, "", error.to_string(), expected)));
        }
    };
    let report = Report::new(path, &text, keys::SECRETS).secret();
    check_mode(&report, path);
    let read = report.parse().and_then(|table| read(&report.top(&table), environment));
    match (report.into_problems(), read) {
        (Some(problems), _) => Err(problems),
        (None, Some(secrets)) => Ok(secrets),
        (None, None) => unreachable!("secrets are left out only after a problem was reported"),
    }
}

fn check_mode(report: &Report<'_>, path: &Path) {
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let expected = format!("0600, for the owner only: chmod 0600 {}", path.display());
        report.push(None, "mode", format!("{mode:04o}"), expected);
    }
}

/// Where a secret may come from.
struct Reading<'a> {
    top: &'a Table<'a>,
    path: &'a Path,
    environment: Environment<'a>,
}

impl Reading<'_> {
    /// A key with its number, `None` inside if there is none, `None` when it is refused.
    fn key(&self, key: &'static str) -> Option<Option<VrrpKey>> {
        let Some(text) = self.value(key, false) else { return Some(None) };
        let found = text.expose().split_once(':').and_then(|(id, secret)| {
            let id = id.parse().ok().filter(|id| *id > 0)?;
            VRRP_KEY_BYTES.contains(&secret.len()).then(|| VrrpKey { id, secret: Secret::new(secret) })
        });
        if found.is_none() {
            let expected = "a number of 1 to 255, a colon and 32 to 64 bytes, such as \"1:...\"";
            self.top.refuse(key, "another text", expected);
        }
        found.map(Some)
    }

    fn value(&self, key: &'static str, required: bool) -> Option<Secret> {
        let variable = format!("MATRIARCH_{}", key.to_uppercase());
        let expected = "text of one line in double quotes, not empty";
        let from_file = self.top.read(key, expected, |value| {
            value
                .as_str()
                .filter(|text| !text.is_empty() && !text.contains(['\n', '\r', '\0']))
                .map(Secret::new)
        });
        let found = (self.environment)(&variable).map(Secret::new).or(from_file.map(|at| at.value));
        if found.is_none() && required && !self.top.has(key) {
            let place = if self.path.exists() { "nothing" } else { "nothing (there is no such file)" };
            self.top.refuse(key, place, format!("a password here or in the environment as {variable}"));
        }
        found
    }
}

fn read(reading: &Reading<'_>) -> Option<Secrets> {
    let superuser_password = reading.value("superuser_password", true);
    let replication_password = reading.value("replication_password", true);
    let rewind_password = reading.value("rewind_password", true);
    let heartbeat_key = reading.value("heartbeat_key", false);
    Some(Secrets {
        superuser_password: superuser_password?,
        replication_password: replication_password?,
        rewind_password: rewind_password?,
        heartbeat_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "superuser_password = \"one\"\nreplication_password = \"two\"\nrewind_password = \"three\"\n";

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn secrets_are_read_and_never_shown() {
        let (_dir, path) = written(GOOD, 0o600);
        let secrets = load_with(&path, &|_| None).unwrap();
        assert_eq!(secrets.replication_password.expose(), "two");
        let shown = format!("{secrets:?}");
        assert!(shown.contains("***") && !shown.contains("two"), "{shown}");
    }

    #[test]
    fn the_environment_replaces_the_file_and_may_stand_alone() {
        let (_dir, path) = written(GOOD, 0o600);
        let one = |name: &str| (name == "MATRIARCH_REWIND_PASSWORD").then(|| "other".to_owned());
        assert_eq!(load_with(&path, &one).unwrap().rewind_password.expose(), "other");
        let nowhere = path.with_file_name("absent.toml");
        assert!(load_with(&nowhere, &|_| Some("x".to_owned())).is_ok());
        let message = load_with(&nowhere, &|_| None).unwrap_err().to_string();
        assert!(
            message.contains("MATRIARCH_SUPERUSER_PASSWORD") && message.contains("no such file"),
            "{message}"
        );
    }

    #[test]
    fn a_readable_file_is_refused_with_every_other_problem_and_without_its_values() {
        let (_dir, path) = written("superuser_password = 4711\nrewind_passwort = \"hunter2\"\n", 0o644);
        let problems = load_with(&path, &|_| None).unwrap_err();
        let message = problems.to_string();
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let wanted =
            ["superuser_password", "rewind_passwort", "mode", "replication_password", "rewind_password"];
        assert_eq!(keys, wanted, "{message}");
        assert!(
            message.contains("chmod 0600") && message.contains("did you mean \"rewind_password\""),
            "{message}"
        );
        assert!(!message.contains("4711") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn keys_of_advertisements_have_numbers_and_a_length() {
        let read = |text: &str| {
            let (_dir, path) = written(text, 0o600);
            load_proxy_secrets(&path)
        };
        let (one, other) = ("0123456789abcdef0123456789abcdef", "x".repeat(64));
        let keys = read(&format!("vrrp_key = \"7:{one}\"\nvrrp_next_key = \"255:{other}\"\n")).unwrap();
        assert_eq!(keys.vrrp_key, Some(VrrpKey { id: 7, secret: Secret::new(one) }));
        assert_eq!(keys.vrrp_next_key.map(|key| (key.id, key.secret.expose().len())), Some((255, 64)));
        let next_alone = format!("vrrp_next_key = \"7:{one}\"\n");
        let same_number = format!("vrrp_key = \"7:{one}\"\nvrrp_next_key = \"7:{other}\"\n");
        let others = [
            one.to_owned(),
            format!("0:{one}"),
            format!("256:{one}"),
            format!("1:{other}x"),
            "1:short".to_owned(),
        ];
        let refused = others.map(|key| format!("vrrp_key = \"{key}\"\n"));
        for text in refused.iter().chain([&next_alone, &same_number]) {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains("_key: found a") && !message.contains(one), "{message}");
        }
    }

    #[test]
    fn broken_syntax_shows_no_value() {
        let (_dir, path) = written("superuser_password = hunter2\n", 0o600);
        let message = load_with(&path, &|_| None).unwrap_err().to_string();
        assert!(message.contains(":1:") && !message.contains("hunter2"), "{message}");
    }
}
