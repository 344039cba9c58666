//! Files that must survive a power loss as a whole: written beside, fsynced, renamed, directory fsynced.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::error::Error;

/// Replaces a file by `content`: after a crash either the old or the new one is there. The permissions hold from the
/// first byte on, so a password is never readable by others.
pub(crate) fn replace(path: &Path, content: &str, mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(Error::file("write", path))?;
    sync_parent(path)
}

/// [`replace`], unless the file holds this text already. Says whether it was written.
pub(crate) fn replace_if_changed(path: &Path, content: &str, mode: u32) -> Result<bool, Error> {
    if std::fs::read(path).is_ok_and(|present| present == content.as_bytes()) {
        return Ok(false);
    }
    replace(path, content, mode)?;
    Ok(true)
}

/// Removes a file if it is there, durably. Says whether it was there.
pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("remove", path)(error)),
    }
}

/// Makes renames and removals in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), Error> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(Error::file("fsync", directory))
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_its_content_and_mode_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "old").unwrap();
        replace(&path, "new", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!replace_if_changed(&path, "new", 0o600).unwrap());
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }
}
