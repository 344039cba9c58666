//! The part of a systemd service description that the lab's stand-in obeys.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// When a daemon that ended is started again (`Restart=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    No,
    OnFailure,
    OnAbnormal,
    Always,
}

/// One service.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) user: String,
    pub(crate) restart: Restart,
    pub(crate) restart_pause: Duration,
    pub(crate) stop_limit: Duration,
    pub(crate) environment: Vec<(String, String)>,
    /// Below `/run`, made before the start.
    pub(crate) runtime_directories: Directories,
    /// Whether these stay when the service ends.
    pub(crate) keep_runtime: bool,
    /// Below `/var/lib`, made before the start.
    pub(crate) state_directories: Directories,
    /// Whether everything that the service started ends with it (`KillMode=control-group`).
    pub(crate) kill_group: bool,
    /// The only capabilities that it and its children can have; all when absent.
    pub(crate) capabilities: Option<Vec<String>>,
    /// Those of them that a user other than root holds.
    pub(crate) ambient: Vec<String>,
    pub(crate) no_new_privileges: bool,
    /// How many files it may hold open; what the lab's starter may when absent.
    pub(crate) open_files: Option<u64>,
    /// Real-time priority that it may give itself.
    pub(crate) real_time: Option<u64>,
    /// Whether it may lock all its memory.
    pub(crate) locks_memory: bool,
}

/// Directories that belong to a service.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    pub(crate) names: Vec<String>,
    pub(crate) mode: u32,
}

impl Directories {
    fn none() -> Self {
        Self { names: Vec::new(), mode: 0o755 }
    }
}

impl Unit {
    /// Reads `<directory>/<name>.service`.
    pub(crate) fn read(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(format!("{name}.service"));
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(name, &text).with_context(|| format!("parse {}", path.display()))
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut unit = Self {
            name: name.to_owned(),
            command: Vec::new(),
            user: "root".to_owned(),
            restart: Restart::No,
            restart_pause: Duration::from_millis(100),
            stop_limit: Duration::from_secs(30),
            environment: Vec::new(),
            runtime_directories: Directories::none(),
            keep_runtime: false,
            state_directories: Directories::none(),
            kill_group: true,
            capabilities: None,
            ambient: Vec::new(),
            no_new_privileges: false,
            open_files: None,
            real_time: None,
            locks_memory: false,
        };
        let joined = text.replace("\\\n", " ");
        let mut in_service = false;
        for line in joined.lines().map(str::trim) {
            if line.starts_with('[') {
                in_service = line == "[Service]";
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            if in_service && !line.starts_with(['#', ';']) {
                unit.set(key.trim(), value.trim())?;
            }
        }
        if unit.command.is_empty() {
            bail!("no ExecStart=");
        }
        Ok(unit)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "ExecStart" => {
                self.command = value
                    .trim_start_matches(['-', '+', '!', '@'])
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect();
            }
            "User" => value.clone_into(&mut self.user),
            "Restart" => {
                self.restart = match value {
                    "no" => Restart::No,
                    "on-failure" => Restart::OnFailure,
                    "on-abnormal" | "on-abort" | "on-watchdog" => Restart::OnAbnormal,
                    "always" => Restart::Always,
                    _ => bail!("Restart={value}: not understood"),
                };
            }
            "RestartSec" => self.restart_pause = span(value)?,
            "TimeoutStopSec" => self.stop_limit = span(value)?,
            "Environment" => {
                for word in value.split_whitespace() {
                    if let Some((name, value)) = word.trim_matches('"').split_once('=') {
                        self.environment.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
            "RuntimeDirectory" => self.runtime_directories.names = words(value),
            "RuntimeDirectoryMode" => self.runtime_directories.mode = mode(value)?,
            "StateDirectory" => self.state_directories.names = words(value),
            "StateDirectoryMode" => self.state_directories.mode = mode(value)?,
            "KillMode" => self.kill_group = value == "control-group",
            "NoNewPrivileges" => self.no_new_privileges = matches!(value, "yes" | "true"),
            // As setpriv spells them: cap_sys_nice is sys_nice there.
            "CapabilityBoundingSet" => self.capabilities = Some(capabilities(value)),
            "AmbientCapabilities" => self.ambient = capabilities(value),
            "LimitNOFILE" => {
                self.open_files = Some(value.parse().with_context(|| format!("LimitNOFILE={value}"))?);
            }
            "LimitRTPRIO" => {
                self.real_time = Some(value.parse().with_context(|| format!("LimitRTPRIO={value}"))?);
            }
            "LimitMEMLOCK" => self.locks_memory = value == "infinity",
            "RuntimeDirectoryPreserve" => self.keep_runtime = matches!(value, "yes" | "restart" | "true"),
            _ => {}
        }
        Ok(())
    }
}

fn capabilities(value: &str) -> Vec<String> {
    words(&value.to_lowercase()).iter().map(|name| name.replacen("cap_", "", 1)).collect()
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

fn mode(value: &str) -> Result<u32> {
    u32::from_str_radix(value, 8).with_context(|| format!("mode {value:?}"))
}

/// A time span as systemd writes it: `5`, `5s`, `500ms`, `2min`.
fn span(text: &str) -> Result<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().with_context(|| format!("time span {text:?}"))?;
    let factor = match unit.trim() {
        "" | "s" | "sec" => 1.0,
        "ms" | "msec" => 0.001,
        "min" | "m" => 60.0,
        _ => bail!("time span {text:?}: not understood"),
    };
    Ok(Duration::from_secs_f64(number * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_stand_in_obeys_and_ignores_the_rest() {
        let unit = Unit::parse(
            "pg-agent",
            "[Unit]\nDescription=x\nRestart=no\n[Service]\nType=notify\n# User=nobody\nUser=postgres\n\
             ExecStart=/usr/bin/pg-agent \\\n  --config /etc/matriarch/cluster.toml\nRestart=always\nRestartSec=500ms\n\
             Environment=A=1 B=2\nRuntimeDirectory=matriarch\nRuntimeDirectoryPreserve=yes\nStateDirectory=x\nStateDirectoryMode=0700\n\
             KillMode=process\nCapabilityBoundingSet=CAP_KILL CAP_SETUID\n\
             AmbientCapabilities=CAP_NET_RAW\nLimitNOFILE=65536\n[Install]\nWantedBy=x\n",
        )
        .unwrap();
        assert_eq!(unit.command, ["/usr/bin/pg-agent", "--config", "/etc/matriarch/cluster.toml"]);
        assert_eq!((unit.user.as_str(), unit.restart), ("postgres", Restart::Always));
        assert_eq!(unit.restart_pause, Duration::from_millis(500));
        assert_eq!(unit.environment.len(), 2);
        assert!(unit.keep_runtime && !unit.kill_group);
        assert_eq!(unit.state_directories.mode, 0o700);
        assert_eq!(unit.capabilities.unwrap(), ["kill", "setuid"]);
        assert_eq!((unit.ambient, unit.open_files), (vec!["net_raw".to_owned()], Some(65536)));
        assert!(Unit::parse("x", "[Service]\nUser=root\n").is_err());
    }

    #[test]
    fn time_spans() {
        assert_eq!(span("5").unwrap(), Duration::from_secs(5));
        assert_eq!(span("1.5s").unwrap(), Duration::from_millis(1500));
        assert!(span("soon").is_err());
    }
}
