//! `secrets.toml`: what must not stand in `cluster.toml`.

use std::path::Path;

use crate::problem::Problems;
use crate::secret::Secret;

/// The passwords of the agent's database roles and the key of the heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Password of `postgres.superuser`.
    pub superuser_password: Secret,
    /// Password of `postgres.replication_user`.
    pub replication_password: Secret,
    /// Password of `postgres.rewind_user`.
    pub rewind_password: Secret,
    /// Key that authenticates heartbeats.
    pub heartbeat_key: Option<Secret>,
}

/// Reads `secrets.toml`; each value may be replaced by the environment (`MATRIARCH_SUPERUSER_PASSWORD`,
/// `MATRIARCH_REPLICATION_PASSWORD`, `MATRIARCH_REWIND_PASSWORD`, `MATRIARCH_HEARTBEAT_KEY`). A missing file is no
/// problem when the environment holds every password.
///
/// # Errors
/// All problems at once; one of them when group or others may access the file.
pub fn load_secrets(_path: &Path) -> Result<Secrets, Problems> {
    unimplemented!()
}
