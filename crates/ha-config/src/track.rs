//! `[[vip.track]]`: what a floating address follows beside pg-proxy.

use std::path::PathBuf;
use std::time::Duration;

use crate::reader::Table;

/// Priorities that keepalived's weights may have.
const LARGEST_WEIGHT: i16 = 253;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracked {
    /// A program with its arguments; well is exit code 0. No shell.
    Script(Vec<String>),
    /// A file that holds a whole number; an absent one counts as 0.
    File(PathBuf),
    /// A network interface: up and with a carrier.
    Interface(String),
    /// A process by the name of its program, as `/proc/PID/comm` has it.
    Process(String),
    /// The local pg-proxy: it serves.
    Proxy,
}

/// One thing that a floating address follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What.
    pub what: Tracked,
    /// How often it is looked at.
    pub interval: Duration,
    /// How long a script may run, and a file may take to be read.
    pub timeout: Duration,
    /// Successes in a row that make it well.
    pub rise: u32,
    /// Failures in a row that make it failed.
    pub fall: u32,
    /// -253 to 253; 0 = a failure is a fault: no address on this host.
    pub weight: i16,
    /// It begins as failed.
    pub init_fail: bool,
    /// Well counts as failed, and the other way round.
    pub reverse: bool,
    /// Whom a script runs as.
    pub user: String,
}

impl Track {
    /// In few words.
    pub fn name(&self) -> String {
        match &self.what {
            Tracked::Script(words) => format!("script {}", words.join(" ")),
            Tracked::File(path) => format!("file {}", path.display()),
            Tracked::Interface(name) => format!("interface {name}"),
            Tracked::Process(name) => format!("process {name}"),
            Tracked::Proxy => "proxy".to_owned(),
        }
    }

    /// Reads one `[[vip.track]]`; `None` when it does not say what.
    pub(crate) fn read(table: &Table<'_>) -> Option<Self> {
        let what = read_what(table)?;
        let range = || Duration::from_millis(100)..=Duration::from_secs(3600);
        let interval = table.duration("interval", range()).unwrap_or(Duration::from_secs(1));
        let timeout = table.duration("timeout", range()).unwrap_or(interval);
        let number = |name| table.number(name, 1..=1000).unwrap_or(1);
        let weight = table.read("weight", "a whole number from -253 to 253", |value| {
            let number = value.as_integer()?;
            let number = i16::from_str_radix(number.as_str(), number.radix()).ok()?;
            (number.abs() <= LARGEST_WEIGHT).then_some(number)
        });
        let user = table.read("user", "the name of a user of the host", |value| {
            value.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
        });
        let flag = |name| table.boolean(name).unwrap_or(false);
        Some(Self {
            what,
            interval,
            timeout,
            rise: number("rise"),
            fall: number("fall"),
            weight: weight.map_or(0, |at| at.value),
            init_fail: flag("init_fail"),
            reverse: flag("reverse"),
            user: user.map_or_else(|| "nobody".to_owned(), |at| at.value),
        })
    }
}

fn read_what(table: &Table<'_>) -> Option<Tracked> {
    const KINDS: [&str; 5] = ["script", "file", "interface", "process", "proxy"];
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| table.has(kind)).collect();
    if given.len() != 1 {
        let found = if given.is_empty() { "nothing".to_owned() } else { given.join(" and ") };
        table.refuse(given.first().unwrap_or(&"script"), found, format!("one of {}", KINDS.join(", ")));
        return None;
    }
    let name = |key: &str, expected: &str| {
        let read = table.read(key, expected, |value| {
            value.as_str().filter(|text| (1..=15).contains(&text.len())).map(str::to_owned)
        });
        read.map(|at| at.value)
    };
    match given[0] {
        "script" => {
            let expected = "a list: [\"/absolute/path\", \"argument\", ...]";
            let words: Vec<String> = table.list("script", expected)?.into_iter().map(|at| at.value).collect();
            if !words.first().is_some_and(|program| program.starts_with('/')) {
                table.refuse("script", format!("{words:?}"), expected);
                return None;
            }
            Some(Tracked::Script(words))
        }
        "file" => table.path("file").map(Tracked::File),
        "interface" => name("interface", "the name of a network interface").map(Tracked::Interface),
        "process" => name("process", "the name of a program, at most 15 bytes").map(Tracked::Process),
        _ => match table.boolean("proxy")? {
            true => Some(Tracked::Proxy),
            false => {
                table.refuse("proxy", "false", "true, or another kind of track");
                None
            }
        },
    }
}
