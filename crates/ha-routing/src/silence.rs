//! Which sessions have been silent for too long. Seconds are counted, and all sessions of a worker are looked at once in each:
//! no session has a timer of its own.

use std::time::Duration;

/// One of the two ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// The PostgreSQL.
    Server,
}

/// How long each side may leave the other waiting, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    client: Option<u32>,
    server: Option<u32>,
}

/// The last word of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastWord {
    /// Whose it was.
    pub of: Side,
    /// In which second of the worker's life.
    pub at: u32,
}

impl Patience {
    /// Limits, of which whole seconds count; none: for ever.
    pub fn new(client: Option<Duration>, server: Option<Duration>) -> Self {
        let seconds = |limit: Duration| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        Self { client: client.map(seconds), server: server.map(seconds) }
    }

    /// Whether anybody is ever silent for too long.
    pub fn is_limited(self) -> bool {
        self.client.is_some() || self.server.is_some()
    }

    /// The side that has left the other waiting for too long.
    pub fn exhausted(self, word: LastWord, now: u32) -> Option<Side> {
        let (silent, limit) = match word.of {
            Side::Server => (Side::Client, self.client?),
            Side::Client => (Side::Server, self.server?),
        };
        // The word may have come at the end of its second.
        (now.saturating_sub(word.at) > limit).then_some(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_side_that_is_waited_for_is_the_one_that_is_silent() {
        let patience = Patience::new(Some(Duration::from_secs(30)), Some(Duration::from_secs(5)));
        let client = LastWord { of: Side::Client, at: 100 };
        assert_eq!(patience.exhausted(client, 105), None);
        assert_eq!(patience.exhausted(client, 106), Some(Side::Server));
        let server = LastWord { of: Side::Server, at: 100 };
        assert_eq!(patience.exhausted(server, 130), None);
        assert_eq!(patience.exhausted(server, 131), Some(Side::Client));
        assert_eq!(patience.exhausted(server, 3), None, "of a second that has not begun here");
    }

    #[test]
    fn without_limits_nobody_is_silent_for_too_long() {
        let word = LastWord { of: Side::Client, at: 0 };
        assert!(!Patience::default().is_limited());
        assert_eq!(Patience::default().exhausted(word, u32::MAX), None);
        let one = Patience::new(Some(Duration::from_secs(1)), None);
        assert!(one.is_limited());
        assert_eq!(one.exhausted(word, u32::MAX), None, "only clients are limited");
    }
}
