//! What was measured on: a number without it says nothing.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::Serialize;

/// The machine, the versions, the build and the day.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) system: String,
    /// Build profile of our programs: that of this one.
    pub(crate) profile: &'static str,
    /// Names and what each program says of itself; those that are not installed are left out.
    pub(crate) versions: Vec<(&'static str, String)>,
}

/// Programs whose version counts, and how they are asked.
const PROGRAMS: [(&str, &str, &str); 6] = [
    ("etcd", "etcd", "--version"),
    ("Patroni", "patroni", "--version"),
    ("HAProxy", "haproxy", "-v"),
    ("keepalived", "keepalived", "--version"),
    ("PgBouncer", "pgbouncer", "--version"),
    ("PostgreSQL", "psql", "--version"),
];

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Self {
        let versions = PROGRAMS
            .into_iter()
            .filter_map(|(name, program, argument)| Some((name, version(program, argument)?)));
        Self {
            date: output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: output("uname", &["-sr"]).unwrap_or_default(),
            system: system(),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            versions: versions.collect(),
        }
    }
}

/// One line.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, cores, kernel, system, profile, versions } = self;
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let versions = versions.join(", ");
        write!(f, "{date}, {cores} cores, {system}, {kernel}; {versions}; build profile {profile}.")
    }
}

fn system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// The first word of a program's answer that begins with a number.
fn version(program: &str, argument: &str) -> Option<String> {
    let text = output(program, &[argument])?;
    let number = |word: &&str| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit());
    let word = text.split_whitespace().find(number)?;
    Some(word.trim_start_matches('v').trim_end_matches(',').to_owned())
}

/// What a program says, on either of its outputs.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}
