//! What was written and what to do with it. Names and modes only, never a secret.

use std::fmt::Write as _;
use std::path::Path;

use ha_config::Cluster;

use super::bundle::{Bundle, Owner};

/// The text that `hactl init` prints.
pub(super) fn describe(out: &Path, cluster: &Cluster, bundles: &[Bundle]) -> String {
    let mut text = String::new();
    compose(&mut text, out, cluster, bundles).expect("writing to a string cannot fail");
    text
}

fn compose(text: &mut String, out: &Path, cluster: &Cluster, bundles: &[Bundle]) -> std::fmt::Result {
    writeln!(text, "Cluster {} (digest {}), written to {}", cluster.name, cluster.digest, out.display())?;
    for bundle in bundles {
        let name = bundle
            .host
            .as_deref()
            .unwrap_or_else(|| bundle.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default());
        writeln!(text, "\n{name} ({})", bundle.description)?;
        for file in &bundle.files {
            let owner = match &file.owner {
                Owner::You => "you",
                Owner::User(user) => user,
            };
            writeln!(text, "  {:04o}  {owner:<10} {}", file.mode, file.path.display())?;
        }
    }
    writeln!(
        text,
        "\nFor each host copy its directory onto the host's root, with the modes and owners above:\n  \
         tar -C {}/HOST -cf - etc | ssh root@HOST 'tar -C / -xf - --no-same-owner'\n  \
         then chown each file that is not root's, run hactl check there, and enable the units named above:\n  \
         systemctl enable --now UNITS\n\
         Keep authority/ca.key where no host can read it: whoever has it can join the cluster.",
        out.display()
    )
}
