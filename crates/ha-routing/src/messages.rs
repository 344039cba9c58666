//! Walks the messages of a session after its startup packet: where they begin and end.

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

/// A message as it is sent.
#[cfg(test)]
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
