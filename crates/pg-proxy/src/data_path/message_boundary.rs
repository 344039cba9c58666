//! Knows whether the bytes that went by end between two messages of the server.

/// Bytes of a message header: the type, then the length, which counts itself and the body.
const HEADER: usize = 5;

/// Walks the headers of what a server sends; bodies are skipped unread.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct MessageBoundary {
    /// Bytes of the current body that are still to come.
    body: u32,
    /// Length bytes of a header that is cut across two reads.
    length: [u8; 4],
    /// How many bytes of the header are here, its type included.
    header: u8,
    /// The length was impossible: this is not the protocol, no boundary is ever claimed again.
    lost: bool,
}

impl MessageBoundary {
    /// Whether everything seen so far are whole messages.
    pub(super) fn between_messages(&self) -> bool {
        self.body == 0 && self.header == 0 && !self.lost
    }

    /// Takes the next bytes of the server.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        if self.lost {
            return;
        }
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = bytes.len().min(self.body as usize);
                self.body -= u32::try_from(skipped).unwrap_or(u32::MAX);
                bytes = &bytes[skipped..];
            } else if self.header == 0 && bytes.len() >= HEADER {
                // The common case: the whole header is here.
                self.begin_body([bytes[1], bytes[2], bytes[3], bytes[4]]);
                bytes = &bytes[HEADER..];
            } else {
                if self.header > 0 {
                    self.length[usize::from(self.header) - 1] = bytes[0];
                }
                self.header += 1;
                bytes = &bytes[1..];
                if usize::from(self.header) == HEADER {
                    self.header = 0;
                    self.begin_body(self.length);
                }
            }
            if self.lost {
                return;
            }
        }
    }

    fn begin_body(&mut self, length: [u8; 4]) {
        let length = u32::from_be_bytes(length);
        self.lost = !(4..=i32::MAX as u32).contains(&length);
        self.body = length.saturating_sub(4);
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
            let mut seen = 0;
            for bytes in stream.chunks(piece) {
                boundary.advance(bytes);
                seen += bytes.len();
                assert_eq!(boundary.between_messages(), ends.contains(&seen), "piece {piece}, after {seen}");
            }
        }
    }

    #[test]
    fn impossible_length_never_claims_a_boundary() {
        let mut boundary = MessageBoundary::default();
        boundary.advance(b"E\0\0\0\x01");
        assert!(!boundary.between_messages());
        boundary.advance(&message(b'Z', b"I"));
        assert!(!boundary.between_messages());
    }
}
