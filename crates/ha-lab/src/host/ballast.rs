//! A file that leaves no room on the file system of PostgreSQL's data.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};

use anyhow::{Context as _, Result};

/// Beside the data directories, not in one.
const PATH: &str = "/var/lib/postgresql/ballast";

/// Writes until the last block is taken. Only for labs with a data disk of their own.
pub(crate) fn fill() -> Result<u64> {
    let mut file = OpenOptions::new().create(true).append(true).open(PATH).context("open the ballast")?;
    let mut written = 0;
    // Large pieces first; single blocks take what is left.
    for size in [1 << 20, 1 << 14, 1 << 12] {
        let piece = vec![0; size];
        loop {
            match file.write(&piece) {
                Ok(0) => break,
                Ok(bytes) => written += bytes as u64,
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    break;
                }
                Err(error) => return Err(error).context("write the ballast"),
            }
        }
    }
    Ok(written)
}

/// Gives the room back.
pub(crate) fn free() -> Result<()> {
    match fs::remove_file(PATH) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("remove the ballast"),
        _ => Ok(()),
    }
}
