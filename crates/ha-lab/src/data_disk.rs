//! File systems of their own for PostgreSQL's data. They are mounted by the keeper, not by the host, so that they survive the
//! host's power-off.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use serde::{Deserialize, Serialize};

/// What kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataDisk {
    /// In memory and small: it can be filled.
    Small {
        /// Its size in MiB.
        mebibytes: u32,
    },
    /// A real file system on a loop device: it can be made to hang.
    Freezable,
}

/// Room for a few databases of a scenario; the file has holes.
const IMAGE_BYTES: u64 = 2 << 30;

impl DataDisk {
    /// Mounts an empty disk at `path`; a file of that name with `.img` may be made beside it.
    pub(crate) fn mount(self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        match self {
            Self::Small { mebibytes } => {
                let size = format!("size={mebibytes}m");
                mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
                    .with_context(|| format!("mount tmpfs on {}", path.display()))
            }
            Self::Freezable => {
                let image = path.with_extension("img");
                let file = File::create(&image).with_context(|| format!("create {}", image.display()))?;
                file.set_len(IMAGE_BYTES).context("size the image")?;
                run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
                run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(path))?;
                // As in memory: whoever runs PostgreSQL makes its directory here.
                fs::set_permissions(path, fs::Permissions::from_mode(0o1777)).context("set a mode")
            }
        }
    }
}

/// From now on every write to the file system at `path` hangs in the kernel, as on a disk that does not answer; reads of what
/// is in memory go on. Or all of them go on.
pub(crate) fn freeze(path: &Path, frozen: bool) -> Result<()> {
    run(Command::new("fsfreeze").arg(if frozen { "--freeze" } else { "--unfreeze" }).arg(path))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
