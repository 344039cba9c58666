//! Log records of the thread that must not wait: handed over to a normal thread, which writes them.

use tokio::sync::mpsc;
use tracing::Level;

/// Records that may wait. A virtual router writes a few each time something changes, so this is minutes of a bad day;
/// when full, records are counted and lost, because an advertisement must not wait for a log.
const RECORDS_WAITING: usize = 256;

/// One line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) level: Level,
    /// Which virtual router, if one.
    pub(crate) vrid: Option<u8>,
    pub(crate) text: String,
}

/// The end where records go in.
#[derive(Debug)]
pub(crate) struct LogQueue {
    records: mpsc::Sender<Record>,
    lost: u64,
}

/// A queue and the end where records come out. It ends when the queue is dropped.
pub(crate) fn log_queue() -> (LogQueue, mpsc::Receiver<Record>) {
    let (sender, receiver) = mpsc::channel(RECORDS_WAITING);
    (LogQueue { records: sender, lost: 0 }, receiver)
}

impl LogQueue {
    pub(crate) fn info(&mut self, vrid: Option<u8>, text: impl Into<String>) {
        self.put(Level::INFO, vrid, text.into());
    }

    pub(crate) fn warn(&mut self, vrid: Option<u8>, text: impl Into<String>) {
        self.put(Level::WARN, vrid, text.into());
    }

    fn put(&mut self, level: Level, vrid: Option<u8>, mut text: String) {
        if self.lost > 0 {
            text = format!("{text} ({} records before this one were lost)", self.lost);
        }
        match self.records.try_send(Record { level, vrid, text }) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += 1,
        }
    }
}

/// Writes records until the queue is dropped and empty.
pub(crate) async fn write_records(mut records: mpsc::Receiver<Record>) {
    while let Some(Record { level, vrid, text }) = records.recv().await {
        match (level, vrid) {
            (Level::WARN, Some(vrid)) => tracing::warn!(vrid, "{text}"),
            (Level::WARN, None) => tracing::warn!("{text}"),
            (_, Some(vrid)) => tracing::info!(vrid, "{text}"),
            (_, None) => tracing::info!("{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_loses_records_and_says_how_many() {
        let (mut queue, mut records) = log_queue();
        for number in 0..RECORDS_WAITING + 3 {
            queue.info(Some(51), number.to_string());
        }
        for _ in 0..RECORDS_WAITING {
            records.recv().await.unwrap();
        }
        queue.warn(None, "later");
        let last = records.recv().await.unwrap();
        let text = "later (3 records before this one were lost)".to_owned();
        assert_eq!(last, Record { level: Level::WARN, vrid: None, text });
        drop(queue);
        assert_eq!(records.recv().await, None);
    }
}
