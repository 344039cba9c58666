//! The two stacks that are measured, by what differs between them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::classic;
use crate::lab::Lab;
use crate::options::LabOptions;

/// Whose parts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stack {
    /// The programs of this repository.
    Ours,
    /// Patroni, HAProxy and keepalived of the distribution.
    Classic,
}

impl Stack {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Classic => "classic",
        }
    }

    pub(super) fn options(self, options: LabOptions) -> LabOptions {
        match self {
            Self::Ours => options,
            Self::Classic => options.all_classic(),
        }
    }

    /// Before the hosts are powered on.
    pub(super) fn configure(self, lab: &Lab) -> Result<()> {
        match self {
            Self::Ours => Ok(()),
            Self::Classic => classic::configure_all(lab),
        }
    }

    /// What steers PostgreSQL.
    pub(super) fn agent(self) -> &'static str {
        match self {
            Self::Ours => "pg-agent",
            Self::Classic => "patroni",
        }
    }

    /// Waits for one leader and standbys behind it. Returns the leader.
    pub(super) fn wait_healthy(self, lab: &Lab, limit: Duration) -> Result<String> {
        match self {
            Self::Ours => lab.wait_healthy(limit),
            Self::Classic => classic::wait_healthy(lab, limit),
        }
    }

    /// Who can be given the lead.
    pub(super) fn candidate(self, lab: &Lab, leader: &str) -> Result<String> {
        match self {
            Self::Ours => Ok(lab.databases_except(&[leader])[0].to_owned()),
            Self::Classic => classic::synchronous(lab),
        }
    }

    /// Hands the lead over; `options` are those of `hactl`.
    pub(super) fn switch_over(
        self,
        lab: &Lab,
        leader: &str,
        candidate: &str,
        options: &[&str],
    ) -> Result<()> {
        match self {
            Self::Ours => {
                let argv = [&["switchover", "--candidate", candidate, "--yes"], options].concat();
                let output = lab.hactl(&argv)?;
                ensure!(output.code == Some(0), "hactl switchover: {}{}", output.stdout, output.stderr);
                Ok(())
            }
            Self::Classic => classic::switchover(lab, leader, candidate),
        }
    }
}
