//! One line per record on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Environment variable with the filter (`info`, `pg_agent=debug,info`, ...).
pub const FILTER_VARIABLE: &str = "MATRIARCH_LOG";

/// Begins logging. A filter that cannot be read is replaced by `info` and named in the first record; a second call does
/// nothing, so that tests may share a process.
pub fn init_logging() {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let (filter, refused) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let terminal = std::io::stderr().is_terminal();
    let begun = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .with_target(false)
        .try_init();
    if begun.is_ok()
        && let Some(error) = refused
    {
        tracing::warn!(variable = FILTER_VARIABLE, found = %wanted, %error, "log filter not understood, using info");
    }
}
