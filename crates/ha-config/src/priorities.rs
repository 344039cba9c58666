//! `vip.priority_model = "keepalived"`: base priorities and weights, and what becomes of them in every combination of
//! failures. Weights that are smaller than the gap between two bases never move anything; that is found here.

use std::collections::BTreeMap;

use ha_core::MemberName;

use crate::cluster::ProxyHost;
use crate::reader::Table;
use crate::vip::Vip;

/// What a host's priority is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PriorityModel {
    /// The health of its proxy, and within it the preference.
    #[default]
    Tiers,
    /// A base and the weights of what is tracked, as in keepalived. Hosts that are not named have 100.
    Keepalived(BTreeMap<MemberName, u8>),
}

/// keepalived's own default.
const DEFAULT_BASE: u8 = 100;
/// The priority of an address's owner, which no weight follows.
const OWNER: u8 = 255;
/// So many things fail at most in the combinations looked at.
const COMBINED: usize = 10;

impl PriorityModel {
    /// The base priority of a host, where there is one.
    pub fn base(&self, host: &MemberName) -> Option<u8> {
        match self {
            Self::Tiers => None,
            Self::Keepalived(bases) => Some(bases.get(host).copied().unwrap_or(DEFAULT_BASE)),
        }
    }

    pub(crate) fn read(table: &Table<'_>, proxies: &[ProxyHost]) -> Self {
        let model = table.read("priority_model", "\"tiers\" or \"keepalived\"", |value| {
            value.as_str().and_then(|text| match text {
                "tiers" => Some(false),
                "keepalived" => Some(true),
                _ => None,
            })
        });
        let named = table.table("priorities");
        if !model.is_some_and(|at| at.value) {
            if table.has("priorities") {
                table.refuse(
                    "priorities",
                    "priorities of hosts",
                    "priority_model = \"keepalived\" beside them",
                );
            }
            return Self::Tiers;
        }
        let mut bases = BTreeMap::new();
        for (name, at) in named.free_entries() {
            let host = proxies.iter().find(|host| host.name.as_str() == name);
            let base = at.value.parse::<u8>().ok().filter(|base| *base >= 1);
            match (host, base) {
                (Some(_), Some(OWNER)) if bases.values().any(|base| *base == OWNER) => {
                    let expected = "255 for one host at most: the one that owns the address";
                    table.report.push(at.line, at.key, at.value, expected);
                }
                (Some(host), Some(base)) => drop(bases.insert(host.name.clone(), base)),
                (None, _) => table.report.push(at.line, at.key, name, "the name of a [[proxy]]"),
                (_, None) => table.report.push(at.line, at.key, at.value, "a priority from 1 to 255"),
            }
        }
        Self::Keepalived(bases)
    }
}

impl Vip {
    /// What an operator would not expect of priorities and weights, in words.
    pub fn surprises(&self, proxies: &[ProxyHost]) -> Vec<String> {
        let PriorityModel::Keepalived(_) = &self.priority_model else { return Vec::new() };
        let mut surprises = Vec::new();
        let weighted: Vec<usize> =
            (0..self.tracks.len()).filter(|index| self.tracks[*index].weight != 0).collect();
        if self.tracks.is_empty() {
            surprises.push("no [[vip.track]]: the address stays where pg-proxy is dead".to_owned());
        }
        if !self.preempt && !weighted.is_empty() {
            surprises.push(
                "preempt = false and a weight: a host whose check fails keeps the address, because nobody takes it \
                 from a lower priority; use weight 0"
                    .to_owned(),
            );
        }
        let well = self.holder(proxies, &[]);
        for &index in weighted.iter().take(COMBINED) {
            for (host, proxy) in proxies.iter().enumerate() {
                let alone = self.holder(proxies, &[(host, index)]);
                if proxies.len() > 1 && well == Some(&proxy.name) && alone == Some(&proxy.name) {
                    surprises.push(format!(
                        "{} holds the address although {} fails there: weight {} is not larger than the distance to the \
                         next priority",
                        proxy.name,
                        self.tracks[index].name(),
                        self.tracks[index].weight
                    ));
                }
            }
        }
        surprises
    }

    /// Who holds the address in each combination of failures of one track: the priorities, and the holder.
    pub fn combinations(&self, proxies: &[ProxyHost]) -> Vec<String> {
        if self.priority_model == PriorityModel::Tiers || self.tracks.is_empty() || proxies.len() > 3 {
            return Vec::new();
        }
        let mut lines = Vec::new();
        for index in 0..self.tracks.len().min(COMBINED) {
            for failed in 1..1_usize << proxies.len() {
                let failures: Vec<(usize, usize)> = (0..proxies.len())
                    .filter(|host| failed >> host & 1 == 1)
                    .map(|host| (host, index))
                    .collect();
                let names: Vec<&str> =
                    failures.iter().map(|(host, _)| proxies[*host].name.as_str()).collect();
                let shown = proxies.iter().enumerate().map(|(host, proxy)| {
                    let priority = self.simulated(&proxy.name, host, &failures);
                    priority
                        .map_or_else(|| format!("{} in fault", proxy.name), |p| format!("{} {p}", proxy.name))
                });
                let shown: Vec<String> = shown.collect();
                let holder = self.holder(proxies, &failures).map_or("NOBODY", MemberName::as_str);
                lines.push(format!(
                    "{} fails on {}: {}; held by {holder}",
                    self.tracks[index].name(),
                    names.join(" and "),
                    shown.join(", ")
                ));
            }
        }
        lines
    }

