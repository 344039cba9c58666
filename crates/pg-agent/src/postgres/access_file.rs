//! `pg_hba.conf` and `pg_ident.conf`: who may connect.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ha_decision::Access;
use nix::unistd::{Uid, User};

use super::config_file::UserSettings;
use super::durable_file;
use super::error::Error;
use super::place::Place;

const BANNER: &str =
    "# Written by pg-agent at every change; edits are lost. Lines: postgres.hba or `hactl edit-config`.\n";

/// What a cluster without lines of its own lets in: everybody from the server's networks and from this host, by
/// password.
const DEFAULT_LINES: [&str; 2] = ["host all all samenet scram-sha-256", "local all all scram-sha-256"];

/// Writes both files. Says whether anything changed.
pub(crate) fn write(place: &Place, user: &UserSettings, access: Access) -> Result<bool, Error> {
    let ident = durable_file::replace_if_changed(
        &place.data("pg_ident.conf"),
        &ident_text(&place.superuser, &own_name()),
        0o600,
    )?;
    let path = place.data("pg_hba.conf");
    let access = match access {
        // A file that is not ours may let in anybody, for instance by trust.
        Access::Keep if is_ours(&std::fs::read_to_string(&path).unwrap_or_default()) => return Ok(ident),
        Access::Keep => Access::Closed,
        other => other,
    };
    let hba = durable_file::replace_if_changed(&path, &hba_text(place, user, access), 0o600)?;
    Ok(ident || hba)
}

/// Whether `pg_hba.conf` is not what was written for this access.
pub(crate) fn differs(place: &Place, user: &UserSettings, access: Access) -> bool {
    let present = std::fs::read_to_string(place.data("pg_hba.conf")).unwrap_or_default();
    match access {
        Access::Keep => !is_ours(&present),
        other => present != hba_text(place, user, other),
    }
}

fn is_ours(text: &str) -> bool {
    text.starts_with(BANNER)
}

/// The text of `pg_hba.conf`; the first line that matches decides, so the agent's own come first.
pub(crate) fn hba_text(place: &Place, user: &UserSettings, access: Access) -> String {
    let mut text = String::from(BANNER);
    let kind = if place.tls.is_some() { "hostssl" } else { "host" };
    text += &format!("local all \"{}\" peer map=matriarch\n", place.superuser);
    let addresses: BTreeSet<&IpAddr> = place.member_addresses.iter().collect();
    for address in addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        text +=
            &format!("{kind} replication \"{}\" {address}/{bits} scram-sha-256\n", place.replication_user);
        text += &format!("{kind} all \"{}\" {address}/{bits} scram-sha-256\n", place.rewind_user);
    }
    if access == Access::Open {
        if user.hba.is_empty() {
            text += &(DEFAULT_LINES.join("\n") + "\n");
        }
        for line in &user.hba {
            text += line;
            text.push('\n');
        }
    }
    text
}

fn ident_text(superuser: &str, own_name: &str) -> String {
    format!("{BANNER}matriarch \"{own_name}\" \"{superuser}\"\n")
}

/// Name of the operating system user that the agent runs as.
fn own_name() -> String {
    match User::from_uid(Uid::effective()) {
        Ok(Some(user)) => user.name,
        _ => Uid::effective().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_lets_the_agents_user_in_as_superuser() {
        assert!(ident_text("admin", "postgres").ends_with("\nmatriarch \"postgres\" \"admin\"\n"));
        assert!(is_ours(&ident_text("admin", "postgres")));
        assert!(!is_ours("host all all 0.0.0.0/0 trust\n"));
    }
}
