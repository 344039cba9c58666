use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::*;

#[test]
fn children_are_direct_and_single() {
    assert_eq!(children(CLUSTER, "tls"), ["ca", "cert", "key"]);
    assert_eq!(children(CLUSTER, "database"), ["name", "address", "tags", "postgres"]);
    assert_eq!(children(SECRETS, "").len(), 7);
    assert!(children(CLUSTER, "").contains(&"failover"));
}

#[test]
fn a_suggestion_names_the_nearest_key_or_its_home() {
    assert!(suggestion(CLUSTER, "failover", "leese_ttl").contains("\"lease_ttl\""));
    assert!(suggestion(CLUSTER, "", "databse").contains("\"database\""));
    assert!(suggestion(CLUSTER, "replication", "lease_ttl").contains("[failover]"));
    assert!(suggestion(CLUSTER, "tls", "zzzzzzzz").contains("one of ca, cert, key"));
}

#[test]
fn neighbours_exchanged_are_one_step() {
    assert_eq!(distance("address", "adderss"), 1);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("kitten", "sitting"), 3);
}

/// Key and default of each row of the tables in docs/CONFIGURATION.md.
fn documented() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CONFIGURATION.md");
    let text = std::fs::read_to_string(page).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
        (cells.len() == 8).then(|| (key.to_owned(), cells[3].to_owned()))
    });
    rows.collect()
}

#[test]
fn the_page_and_the_reader_know_the_same_keys() {
    let mut documented: Vec<String> = documented().into_iter().map(|(key, _)| key).collect();
    let mut known: Vec<String> = CLUSTER.iter().chain(SECRETS).map(ToString::to_string).collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known, "docs/CONFIGURATION.md (left) and the known keys (right) differ");
}

/// A file that writes out every documented default means the same as one that says nothing.
#[test]
fn the_documented_defaults_are_the_real_ones() {
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    for (key, default) in documented() {
        let literal = default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
        // Paths with VERSION or NAME in them depend on the host.
        let literal = literal.filter(|literal| !literal.contains('`') && !literal.starts_with('/'));
        let (Some(literal), Some((table, name))) = (literal, key.rsplit_once('.')) else { continue };
        writeln!(tables.entry(table.to_owned()).or_default(), "{name} = {literal}").unwrap();
    }
    assert!(tables.len() >= 8, "{tables:?}");
    let mut hosts = "name = \"a\"\n[[database]]\nname = \"pg1\"\naddress = \"10.0.0.1\"\n".to_owned();
    let rest = "[[database]]\nname = \"pg2\"\naddress = \"10.0.0.2\"\n[[proxy]]\nname = \"ha1\"\naddress = \"10.0.0.3\"\n\
                [[vip]]\naddress = \"10.0.0.9/24\"\n";
    let plain = crate::parse(&format!("{hosts}{rest}"), Path::new("plain")).unwrap();
    write!(hosts, "[database.tags]\n{}", tables.remove("database.tags").unwrap()).unwrap();
    let mut full = format!("{hosts}{rest}{}", tables.remove("vip").unwrap());
    for (table, entries) in tables {
        write!(full, "[{table}]\n{entries}").unwrap();
    }
    let mut full =
        crate::parse(&full, Path::new("full")).unwrap_or_else(|problems| panic!("{problems}\n{full}"));
    full.digest.clone_from(&plain.digest);
    assert_eq!(full, plain);
}

/// Every known key is really read: a file with all of them has no problem, and it lacks none.
#[test]
fn the_full_file_of_the_tests_holds_every_key() {
    let text = include_str!("../../tests/full.toml");
    let table: toml::Table = text.parse().unwrap();
    for key in CLUSTER {
        let mut places = vec![toml::Value::Table(table.clone())];
        for part in key.split('.') {
            places = places
                .iter()
                .flat_map(|value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]))
                .filter_map(|value| if part == "*" { Some(value) } else { value.get(part).cloned() })
                .collect();
        }
        assert!(!places.is_empty(), "{key} is missing in full.toml");
    }
}