    /// Who has the highest priority while these (host, track) fail.
    fn holder<'p>(&self, proxies: &'p [ProxyHost], failures: &[(usize, usize)]) -> Option<&'p MemberName> {
        let priorities = proxies.iter().enumerate().filter_map(|(host, proxy)| {
            let priority = self.simulated(&proxy.name, host, failures)?;
            Some((priority, proxy.address, &proxy.name))
        });
        priorities.max_by_key(|(priority, address, _)| (*priority, *address)).map(|(_, _, name)| name)
    }

    /// A host's priority while these fail; `None` = fault.
    fn simulated(&self, name: &MemberName, host: usize, failures: &[(usize, usize)]) -> Option<i32> {
        let base = self.priority_model.base(name)?;
        let mut priority = i32::from(base);
        for (index, track) in self.tracks.iter().enumerate() {
            let well = failures.contains(&(host, index)) == track.reverse;
            let weight = i32::from(track.weight);
            match (weight, well) {
                (0, false) => return None,
                (_, true) => priority += weight.max(0),
                (_, false) => priority += weight.min(0),
            }
        }
        Some(if base == OWNER { OWNER.into() } else { priority.clamp(1, 254) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::OWNER;
    use crate::{Cluster, Problems};

    fn cluster(vip: &str) -> Cluster {
        parse(vip).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn parse(vip: &str) -> Result<Cluster, Problems> {
        let text = format!(
            "name = \"demo\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.1.11\"\n[[proxy]]\nname = \"ha1\"\n\
             address = \"10.0.1.21\"\n[[proxy]]\nname = \"ha2\"\naddress = \"10.0.1.22\"\n[[vip]]\n\
             address = \"10.0.1.10/24\"\npriority_model = \"keepalived\"\n{vip}"
        );
        crate::parse(&text, Path::new("x"))
    }

    fn surprises(vip: &str) -> Vec<String> {
        let cluster = cluster(vip);
        cluster.vips[0].surprises(&cluster.proxies)
    }

    const CHECK: &str = "[[vip.track]]\nproxy = true\nweight = 2\n";

    #[test]
    fn the_guides_pair_has_no_surprise_and_the_guides_table() {
        let vip = format!("priorities = {{ ha1 = 101, ha2 = 100 }}\n{CHECK}");
        assert_eq!(surprises(&vip), [""; 0]);
        let cluster = cluster(&vip);
        assert_eq!(
            cluster.vips[0].combinations(&cluster.proxies),
            [
                "proxy fails on ha1: ha1 101, ha2 102; held by ha2",
                "proxy fails on ha2: ha1 103, ha2 100; held by ha1",
                "proxy fails on ha1 and ha2: ha1 101, ha2 100; held by ha1",
            ]
        );
    }

    #[test]
    fn a_weight_below_the_gap_and_one_without_preemption_are_found() {
        let small = surprises(&format!("priorities = {{ ha1 = 150, ha2 = 100 }}\n{CHECK}"));
        assert!(
            small.len() == 1 && small[0].contains("ha1 holds the address although proxy fails"),
            "{small:?}"
        );
        let trap = surprises(&format!("preempt = false\npriorities = {{ ha1 = 101 }}\n{CHECK}"));
        assert!(trap.len() == 1 && trap[0].contains("preempt = false and a weight"), "{trap:?}");
        assert!(surprises("")[0].contains("no [[vip.track]]"));
        let fault = "[[vip.track]]\nscript = [\"/bin/true\"]\n";
        assert_eq!(surprises(&format!("preempt = false\n{fault}")), [""; 0]);
        let cluster = cluster(fault);
        let lines = cluster.vips[0].combinations(&cluster.proxies);
        assert!(lines[2].ends_with("ha1 in fault, ha2 in fault; held by NOBODY"), "{lines:?}");
    }

    #[test]
    fn one_host_may_own_the_address_and_no_weight_follows_it() {
        let vip = format!("priorities = {{ ha1 = 255, ha2 = 254 }}\n{CHECK}");
        let owned = cluster(&vip);
        assert_eq!(owned.vips[0].priority_model.base(&owned.proxies[0].name), Some(OWNER));
        let lines = owned.vips[0].combinations(&owned.proxies);
        assert_eq!(lines[0], "proxy fails on ha1: ha1 255, ha2 254; held by ha1");
        assert!(surprises(&vip)[0].contains("ha1 holds the address although proxy fails there"));
        let problems =
            |priorities: &str| parse(&format!("priorities = {priorities}\n")).unwrap_err().to_string();
        let two = problems("{ ha1 = 255, ha2 = 255 }");
        assert!(two.contains("found 255, expected 255 for one host at most"), "{two}");
        let none = problems("{ ha1 = 0, ha2 = 256 }");
        assert!(none.matches("a priority from 1 to 255").count() == 2, "{none}");
    }
}
