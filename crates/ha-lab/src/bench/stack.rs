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
pub(crate) enum Stack {
    /// The programs of this repository.
    Ours,
    /// Patroni, HAProxy and keepalived of the distribution.
    Classic,
}

impl Stack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Classic => "classic",
        }
    }

    /// A lab of this stack with every host powered on, and nothing waited for.
    pub(crate) fn start(self, options: LabOptions) -> Result<Lab> {
        let lab = match self {
            Self::Ours => Lab::prepare(&options)?,
            Self::Classic => {
                let lab = Lab::prepare(&options.all_classic())?;
                classic::configure_all(&lab)?;
                lab
            }
        };
        lab.power_everything_on()?;
        Ok(lab)
    }

    /// What steers PostgreSQL.
    pub(crate) fn agent(self) -> &'static str {
        match self {
            Self::Ours => "pg-agent",
            Self::Classic => "patroni",
        }
    }

    /// Waits for one leader and standbys behind it. Returns the leader.
    pub(crate) fn wait_healthy(self, lab: &Lab, limit: Duration) -> Result<String> {
        match self {
            Self::Ours => lab.wait_healthy(limit),
            Self::Classic => classic::wait_healthy(lab, limit),
        }
    }

    /// Who can be given the lead.
    pub(crate) fn candidate(self, lab: &Lab, leader: &str) -> Result<String> {
        match self {
            Self::Ours => Ok(lab.databases_except(&[leader])[0].to_owned()),
            Self::Classic => classic::synchronous(lab),
        }
    }

    /// Hands the lead over; `options` are those of `hactl`.
    pub(crate) fn switch_over(
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
