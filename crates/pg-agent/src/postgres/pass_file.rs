//! Password files. The one of an epoch is what makes a promise real: without it no walreceiver can reach the leader of
//! that epoch again, whatever a stale configuration says.

use std::path::PathBuf;

use ha_core::Epoch;
use ha_decision::Upstream;

use super::durable_file;
use super::error::Error;
use super::place::Place;

/// The file that `primary_conninfo` names for this upstream.
pub(crate) fn path(place: &Place, upstream: &Upstream) -> PathBuf {
    place.pass_dir().join(format!("e{}.{}", upstream.announced.epoch, upstream.member))
}

/// Writes the file for streaming from this upstream.
pub(crate) fn write(place: &Place, upstream: &Upstream) -> Result<(), Error> {
    create_directory(place)?;
    let password = place.secrets.replication_password.expose();
    let line = entry(upstream, &place.replication_user, password);
    durable_file::replace_if_changed(&path(place, upstream), &line, 0o600).map(drop)
}

/// Writes a file for one job, with the roles of replication and rewind. [`prune`] removes it.
pub(crate) fn write_for_job(place: &Place, source: &Upstream) -> Result<PathBuf, Error> {
    create_directory(place)?;
    let path = place.pass_dir().join("job");
    let mut lines = entry(source, &place.replication_user, place.secrets.replication_password.expose());
    lines += &entry(source, &place.rewind_user, place.secrets.rewind_password.expose());
    durable_file::replace(&path, &lines, 0o600)?;
    Ok(path)
}

/// Removes every file except the one for `upstream`.
pub(crate) fn prune(place: &Place, upstream: Option<&Upstream>) -> Result<(), Error> {
    let keep = upstream.map(|upstream| path(place, upstream));
    remove_where(place, |file, _| Some(file) != keep.as_ref())
}

/// Removes every file of `epoch` and of the epochs before it, durably.
pub(crate) fn revoke(place: &Place, epoch: Epoch) -> Result<(), Error> {
    remove_where(place, |_, of| of.is_none_or(|of| of <= epoch))
}

fn remove_where(place: &Place, which: impl Fn(&PathBuf, Option<Epoch>) -> bool) -> Result<(), Error> {
    let directory = place.pass_dir();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::file("list", &directory)(error)),
    };
    let mut removed = false;
    for entry in entries {
        let path = entry.map_err(Error::file("list", &directory))?.path();
        if which(&path, epoch_of(&path)) {
            std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            removed = true;
        }
    }
    if removed { durable_file::sync_directory(&directory) } else { Ok(()) }
}

/// The epoch in a file's name; none for other files.
fn epoch_of(path: &std::path::Path) -> Option<Epoch> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix('e')?.split_once('.')?.0.parse().ok().map(Epoch)
}

fn create_directory(place: &Place) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let directory = place.pass_dir();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(Error::file("create", &directory))
}

/// A line of a password file (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).
fn entry(upstream: &Upstream, user: &str, password: &str) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
    format!("{}:{}:*:{}:{}\n", escape(&upstream.address), upstream.port, escape(user), escape(password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ha_core::standby_names::StandbyName;
    use ha_core::{Incarnation, MemberId};

    fn upstream(epoch: u64, address: &str) -> Upstream {
        Upstream {
            member: "pg1".parse().unwrap(),
            address: address.into(),
            port: 5432,
            announced: StandbyName {
                member: MemberId::new("pg2".parse().unwrap(), Incarnation(1)),
                epoch: Epoch(epoch),
            },
        }
    }

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let line = entry(&upstream(1, "fd00::1"), "repl", r"a:b\c");
        assert_eq!(line, "fd00\\:\\:1:5432:*:repl:a\\:b\\\\c\n");
    }

    #[test]
    fn the_name_tells_the_epoch() {
        assert_eq!(epoch_of("/x/e12.pg1".as_ref()), Some(Epoch(12)));
        assert_eq!(epoch_of("/x/job".as_ref()), None);
    }
}
