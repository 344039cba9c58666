//! An unexpected ERROR in a daemon's log fails the test that caused it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::lab_dir::PROGRAMS;

/// How long each log was at some moment.
#[derive(Debug, Clone, Default)]
pub struct LogMarks(BTreeMap<(String, String), usize>);

impl LogMarks {
    /// The logs as they are now.
    pub fn now(lab: &Lab) -> Self {
        let length = |host: &str, daemon: &str| {
            let log = fs::metadata(lab.dir().log(host, daemon));
            log.map_or(0, |log| usize::try_from(log.len()).unwrap_or(usize::MAX))
        };
        Self(
            ours(lab)
                .map(|(host, daemon)| ((host.to_owned(), daemon.to_owned()), length(host, daemon)))
                .collect(),
        )
    }
}

/// Reads all logs of our daemons.
///
/// # Errors
/// A line of level ERROR (or a panic) contains none of the `expected` texts. The message lists all such lines.
pub fn check_logs(lab: &Lab, expected: &[&str]) -> Result<()> {
    check_logs_after(lab, &LogMarks::default(), expected)
}

/// Reads what was logged after a moment.
///
/// # Errors
/// As [`check_logs`].
pub fn check_logs_after(lab: &Lab, marks: &LogMarks, expected: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    for (host, daemon) in ours(lab) {
        let text = fs::read_to_string(lab.dir().log(host, daemon)).unwrap_or_default();
        let after = marks.0.get(&(host.to_owned(), daemon.to_owned())).copied().unwrap_or(0);
        let lines = unexpected(text.get(after..).unwrap_or_default(), expected);
        found.extend(lines.into_iter().map(|line| format!("{host} {daemon}: {line}")));
    }
    ensure!(found.is_empty(), "unexpected errors in the logs ({}):\n{}", found.len(), found.join("\n"));
    Ok(())
}

/// Every daemon of ours, with its host.
fn ours(lab: &Lab) -> impl Iterator<Item = (&str, &str)> {
    let ours = |unit: &&String| PROGRAMS.contains(&unit.as_str());
    lab.hosts()
        .iter()
        .flat_map(move |host| host.units.iter().filter(ours).map(|unit| (host.name.as_str(), unit.as_str())))
}

fn unexpected(log: &str, expected: &[&str]) -> Vec<String> {
    log.lines()
        .filter(|line| {
            line.contains("panicked at") || line.split_whitespace().take(2).any(|word| word == "ERROR")
        })
        .filter(|line| !expected.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_level_and_not_the_word() {
        let log = "2026-01-01T00:00:00Z  INFO pg_agent: ERROR in a message\n\
                   2026-01-01T00:00:00Z ERROR pg_agent: lost the store\n\
                   thread 'main' panicked at src/main.rs:1\n";
        assert_eq!(unexpected(log, &["lost the store"]).len(), 1);
        assert_eq!(unexpected(log, &[]).len(), 2);
    }
}
