//! `deny.toml` holds: licences, bans and sources of everything that is linked. Reads what `cargo metadata` says, because
//! cargo-deny is not on every machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toml::Table;

/// Where crates may come from, as cargo names it.
const REGISTRY: &str = "crates.io-index";

#[test]
fn licences_are_allowed() {
    let policy = policy();
    let allowed: BTreeSet<&str> = policy["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow")
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let mut wrong = Vec::new();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or("none");
        if !satisfied(licence, &allowed) {
            wrong.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(wrong.is_empty(), "licences that deny.toml does not allow: {wrong:#?}");
}

#[test]
fn banned_crates_are_absent() {
    let policy = policy();
    let packages = packages();
    let bans = policy["bans"]["deny"].as_array().expect("bans.deny");
    let found: Vec<String> = bans
        .iter()
        .filter(|ban| packages.iter().any(|package| package["name"].as_str() == ban["crate"].as_str()))
        .map(|ban| format!("{}: {}", ban["crate"], ban["reason"]))
        .collect();
    assert!(found.is_empty(), "banned: {found:#?}");
}

#[test]
fn sources_are_known() {
    let strange: Vec<String> = packages()
        .iter()
        .filter(|package| package["source"].as_str().is_some_and(|source| !source.ends_with(REGISTRY)))
        .map(|package| format!("{}: {}", package["name"], package["source"]))
        .collect();
    assert!(strange.is_empty(), "from elsewhere: {strange:#?}");
}

/// What fences must not share bugs with what is fenced: whatever is linked into the guard stands in its list, with a reason.
#[test]
fn the_guard_links_nothing_that_its_list_does_not_name() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/pg-guard/README.md");
    let page = std::fs::read_to_string(page).expect("read the guard's page");
    let (_, list) = page.split_once("## Dependencies").expect("a list of dependencies");
    let named: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
    let linked = linked_into("pg-guard");
    let strange: Vec<&String> = linked.iter().filter(|name| !named.contains(name.as_str())).collect();
    assert!(strange.is_empty(), "crates/pg-guard/README.md does not name {strange:?}");
    let gone: Vec<&&str> = named.iter().filter(|name| !linked.contains(**name)).collect();
    assert!(gone.is_empty(), "crates/pg-guard/README.md names {gone:?}, which are not linked");
    for runtime in ["tokio", "etcd-client", "rustls", "tonic", "hyper"] {
        assert!(!linked.contains(runtime), "{runtime} in the guard");
    }
}

/// Names of the crates whose code is in this program (neither procedural macros nor build scripts).
fn linked_into(program: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--package",
            program,
        ])
        .args(["--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo tree");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    names.filter(|name| *name != program).map(str::to_owned).collect()
}

fn policy() -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    std::fs::read_to_string(path).expect("read deny.toml").parse().expect("parse deny.toml")
}

/// What is linked on Linux, as locked.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("parse cargo metadata");
    let resolved: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("resolved packages")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| resolved.contains(id)))
        .cloned()
        .collect()
}

/// Whether a licence expression can be satisfied with what is allowed. `AND` binds tighter than `OR`; an old spelling of
/// `OR` is a slash; an exception after `WITH` only permits more.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut good = all_of(rest, allowed);
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        good |= all_of(rest, allowed);
    }
    good
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let mut good = one(rest, allowed);
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        good &= one(rest, allowed);
    }
    good
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> bool {
    let Some((&word, after)) = rest.split_first() else { return false };
    *rest = after;
    if word == "(" {
        let good = any_of(rest, allowed);
        *rest = rest.get(1..).unwrap_or_default();
        return good;
    }
    if let [with, _, after @ ..] = *rest
        && *with == "WITH"
    {
        *rest = after;
    }
    allowed.contains(word)
}

#[test]
fn licence_expressions() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "(MIT OR ISC) AND GPL-3.0"] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}
