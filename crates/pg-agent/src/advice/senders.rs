//! Who streams under the names of members: PostgreSQL counts names, not hosts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ha_core::MemberName;
use ha_core::standby_names::StandbyName;

use crate::postgres::SenderDetails;

pub(super) fn judge(senders: &[SenderDetails], addresses: &BTreeMap<MemberName, IpAddr>) -> Vec<String> {
    let mut found = Vec::new();
    let mut connected: BTreeMap<StandbyName, usize> = BTreeMap::new();
    for sender in senders {
        let Some(name) = sender.name.as_ref().and_then(|name| name.parse::<StandbyName>().ok()) else {
            continue;
        };
        let member = &name.member.name;
        let expected = addresses.get(member);
        let address = sender.address.as_deref().unwrap_or("the unix socket");
        if address.parse::<IpAddr>().ok().as_ref() != expected {
            let expected = expected.map_or_else(|| "in no line of the file".to_owned(), IpAddr::to_string);
            found.push(format!(
                "{address} streams under the name of {member}, whose address is {expected}: PostgreSQL counts its confirmations as that member's; end it and change the password of replication"
            ));
        }
        *connected.entry(name).or_default() += 1;
    }
    for (name, count) in connected.into_iter().filter(|(_, count)| *count > 1) {
        found.push(format!(
            "{count} connections stream under the name {name}: with acks of 2 or more they count as several members"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str, address: Option<&str>) -> SenderDetails {
        SenderDetails {
            user: Some("replicator".to_owned()),
            name: Some(name.to_owned()),
            address: address.map(str::to_owned),
            state: Some("streaming".to_owned()),
            sync_state: Some("quorum".to_owned()),
            sync_priority: Some(1),
        }
    }

    #[test]
    fn a_walsender_from_another_address_or_a_second_one_is_advice() {
        let addresses: BTreeMap<MemberName, IpAddr> = [("pg2", "10.0.1.12"), ("pg3", "10.0.1.13")]
            .map(|(name, address)| (name.parse().unwrap(), address.parse().unwrap()))
            .into();
        let (pg2, pg3) = ("pg2.i000000ab.e7", "pg3.i000000ac.e7");
        let well = [
            sender(pg2, Some("10.0.1.12")),
            sender(pg3, Some("10.0.1.13")),
            sender("pg_basebackup", Some("10.0.1.99")),
        ];
        assert!(judge(&well, &addresses).is_empty());

        let spoofed = judge(&[sender(pg2, Some("10.0.1.13"))], &addresses);
        assert!(spoofed[0].contains("10.0.1.13 streams under the name of pg2"), "{spoofed:?}");
        let local = judge(&[sender(pg2, None)], &addresses);
        assert!(local[0].contains("the unix socket streams under"), "{local:?}");
        let unknown = judge(&[sender("pg9.i000000ab.e7", Some("10.0.1.13"))], &addresses);
        assert!(unknown[0].contains("in no line of the file"), "{unknown:?}");
        let twice = judge(&[sender(pg2, Some("10.0.1.12")), sender(pg2, Some("10.0.1.12"))], &addresses);
        assert!(
            twice.len() == 1 && twice[0].contains("2 connections stream under the name pg2."),
            "{twice:?}"
        );
    }
}
