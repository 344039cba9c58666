//! `hactl list`, `hactl status` and `hactl guard`.

use crate::agents::Agents;
use crate::args::{Args, Format, ShowArgs, StatusArgs};
use crate::exit_code::Code;
use crate::output;
use crate::watch::{self, Look};

/// The members and their roles, and where the proxies lead; written also when no agent answers.
pub(crate) fn list(args: &Args, show: &ShowArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    let colored = output::colored();
    watch::show(show, async || {
        // All at once: a proxy host without power delays the list no more than a database host without power does.
        let (overview, routes) = tokio::join!(agents.overview(), async {
            match show.format {
                Format::Table => output::routes::lines(&agents.cluster, &agents.ask_proxies().await, colored),
                _ => Vec::new(),
            }
        });
        let text = output::list::render(&overview, &routes, show.format, colored)?;
        Ok(Look::new(text, overview.require_an_answer()))
    })
}

/// What stands behind each member's deadline.
pub(crate) fn guard(args: &Args, show: &ShowArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    watch::show(show, async || {
        let overview = agents.overview().await;
        let text = output::guard::render(&overview, show.format, output::colored())?;
        Ok(Look::new(text, overview.require_an_answer()))
    })
}

/// The whole state, or one member's.
pub(crate) fn status(args: &Args, status: &StatusArgs) -> anyhow::Result<Code> {
    let agents = Agents::load(args)?;
    let one = status.member.as_deref();
    if let Some(name) = one {
        agents.host(name)?;
    }
    watch::show(&status.show, async || {
        let overview = agents.overview().await;
        let text = output::status::render(&overview, one, status.show.format, output::colored())?;
        Ok(Look::new(text, overview.require_an_answer()))
    })
}
