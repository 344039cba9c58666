//! The cluster as its agents report it, asked from the client host.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::clock;
use crate::lab::Lab;
use crate::wait::wait_for;

/// One member in an agent's `GET /cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSeen {
    /// Its name.
    pub name: String,
    /// `leader`, `sync_standby`, `quorum_standby`, `replica`.
    pub role: String,
    /// `running`, `streaming`, ...
    pub state: String,
    /// Timeline, when known.
    pub timeline: Option<u64>,
    /// Bytes behind the leader, when known.
    pub lag: Option<u64>,
}

impl MemberSeen {
    /// Whether it is a listed synchronous standby.
    pub fn is_sync(&self) -> bool {
        matches!(self.role.as_str(), "sync_standby" | "quorum_standby")
    }

    /// Whether it leads and runs.
    pub fn leads(&self) -> bool {
        self.role == "leader" && self.state == "running"
    }
}

impl fmt::Display for MemberSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.role, self.state)?;
        match (self.timeline, self.lag) {
            (Some(timeline), Some(lag)) => write!(f, " timeline {timeline} lag {lag}"),
            (Some(timeline), None) => write!(f, " timeline {timeline}"),
            _ => Ok(()),
        }
    }
}

/// The whole cluster as one agent sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSeen {
    /// Members by name.
    pub members: Vec<MemberSeen>,
    /// Whether maintenance mode is on.
    pub paused: bool,
}

impl ClusterSeen {
    /// The only member that leads and runs.
    pub fn leader(&self) -> Option<&str> {
        let mut leaders = self.members.iter().filter(|member| member.leads());
        let leader = leaders.next()?;
        leaders.next().is_none().then_some(leader.name.as_str())
    }

    /// A member by name.
    pub fn member(&self, name: &str) -> Option<&MemberSeen> {
        self.members.iter().find(|member| member.name == name)
    }

    fn parse(value: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let members = value["members"].as_array().context("no members in /cluster")?;
        Ok(Self {
            members: members
                .iter()
                .map(|member| MemberSeen {
                    name: text(member, "name"),
                    role: text(member, "role"),
                    state: text(member, "state"),
                    timeline: member["timeline"].as_u64(),
                    lag: member["lag"].as_u64().or_else(|| member["receive_lag"].as_u64()),
                })
                .collect(),
            paused: value["pause"].as_bool().unwrap_or(false),
        })
    }
}

impl fmt::Display for ClusterSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<String> = self.members.iter().map(ToString::to_string).collect();
        write!(f, "[{}]{}", members.join(", "), if self.paused { " paused" } else { "" })
    }
}

impl Lab {
    /// What one agent reports.
    ///
    /// # Errors
    /// It does not answer.
    pub fn cluster_seen_by(&self, host: &str) -> Result<ClusterSeen> {
        ClusterSeen::parse(&self.rest(host, "/cluster")?.json()?)
    }

    /// Waits until the agents of these hosts all report a cluster that satisfies `holds` (which says in words what is missing).
    /// Returns the report of the first.
    ///
    /// # Errors
    /// It did not within `limit`; the message says what each host reported last.
    pub fn wait_cluster(
        &self,
        awaited: &str,
        asked: &[&str],
        limit: Duration,
        holds: impl Fn(&ClusterSeen) -> Result<(), String>,
    ) -> Result<ClusterSeen> {
        wait_for(awaited, limit, || {
            let mut first = None;
            for host in asked {
                let seen = self.cluster_seen_by(host).map_err(|error| format!("{host}: {error:#}"))?;
                holds(&seen).map_err(|missing| format!("{host}: {missing}: {seen}"))?;
                first.get_or_insert(seen);
            }
            first.ok_or_else(|| "nobody to ask".to_owned())
        })
    }

