//! Tells a commit that did not wait for its standbys from one that did.

use crate::messages::Piece;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{MessageWalker, message};

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
}
