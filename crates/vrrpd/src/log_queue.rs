//! Log records of the thread that must not wait: handed over to a normal thread, which finds the words and writes them.

use std::borrow::Cow;
use std::fmt;
use std::io;

use tracing::Level;
use vrrp::{ProxyHealth, Reason};

use crate::outlet::{Outlet, OutletEnd, outlet};
use crate::proxy_link::Death;

/// Records that may wait. A virtual router writes a few each time something changes, so this is minutes of a bad day;
/// when full, records are counted and lost, because an advertisement must not wait for a log.
const RECORDS_WAITING: usize = 256;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text {
    Words(Cow<'static, str>),
    /// A virtual router says why it did something.
    Reason(Reason),
    /// The local proxy, as it counts now.
    ProxyIs(ProxyHealth),
    ProxyIsDead(Death),
}

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) level: Level,
    /// Which virtual router, if one.
    pub(crate) vrid: Option<u8>,
    pub(crate) text: Text,
    /// Records that had no room before this one.
    lost: u64,
}

/// The end where records go in.
#[derive(Debug)]
pub(crate) struct LogQueue {
    records: Outlet<Record>,
    lost: u64,
}

/// A queue and the end where records come out. It ends when the queue is dropped. Must be called in a runtime.
///
/// # Errors
/// As of [`outlet`].
pub(crate) fn log_queue() -> io::Result<(LogQueue, OutletEnd<Record>)> {
    let (records, end) = outlet(RECORDS_WAITING)?;
    Ok((LogQueue { records, lost: 0 }, end))
}

impl LogQueue {
    pub(crate) fn info(&mut self, vrid: Option<u8>, text: impl Into<Text>) {
        self.put(Level::INFO, vrid, text.into());
    }

    pub(crate) fn warn(&mut self, vrid: Option<u8>, text: impl Into<Text>) {
        self.put(Level::WARN, vrid, text.into());
    }

    fn put(&mut self, level: Level, vrid: Option<u8>, text: Text) {
        let taken = self.records.put(Record { level, vrid, text, lost: self.lost });
        self.lost = if taken { 0 } else { self.lost + 1 };
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Words(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Words(text.into())
    }
}

impl From<Reason> for Text {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Reason(reason) => reason.fmt(f),
            Self::ProxyIs(health) => write!(f, "the proxy is {health}"),
            Self::ProxyIsDead(death) => write!(f, "the proxy is dead: {death}"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)?;
        match self.lost {
            0 => Ok(()),
            lost => write!(f, " ({lost} records before this one were lost)"),
        }
    }
}

/// Writes records until the queue is dropped and empty.
pub(crate) async fn write_records(mut records: OutletEnd<Record>) {
    while let Some(record) = records.take().await {
        match (record.level, record.vrid) {
            (Level::WARN, Some(vrid)) => tracing::warn!(vrid, "{record}"),
            (Level::WARN, None) => tracing::warn!("{record}"),
            (_, Some(vrid)) => tracing::info!(vrid, "{record}"),
            (_, None) => tracing::info!("{record}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_loses_records_and_says_how_many() {
        let (mut queue, mut records) = log_queue().unwrap();
        for number in 0..RECORDS_WAITING + 3 {
            queue.info(Some(51), number.to_string());
        }
        for _ in 0..RECORDS_WAITING {
            records.take().await.unwrap();
        }
        queue.warn(None, Reason::NobodyTookOver);
        let last = records.take().await.unwrap();
        assert_eq!((last.level, last.vrid), (Level::WARN, None));
        let text = last.to_string();
        assert!(
            text.starts_with("no other host") && text.ends_with("(3 records before this one were lost)"),
            "{text}"
        );
        queue.info(None, Text::ProxyIs(ProxyHealth::Serving));
        assert_eq!(records.take().await.unwrap().to_string(), "the proxy is serving");
        drop(queue);
        assert_eq!(records.take().await, None);
    }
}
