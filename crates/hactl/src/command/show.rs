//! `hactl list` and `hactl status`.

use crate::agents::Agents;
use crate::args::{Args, ListArgs, StatusArgs};
use crate::exit_code::Code;
use crate::output;

/// The members and their roles; written also when no agent answers.
pub(crate) fn list(args: &Args, list: &ListArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    let overview = Agents::block_on(async { Ok(agents.overview().await) })?;
    output::print(&output::list::render(&overview, list.format, output::colored())?)?;
    overview.require_an_answer()?;
    Ok(Code::Done)
}

/// The whole state, or one member's.
pub(crate) fn status(args: &Args, status: &StatusArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    let one = status.member.as_deref();
    if let Some(name) = one {
        agents.host(name)?;
    }
    let overview = Agents::block_on(async { Ok(agents.overview().await) })?;
    output::print(&output::status::render(&overview, one, status.format, output::colored())?)?;
    overview.require_an_answer()?;
    Ok(Code::Done)
}
