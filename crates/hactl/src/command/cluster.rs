//! The commands that ask agents by gRPC.

use anyhow::bail;

use crate::args::{
    Args, FailoverArgs, ListArgs, PauseArgs, ReloadArgs, RestartArgs, StatusArgs, SwitchoverArgs,
};
use crate::exit_code::Code;

/// The members and their roles.
pub(crate) fn list(_args: &Args, _list: &ListArgs) -> anyhow::Result<Code> {
    bail!("list: not available yet")
}

/// The whole state.
pub(crate) fn status(_args: &Args, _status: &StatusArgs) -> anyhow::Result<Code> {
    bail!("status: not available yet")
}

/// A planned change of leader.
pub(crate) fn switchover(_args: &Args, _switchover: &SwitchoverArgs) -> anyhow::Result<Code> {
    bail!("switchover: not available yet")
}

/// A forced change of leader.
pub(crate) fn failover(_args: &Args, _failover: &FailoverArgs) -> anyhow::Result<Code> {
    bail!("failover: not available yet")
}

/// PostgreSQL restarted.
pub(crate) fn restart(_args: &Args, _restart: &RestartArgs) -> anyhow::Result<Code> {
    bail!("restart: not available yet")
}

/// PostgreSQL's configuration reloaded.
pub(crate) fn reload(_args: &Args, _reload: &ReloadArgs) -> anyhow::Result<Code> {
    bail!("reload: not available yet")
}

/// Maintenance mode.
pub(crate) fn pause(_args: &Args, _pause: &PauseArgs) -> anyhow::Result<Code> {
    bail!("pause: not available yet")
}

/// The end of maintenance mode.
pub(crate) fn resume(_args: &Args) -> anyhow::Result<Code> {
    bail!("resume: not available yet")
}
