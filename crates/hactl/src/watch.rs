//! Shows the result of a command once, or again and again: in place on a terminal, one after the other elsewhere.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::agents::Agents;
use crate::args::{Format, ShowArgs};
use crate::exit_code::Code;

/// One look at the cluster.
#[derive(Debug)]
pub(crate) struct Look {
    /// What is shown in any case.
    pub(crate) text: String,
    /// How the command ends, were this its only look.
    pub(crate) outcome: anyhow::Result<Code>,
}

impl Look {
    /// A text, and a check that decides whether all is well.
    pub(crate) fn new(text: String, checked: anyhow::Result<()>) -> Self {
        Self { text, outcome: checked.map(|()| Code::Done) }
    }
}

/// Looks once, or as often as asked until Ctrl-C.
///
/// # Errors
/// Those of the only look; while watching only what cannot get better by looking again.
pub(crate) fn show(show: &ShowArgs, look: impl AsyncFn() -> anyhow::Result<Look>) -> anyhow::Result<Code> {
    Agents::block_on(async {
        let Some(every) = show.watch else {
            let look = look().await?;
            crate::output::print(&look.text)?;
            return look.outcome;
        };
        match repeat(every, show.format, look).await {
            // Whoever read has seen enough, as with `hactl list --watch | head`.
            Err(error) if is_closed_pipe(&error) => Ok(Code::Done),
            ended => ended.map(|()| Code::Done),
        }
    })
}

async fn repeat(
    every: Duration,
    format: Format,
    look: impl AsyncFn() -> anyhow::Result<Look>,
) -> anyhow::Result<()> {
    let in_place = std::io::stdout().is_terminal();
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut number = 0_u64;
    loop {
        let looked = tokio::select! {
            looked = look() => looked?,
            _ = &mut interrupted => break,
        };
        write(&looked, number, every, format, in_place)?;
        number += 1;
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = &mut interrupted => break,
        }
    }
    if in_place {
        // The shell's prompt begins below the `^C` that the terminal has shown.
        crate::output::print("\n")?;
    }
    Ok(())
}

/// Writes one look in one piece, so that a terminal never shows half of it.
fn write(look: &Look, number: u64, every: Duration, format: Format, in_place: bool) -> anyhow::Result<()> {
    let failed = look.outcome.as_ref().err().map(|error| format!("hactl: {error:#}"));
    let text = if in_place {
        frame(&look.text, failed.as_deref(), number, every)
    } else {
        separator(number, format).to_owned() + &look.text
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    if let Some(failed) = failed.filter(|_| !in_place) {
        // Standard error may be closed; what is shown is on standard output anyway.
        drop(writeln!(std::io::stderr(), "{failed}"));
    }
    Ok(())
}

/// Drawn over the one before, line by line: clearing everything first would flicker.
fn frame(text: &str, failed: Option<&str>, number: u64, every: Duration) -> String {
    const CLEAR: &str = "\u{1b}[2J";
    const HOME: &str = "\u{1b}[H";
    const TO_END_OF_LINE: &str = "\u{1b}[K";
    const BELOW: &str = "\u{1b}[J";
    let mut frame = format!("{}{HOME}", if number == 0 { CLEAR } else { "" });
    let head = format!("every {} s, Ctrl-C ends", every.as_secs_f64());
    let lines =
        [head.as_str(), ""].into_iter().chain(text.lines()).chain(failed.into_iter().flat_map(str::lines));
    for line in lines {
        writeln!(frame, "{line}{TO_END_OF_LINE}").unwrap_or_default();
    }
    frame + BELOW
}

/// What stands between two results in a stream of them.
fn separator(number: u64, format: Format) -> &'static str {
    match format {
        _ if number == 0 => "",
        Format::Yaml => "---\n",
        Format::Json => "",
        Format::Table | Format::Tsv => "\n",
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind =
        error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kind == Some(ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_replaces_the_one_before_line_by_line() {
        let every = Duration::from_millis(500);
        let first = frame("a\nb\n", None, 0, every);
        assert_eq!(
            first,
            "\u{1b}[2J\u{1b}[Hevery 0.5 s, Ctrl-C ends\u{1b}[K\n\u{1b}[K\na\u{1b}[K\nb\u{1b}[K\n\u{1b}[J"
        );
        let second = frame("a\n", Some("hactl: nobody answers"), 1, every);
        assert!(
            second.starts_with("\u{1b}[H") && second.contains("hactl: nobody answers\u{1b}[K"),
            "{second:?}"
        );
    }

    #[test]
    fn results_in_a_stream_can_be_told_apart() {
        assert_eq!(separator(0, Format::Yaml), "");
        assert_eq!(separator(1, Format::Yaml), "---\n");
        assert_eq!(separator(1, Format::Json), "");
        assert_eq!(separator(1, Format::Table), "\n");
    }
}
