//! The arrows between crates point toward the words, and deciders cannot wait for anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use toml::Table;

/// For each crate the crates of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("ha-core", &[]),
    ("ha-decision", &["ha-core"]),
    ("ha-fencing", &["ha-core"]),
    ("ha-routing", &["ha-core"]),
    ("vrrp", &["ha-core"]),
    ("ha-config", &["ha-core"]),
    ("ha-rpc", &["ha-core"]),
    ("ha-store", &["ha-core"]),
    ("ha-daemon", &["ha-core"]),
    ("pg-agent", &["ha-config", "ha-core", "ha-daemon", "ha-decision", "ha-rpc", "ha-store"]),
    ("pg-guard", &["ha-config", "ha-core", "ha-daemon", "ha-fencing"]),
    ("pg-proxy", &["ha-config", "ha-core", "ha-daemon", "ha-routing", "ha-rpc"]),
    ("vrrpd", &["ha-config", "ha-core", "ha-daemon", "ha-rpc", "vrrp"]),
    ("hactl", &["ha-config", "ha-core", "ha-rpc"]),
    ("ha-sim", &["ha-core", "ha-decision", "ha-fencing", "ha-routing", "ha-store", "vrrp"]),
    ("ha-model", &["ha-core", "ha-decision"]),
    ("ha-lab", &["ha-config", "ha-core", "ha-rpc"]),
    ("integration-tests", &["ha-lab"]),
];

/// What a decider may use beside `ha-core`: nothing that waits, opens, rolls dice or looks at a clock.
const PURE: &[&str] =
    &["crc32fast", "ha-core", "hmac", "serde", "serde_json", "sha2", "smallvec", "thiserror", "tracing"];
const PURE_CRATES: [&str; 5] = ["ha-core", "ha-decision", "ha-fencing", "ha-routing", "vrrp"];

/// What must never get into the guard: it may share neither a runtime nor a bug with what it fences.
const NOT_IN_THE_GUARD: [&str; 8] =
    ["axum", "etcd-client", "futures-util", "hyper", "rustls", "tokio", "tokio-postgres", "tonic"];

#[test]
fn arrows_point_toward_the_words() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name}: no place in the layout; give it one"));
            continue;
        };
        for dependency in dependencies(&manifest) {
            if allowed.contains_key(dependency.as_str()) && !may.contains(&dependency.as_str()) {
                wrong.push(format!("{name} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "wrong arrows: {wrong:?}");
}

#[test]
fn deciders_can_wait_for_nothing() {
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        if PURE_CRATES.contains(&name.as_str()) {
            let impure =
                dependencies(&manifest).into_iter().filter(|dependency| !PURE.contains(&dependency.as_str()));
            wrong.extend(impure.map(|dependency| format!("{name} -> {dependency}")));
        }
    }
    assert!(wrong.is_empty(), "a decider that could wait: {wrong:?}");
}

#[test]
fn the_guard_stays_small() {
    let (_, guard) = manifests().into_iter().find(|(name, _)| name == "pg-guard").expect("crate pg-guard");
    let found: Vec<_> =
        dependencies(&guard).into_iter().filter(|name| NOT_IN_THE_GUARD.contains(&name.as_str())).collect();
    assert!(found.is_empty(), "in the guard: {found:?}");
}

#[test]
fn every_crate_obeys_the_workspace() {
    for (name, manifest) in manifests() {
        let lints =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(lints, Some(true), "{name}: [lints] workspace = true is missing");
        let described = manifest["package"].get("description").and_then(toml::Value::as_str);
        assert!(described.is_some_and(|text| !text.is_empty()), "{name}: no description");
        for (dependency, value) in tables(&manifest).into_iter().flat_map(|table| table.iter()) {
            let inherited = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            assert!(inherited, "{name}: {dependency} does not take its version from the workspace");
        }
    }
}

/// Every member's manifest, by name.
fn manifests() -> Vec<(String, Table)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut directories = vec![root.join("integration-tests")];
    directories.extend(
        fs::read_dir(root.join("crates"))
            .expect("list crates")
            .map(|entry| entry.expect("an entry of crates").path()),
    );
    let manifests = directories.into_iter().map(|path| path.join("Cargo.toml")).filter(|path| path.exists());
    manifests
        .map(|path| {
            let text = fs::read_to_string(&path).expect("read a manifest");
            let manifest: Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let name = manifest["package"]["name"].as_str().expect("a package name").to_owned();
            (name, manifest)
        })
        .collect()
}

/// What ends up in the crate itself, by cargo's names. Dependencies of its tests may point anywhere outside the workspace.
fn dependencies(manifest: &Table) -> Vec<String> {
    let table = manifest.get("dependencies").and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

fn tables(manifest: &Table) -> Vec<&Table> {
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    kinds.iter().filter_map(|kind| manifest.get(*kind).and_then(toml::Value::as_table)).collect()
}
