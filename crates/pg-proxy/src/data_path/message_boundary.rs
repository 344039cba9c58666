//! Knows whether the bytes that went by in one direction end between two messages.

/// Bytes of a message header: the type, then the length, which counts itself and the body.
const HEADER: usize = 5;

/// Walks the headers of what one side sends; of bodies the first byte is looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MessageBoundary {
    /// Bytes of the current body that are still to come.
    body: u32,
    /// Length bytes of a header that is cut across two reads.
    length: [u8; 4],
    /// How many bytes of the header are here, its type included.
    header: u8,
    /// Type of the current message, and the first byte of its body.
    kind: u8,
    first: u8,
    /// The current body has not begun.
    fresh: bool,
    /// The length was impossible: this is not the protocol, no boundary is ever claimed again.
    lost: bool,
}

impl MessageBoundary {
    /// Whether everything seen so far are whole messages.
    pub(super) fn between_messages(&self) -> bool {
        self.body == 0 && self.header == 0 && !self.lost
    }

    /// Takes the next bytes. `whole` is told the type of each message that ends in them, and the first byte of its body (0
    /// where there is none).
    pub(super) fn advance(&mut self, mut bytes: &[u8], mut whole: impl FnMut(u8, u8)) {
        if self.lost {
            return;
        }
        while !bytes.is_empty() {
            if self.body > 0 {
                if std::mem::take(&mut self.fresh) {
                    self.first = bytes[0];
                }
                let skipped = bytes.len().min(self.body as usize);
                self.body -= u32::try_from(skipped).unwrap_or(u32::MAX);
                bytes = &bytes[skipped..];
            } else if self.header == 0 && bytes.len() >= HEADER {
                // The common case: the whole header is here.
                self.begin_body(bytes[0], [bytes[1], bytes[2], bytes[3], bytes[4]]);
                bytes = &bytes[HEADER..];
            } else {
                match self.header {
                    0 => self.kind = bytes[0],
                    here => self.length[usize::from(here) - 1] = bytes[0],
                }
                self.header += 1;
                bytes = &bytes[1..];
                if usize::from(self.header) < HEADER {
                    continue;
                }
                self.header = 0;
                self.begin_body(self.kind, self.length);
            }
            if self.lost {
                return;
            }
            if self.body == 0 {
                whole(self.kind, self.first);
            }
        }
    }

    fn begin_body(&mut self, kind: u8, length: [u8; 4]) {
        let length = u32::from_be_bytes(length);
        self.lost = !(4..=i32::MAX as u32).contains(&length);
        self.body = length.saturating_sub(4);
        (self.kind, self.first, self.fresh) = (kind, 0, true);
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
    fn every_split_gives_the_same_boundaries() {
        let mut stream = message(b'Z', b"I");
        let mut ends = vec![0, stream.len()];
        for body in [&b""[..], b"abcdefg", b"x"] {
            stream.extend(message(b'D', body));
            ends.push(stream.len());
        }
        for piece in 1..=stream.len() {
            let mut boundary = MessageBoundary::default();
            let (mut seen, mut told) = (0, Vec::new());
            for bytes in stream.chunks(piece) {
                boundary.advance(bytes, |kind, first| told.push((kind, first)));
                seen += bytes.len();
                assert_eq!(boundary.between_messages(), ends.contains(&seen), "piece {piece}, after {seen}");
            }
            assert_eq!(told, [(b'Z', b'I'), (b'D', 0), (b'D', b'a'), (b'D', b'x')], "piece {piece}");
        }
    }

    #[test]
    fn impossible_length_never_claims_a_boundary() {
        let mut boundary = MessageBoundary::default();
        boundary.advance(b"E\0\0\0\x01", |_, _| panic!("no message"));
        assert!(!boundary.between_messages());
        boundary.advance(&message(b'Z', b"I"), |_, _| panic!("no message"));
        assert!(!boundary.between_messages());
    }
}
