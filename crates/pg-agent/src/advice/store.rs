//! etcd: versions with defects that matter here, alarms, members that do not answer, a database that grows.

use ha_store::StoreStatus;

/// etcd refuses writes at its quota, 2 GiB unless set; our own data is a few kilobytes.
const LARGE_BYTES: u64 = 1 << 30;

pub(super) fn judge(status: &StoreStatus) -> Vec<String> {
    let mut found = Vec::new();
    for member in &status.members {
        let endpoint = &member.endpoint;
        if member.has_lease_defects() {
            found.push(format!(
                "etcd at {endpoint} is version {}, which may end leases that live, or renew ones that ended; fixed in 3.4.38, 3.5.23 and 3.6.5",
                member.version
            ));
        }
        for problem in &member.problems {
            let what = if member.version.is_empty() { "gives no answer" } else { "complains" };
            found.push(format!("etcd at {endpoint} {what}: {problem}"));
        }
        if member.db_size_bytes > LARGE_BYTES {
            found.push(format!(
                "the database of etcd at {endpoint} is larger than 1 GB: compact and defragment it before it reaches its quota, after which nothing can be decided"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use ha_store::MemberStatus;

    use super::*;

    fn member(version: &str, db_size_bytes: u64, problems: &[&str]) -> StoreStatus {
        let problems = problems.iter().map(|p| (*p).to_owned()).collect();
        let (endpoint, version) = ("https://10.0.1.11:2379".to_owned(), version.to_owned());
        let member = MemberStatus { endpoint, version, member_id: 1, leader_id: 1, db_size_bytes, problems };
        StoreStatus { members: vec![member] }
    }

    #[test]
    fn an_etcd_with_lease_defects_or_an_alarm_is_advice() {
        assert!(judge(&member("3.5.23", 20_000_000, &[])).is_empty());
        let old = judge(&member("3.4.23", 0, &[]));
        assert!(old[0].contains("3.4.23") && old[0].contains("3.4.38"), "{old:?}");
        let full = judge(&member("3.5.23", 2 << 30, &["memberID:1 alarm:NOSPACE"]));
        assert!(full.len() == 2 && full[0].contains("complains: memberID:1 alarm:NOSPACE"), "{full:?}");
        let dead = judge(&member("", 0, &["no connection within 1s"]));
        assert!(dead.len() == 1 && dead[0].contains("gives no answer"), "{dead:?}");
    }
}
