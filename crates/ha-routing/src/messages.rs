//! Walks the messages of a session after its startup packet: where they begin and end, and what those are that matter.

/// Bytes of a message header: the type, then the length, which counts itself and the body (PostgreSQL documentation,
/// "Message Formats").
const HEADER: usize = 5;

/// Walks the headers of one direction.
#[derive(Debug, Default, Clone, Copy)]
pub struct MessageWalker {
    /// Bytes of the current body that are still to come.
    body: u32,
    /// Length bytes of a header that is cut across two reads.
    length: [u8; 4],
    /// Type of the current message.
    kind: u8,
    /// How many bytes of the header are here, its type included.
    header: u8,
    /// The length was impossible: this is not the protocol, no boundary is ever claimed again.
    lost: bool,
}

/// A part of a message's body, as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'b> {
    /// Type of the message.
    pub kind: u8,
    /// May be empty.
    pub bytes: &'b [u8],
    /// Whether the message ends with it.
    pub is_last: bool,
}

impl MessageWalker {
    /// Whether everything seen so far are whole messages.
    pub fn between_messages(&self) -> bool {
        self.body == 0 && self.header == 0 && !self.lost
    }

    /// Takes the next bytes. `see` is shown each part of a body and says whether to stop behind it; then the number of bytes
    /// up to there is returned, and the rest is as if it had not come.
    pub fn advance(&mut self, bytes: &[u8], mut see: impl FnMut(Piece<'_>) -> bool) -> Option<usize> {
        let mut left = bytes;
        while !left.is_empty() && !self.lost {
            if self.body == 0 {
                left = self.read_header(left);
                if self.header > 0 || self.lost {
                    continue;
                }
            }
            let taken = left.len().min(self.body as usize);
            let (piece, rest) = left.split_at(taken);
            self.body -= u32::try_from(taken).unwrap_or(u32::MAX);
            left = rest;
            let is_last = self.body == 0;
            if (taken > 0 || is_last) && see(Piece { kind: self.kind, bytes: piece, is_last }) {
                return Some(bytes.len() - left.len());
            }
        }
        None
    }

    /// Reads what there is of a header; `self.header` is 0 once it is whole.
    fn read_header<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.header == 0
            && let [kind, a, b, c, d, rest @ ..] = bytes
        {
            // The common case: the whole header is here.
            self.kind = *kind;
            self.begin_body([*a, *b, *c, *d]);
            return rest;
        }
        let Some((&first, rest)) = bytes.split_first() else { return bytes };
        match self.header {
            0 => self.kind = first,
            place => self.length[usize::from(place) - 1] = first,
        }
        self.header += 1;
        if usize::from(self.header) == HEADER {
            self.header = 0;
            self.begin_body(self.length);
        }
        rest
    }

    fn begin_body(&mut self, length: [u8; 4]) {
        let length = u32::from_be_bytes(length);
        self.lost = !(4..=i32::MAX as u32).contains(&length);
        self.body = length.saturating_sub(4);
    }
}

/// Looks for the warning with which PostgreSQL says that a commit did not wait for its standbys.
///
/// When a wait for synchronous replication is cancelled, the server warns and then reports the commit as done
/// (`SyncRepWaitForLSN` in its syncrep.c). The name of that function stands in every language's message.
#[derive(Debug, Default)]
pub struct CommitWatch {
    /// The notice that is passing by, as far as it is looked at.
    notice: Vec<u8>,
}

/// The longest notice that is looked at, bytes; the warning has some hundred.
const LONGEST_NOTICE: usize = 4096;
const NOTICE: u8 = b'N';
const WAIT_FUNCTION: &[u8] = b"RSyncRepWaitForLSN";

impl CommitWatch {
    /// Whether the message that ends with this piece is that warning: whatever follows it claims a success that is none.
    pub fn see(&mut self, piece: Piece<'_>) -> bool {
        if piece.kind != NOTICE {
            return false;
        }
        let room = LONGEST_NOTICE.saturating_sub(self.notice.len());
        self.notice.extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
        if !piece.is_last {
            return false;
        }
        // An idle session keeps no buffer.
        let notice = std::mem::take(&mut self.notice);
        notice.split(|&byte| byte == 0).any(|field| field == WAIT_FUNCTION)
    }
}

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

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    #[test]
    fn every_split_gives_the_same_boundaries_and_bodies() {
        let mut stream = message(b'Z', b"I");
        let mut ends = vec![0, stream.len()];
        let mut whole = vec![(b'Z', b"I".to_vec())];
        for body in [&b""[..], b"abcdefg", b"x"] {
            stream.extend(message(b'D', body));
            ends.push(stream.len());
            whole.push((b'D', body.to_vec()));
        }
        for piece in 1..=stream.len() {
            let mut walker = MessageWalker::default();
            let (mut seen, mut bodies, mut body) = (0, Vec::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                let stopped = walker.advance(bytes, |piece| {
                    body.extend_from_slice(piece.bytes);
                    if piece.is_last {
                        bodies.push((piece.kind, std::mem::take(&mut body)));
                    }
                    false
                });
                assert_eq!(stopped, None);
                seen += bytes.len();
                assert_eq!(walker.between_messages(), ends.contains(&seen), "piece {piece}, after {seen}");
            }
            assert_eq!(bodies, whole, "piece {piece}");
        }
    }

    #[test]
    fn impossible_length_never_claims_a_boundary() {
        let mut walker = MessageWalker::default();
        walker.advance(b"E\0\0\0\x01", |_| false);
        assert!(!walker.between_messages());
        walker.advance(&message(b'Z', b"I"), |_| true);
        assert!(!walker.between_messages());
    }

    const WARNING: &[u8] =
        b"SWARNING\0VWARNING\0C01000\0Mcanceling wait for synchronous replication due to user request\0\
DThe transaction has already committed locally, but might not have been replicated to the standby.\0\
Fsyncrep.c\0L288\0RSyncRepWaitForLSN\0\0";

    #[test]
    fn the_warning_of_a_cancelled_wait_stops_what_follows() {
        let stream =
            [message(b'N', b"SNOTICE\0\0"), message(b'N', WARNING), message(b'C', b"COMMIT\0")].concat();
        let end = stream.len() - message(b'C', b"COMMIT\0").len();
        for piece in 1..=stream.len() {
            let (mut walker, mut watch) = (MessageWalker::default(), CommitWatch::default());
            let mut passed = 0;
            let stopped = stream.chunks(piece).find_map(|bytes| {
                let stopped = walker.advance(bytes, |piece| watch.see(piece));
                passed += stopped.unwrap_or(bytes.len());
                stopped
            });
            assert!(stopped.is_some() && walker.between_messages(), "piece {piece}");
            assert_eq!(passed, end, "piece {piece}");
        }
    }

    #[test]
    fn other_notices_pass_and_nothing_of_them_is_kept() {
        let text = [&[b'x'; 10_000][..], b"\0RSyncRepWaitForLSN\0\0"].concat();
        let others = [
            message(b'N', &text),
            message(b'N', b"Mmentions RSyncRepWaitForLSN\0\0"),
            message(b'D', WARNING),
        ];
        let (mut walker, mut watch) = (MessageWalker::default(), CommitWatch::default());
        assert_eq!(walker.advance(&others.concat(), |piece| watch.see(piece)), None);
        assert_eq!(watch.notice.capacity(), 0);
    }

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