    /// Waits until one member of `members` leads, all others of them are synchronous standbys that stream without lag on its
    /// timeline, and all of them agree on that. Returns the leader's name.
    ///
    /// # Errors
    /// They were not within `limit`.
    pub fn wait_healthy_members(&self, members: &[&str], limit: Duration) -> Result<String> {
        let seen = self.wait_cluster(
            &format!("one leader among {members:?} and the others in sync"),
            members,
            limit,
            |seen| healthy(seen, members, self.is_synchronous()),
        )?;
        Ok(seen.leader().unwrap_or_default().to_owned())
    }

    /// The same for all database hosts.
    ///
    /// # Errors
    /// They were not healthy within `limit`.
    pub fn wait_healthy(&self, limit: Duration) -> Result<String> {
        self.wait_healthy_members(&self.databases(), limit)
    }

    /// Waits until no postmaster runs on a host any more. Returns when.
    ///
    /// # Errors
    /// One did after `limit`.
    pub fn wait_postgres_ended(&self, host: &str, limit: Duration) -> Result<Duration> {
        wait_for(&format!("the end of PostgreSQL on {host}"), limit, || {
            match self.host_status(host).map_err(|error| format!("{error:#}"))?.postmaster {
                Some(pid) => Err(format!("postmaster {pid} lives")),
                None => Ok(clock::now()),
            }
        })
    }

    /// Waits until SQL on a host's PostgreSQL gives this answer.
    ///
    /// # Errors
    /// It did not within 20 s.
    pub fn wait_sql(&self, host: &str, sql: &str, expected: &str) -> Result<()> {
        wait_for(&format!("{expected:?} from {sql:?} on {host}"), Duration::from_secs(20), || {
            match self.sql(host, sql).map_err(|error| format!("{error:#}"))? {
                answer if answer == expected => Ok(()),
                answer => Err(answer),
            }
        })
    }

    /// Waits until one of `members` leads in its own agent's view, whatever the others do. Returns its name.
    ///
    /// # Errors
    /// None did within `limit`.
    pub fn wait_leader_among(&self, members: &[&str], limit: Duration) -> Result<String> {
        wait_for(&format!("a leader among {members:?}"), limit, || {
            let mut seen = Vec::new();
            for host in members {
                match self.rest(host, "/primary") {
                    Ok(answer) if answer.status == 200 => return Ok((*host).to_owned()),
                    Ok(answer) => seen.push(format!("{host}: {}", answer.status)),
                    Err(error) => seen.push(format!("{host}: {error:#}")),
                }
            }
            Err(seen.join(", "))
        })
    }
}

/// Whether the cluster is as it should be, as far as these members are concerned.
fn healthy(seen: &ClusterSeen, members: &[&str], synchronous: bool) -> Result<(), String> {
    let leader = seen.leader().ok_or("not one leader")?;
    let timeline = seen.member(leader).and_then(|leader| leader.timeline);
    if !members.contains(&leader) {
        return Err(format!("{leader} leads"));
    }
    for name in members {
        let member = seen.member(name).ok_or_else(|| format!("no member {name}"))?;
        if *name == leader {
            continue;
        }
        if member.state != "streaming" {
            return Err(format!("{name} does not stream"));
        }
        if synchronous && !member.is_sync() {
            return Err(format!("{name} is no synchronous standby"));
        }
        if member.timeline.is_some() && member.timeline != timeline {
            return Err(format!("{name} is on another timeline"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_leaders_are_no_leader() {
        let seen = ClusterSeen::parse(&json!({"members": [
            {"name": "pg1", "role": "leader", "state": "running", "timeline": 1},
            {"name": "pg2", "role": "quorum_standby", "state": "streaming", "timeline": 1, "lag": 0},
        ], "scope": "x"}))
        .unwrap();
        assert_eq!(seen.leader(), Some("pg1"));
        assert!(healthy(&seen, &["pg1", "pg2"], true).is_ok());
        assert!(healthy(&seen, &["pg2"], true).is_err());
        let mut both = seen;
        both.members[1].role = "leader".to_owned();
        both.members[1].state = "running".to_owned();
        assert_eq!(both.leader(), None);
    }
}
