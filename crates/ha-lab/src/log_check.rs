//! An unexpected ERROR in a daemon's log fails the test that caused it.

use std::fs;

use anyhow::{Result, ensure};

use crate::lab::Lab;

/// Daemons whose logs are read.
const DAEMONS: [&str; 2] = ["pg-agent", "pg-guard"];

/// Reads all logs of our daemons.
///
/// # Errors
/// A line of level ERROR (or a panic) contains none of the `expected` texts. The message lists all such lines.
pub fn check_logs(lab: &Lab, expected: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    for host in lab.databases() {
        for daemon in DAEMONS {
            let text = fs::read_to_string(lab.dir().log(host, daemon)).unwrap_or_default();
            found.extend(
                unexpected(&text, expected).into_iter().map(|line| format!("{host} {daemon}: {line}")),
            );
        }
    }
    ensure!(found.is_empty(), "unexpected errors in the logs ({}):\n{}", found.len(), found.join("\n"));
    Ok(())
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
