//! Lists of networks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::reader::Table;

/// Reads a list of networks, such as `["10.0.0.0/8", "10.1.2.3"]`; an address alone is a network of its own. Each bad
/// entry is a problem and is left out.
pub(crate) fn read(table: &Table<'_>, name: &str) -> Vec<IpNet> {
    let mut networks: Vec<IpNet> = Vec::new();
    for entry in table.list(name, "networks such as \"10.0.0.0/8\"").unwrap_or_default() {
        let found = format!("{:?}", entry.value);
        let refuse =
            |found, expected: String| table.report.push(entry.line, entry.key.clone(), found, expected);
        let Some(network) = parse(&entry.value) else {
            refuse(found, "a network such as \"10.0.0.0/8\" or \"fd00::/64\", or an address".to_owned());
            continue;
        };
        if network != network.trunc() {
            refuse(found, format!("\"{}\": an address of that network was given", network.trunc()));
        } else if networks.contains(&network) {
            refuse(format!("{found} a second time"), "each network once".to_owned());
        } else {
            networks.push(network);
        }
    }
    networks
}

fn parse(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
