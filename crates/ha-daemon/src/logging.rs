//! One line per record on standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Environment variable with the filter (`info`, `pg_agent=debug,info`, ...).
pub const FILTER_VARIABLE: &str = "MATRIARCH_LOG";

/// Begins logging. A filter that cannot be read is replaced by `info` and named in the first record; a second call does
/// nothing, so that tests may share a process.
pub fn init_logging() {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    // By module and level: filters by what a record says would bring regular expressions into every daemon.
    let (filter, refused) = match wanted.parse::<Targets>() {
        Ok(filter) => (filter, None),
        Err(error) => (Targets::new().with_default(Level::INFO), Some(error)),
    };
    let terminal = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal).with_target(false);
    let begun = tracing_subscriber::registry().with(lines).with(filter).try_init();
    if begun.is_ok()
        && let Some(error) = refused
    {
        tracing::warn!(variable = FILTER_VARIABLE, found = %wanted, %error, "log filter not understood, using info");
    }
}
