//! Finds sessions that could make their commits wait for less than the cluster promises.

use crate::messages::Piece;

/// Looks for statements that could make commits of their session wait for less: they name `synchronous_commit`.
///
/// What a function of the server does, or a name that is put together there, is not seen.
#[derive(Debug, Default)]
pub struct OptOutWatch {
    /// How much of the name has matched.
    matched: u8,
    /// How much of the word SHOW the statement began with; `None` when it begins otherwise.
    shows: Option<u8>,
    place: Place,
}

/// Where in a message the next byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Outside,
    /// In the name of a prepared statement.
    Name,
    Statement,
}

const SETTING: &[u8] = b"synchronous_commit";
const SHOW: &[u8] = b"show";
const QUERY: u8 = b'Q';
const PARSE: u8 = b'P';

impl OptOutWatch {
    /// Whether this piece completes the name, in a statement that is not a mere SHOW.
    pub fn see(&mut self, piece: Piece<'_>) -> bool {
        if !matches!(piece.kind, QUERY | PARSE) {
            return false;
        }
        if self.place == Place::Outside {
            let place = if piece.kind == PARSE { Place::Name } else { Place::Statement };
            *self = Self { matched: 0, shows: Some(0), place };
        }
        let found = piece.bytes.iter().any(|&byte| match self.place {
            Place::Statement => self.step(byte.to_ascii_lowercase()),
            _ if byte == 0 => {
                self.place = Place::Statement;
                false
            }
            _ => false,
        });
        if piece.is_last {
            self.place = Place::Outside;
        }
        found
    }

    fn step(&mut self, byte: u8) -> bool {
        self.shows = match self.shows {
            Some(0) if byte.is_ascii_whitespace() => Some(0),
            Some(length) if usize::from(length) == SHOW.len() && byte == b';' => None,
            Some(length) if usize::from(length) == SHOW.len() => Some(length),
            Some(length) if SHOW[usize::from(length)] == byte => Some(length + 1),
            _ => None,
        };
        // The name's first letter is the only beginning of it that occurs in it again at the end of a part that matched.
        self.matched = match usize::from(self.matched) {
            matched if SETTING[matched] == byte => self.matched + 1,
            11 if byte == SETTING[1] => 2,
            _ if byte == SETTING[0] => 1,
            _ => 0,
        };
        let whole = usize::from(self.matched) == SETTING.len();
        if whole {
            self.matched = 0;
        }
        whole && self.shows.is_none_or(|length| usize::from(length) < SHOW.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{MessageWalker, message};

    fn opts_out(kind: u8, text: &str) -> bool {
        let bytes = message(kind, text.as_bytes());
        let found = |piece: usize| {
            let (mut walker, mut watch) = (MessageWalker::default(), OptOutWatch::default());
            bytes.chunks(piece).any(|bytes| walker.advance(bytes, |piece| watch.see(piece)).is_some())
        };
        let whole = found(bytes.len());
        assert!((1..bytes.len()).all(|piece| found(piece) == whole), "{text}: depends on how it is cut");
        whole
    }

    #[test]
    fn a_statement_that_names_the_setting_is_found_however_it_is_cut_and_written() {
        for text in [
            "SET synchronous_commit = off\0",
            "begin; set local SYNCHRONOUS_COMMIT to 'local'; commit\0",
            "select set_config('synchronous_commit', 'off', false)\0",
            "ALTER ROLE bob SET synchronous_commit TO off\0",
            "SET synchronous_synchronous_commit\0",
            "/* synchronousynchronous_commit */\0",
            "SHOW x; SET synchronous_commit = off\0",
            "ssynchronous_commit\0",
            "synchronoussynchronous_commit\0",
        ] {
            assert!(opts_out(b'Q', text), "{text}");
            assert!(opts_out(b'P', &format!("name\0{text}\0\0")), "{text}");
        }
        for text in [" show synchronous_commit\0", "SET synchronous_commi = off\0", "synchronous commit\0"] {
            assert!(!opts_out(b'Q', text), "{text}");
            assert!(!opts_out(b'P', &format!("synchronous_commit\0{text}\0\0")), "{text}");
        }
        assert!(!opts_out(b'd', "synchronous_commit\n"), "data that are copied in");
    }

    #[test]
    fn each_statement_begins_anew() {
        let stream = [message(b'Q', b"SHOW synchronous_"), message(b'Q', b"commit\0")].concat();
        let (mut walker, mut watch) = (MessageWalker::default(), OptOutWatch::default());
        assert_eq!(walker.advance(&stream, |piece| watch.see(piece)), None);
    }
}
