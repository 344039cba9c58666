//! The text of `cluster.toml`: the one given, or one made from the command line.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use ha_config::Cluster;

use crate::args::InitArgs;
use crate::exit_code::{Code, Stop};

/// The file's text and what it means. A given file is taken byte by byte.
pub(super) fn read_or_write(given: Option<&Path>, init: &InitArgs) -> anyhow::Result<(String, Cluster)> {
    let Some(path) = given else {
        if init.databases.is_empty() {
            let message = "no hosts: give --config FILE with an existing cluster.toml, or --database NAME=ADDRESS for each";
            return Err(Stop::new(Code::Configuration, message).into());
        }
        let text = compose(init);
        let cluster =
            ha_config::parse(&text, Path::new("cluster.toml")).context("the options make no usable file")?;
        return Ok((text, cluster));
    };
    if !init.databases.is_empty() || !init.proxies.is_empty() || !init.vips.is_empty() {
        let message =
            "--database, --proxy and --vip say what --config FILE says already: give one or the other";
        return Err(Stop::new(Code::Configuration, message).into());
    }
    let cluster = ha_config::load(path).with_context(|| format!("{} is not usable", path.display()))?;
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok((text, cluster))
}

/// The shortest complete file; everything else has a default.
fn compose(init: &InitArgs) -> String {
    let mut text = format!(
        "# The whole cluster, the same file on every host. Check it with `hactl check` after a change.\nname = {}\n",
        quoted(&init.name)
    );
    let hosts = init.databases.iter().map(|host| ("database", host));
    for (list, (name, address)) in hosts.chain(init.proxies.iter().map(|host| ("proxy", host))) {
        let name = quoted(name);
        write!(text, "\n[[{list}]]\nname = {name}\naddress = \"{address}\"\n")
            .expect("writing to a string cannot fail");
    }
    for vip in &init.vips {
        write!(text, "\n[[vip]]\naddress = {}\n", quoted(vip)).expect("writing to a string cannot fail");
    }
    text.push_str("\n[replication]\nmode = \"synchronous\"            # \"synchronous\" | \"strict\" | \"asynchronous\"\n");
    text
}

/// A TOML basic string. Wrong names are refused by the check that follows, not here.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
