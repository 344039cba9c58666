//! Knows whether a session is idle: its server has answered everything, is in no transaction, and the client has begun
//! nothing new (PostgreSQL documentation, "Message Flow"). Wherever that is not certain it says no.

use crate::messages::{MessageWalker, Piece};

/// Watches both directions of a session that is not encrypted, from the server's answer to the login on.
#[derive(Debug, Default)]
pub struct Idleness {
    client: MessageWalker,
    server: MessageWalker,
    /// Answers that the server owes: one ReadyForQuery for each Query, Sync and FunctionCall.
    owed: u32,
    /// The client has said something after the last of these.
    begun: bool,
    /// The last ReadyForQuery said that there is no transaction.
    between_transactions: bool,
}

impl Idleness {
    /// The next bytes of the client. `stop` is shown each part of a message and says whether to stop behind it, see
    /// [`MessageWalker::advance`].
    pub fn client(&mut self, bytes: &[u8], mut stop: impl FnMut(Piece<'_>) -> bool) -> Option<usize> {
        let (owed, begun) = (&mut self.owed, &mut self.begun);
        self.client.advance(bytes, |piece| {
            match piece.kind {
                _ if !piece.is_last => {}
                b'Q' | b'S' | b'F' => {
                    *owed = owed.saturating_add(1);
                    *begun = false;
                }
                // Passwords belong to the login, copied rows to a copy: the answer to either is already expected.
                b'p' | b'd' | b'c' | b'f' => {}
                _ => *begun = true,
            }
            stop(piece)
        })
    }

    /// The next bytes of the server; `stop` as with [`Self::client`].
    pub fn server(&mut self, bytes: &[u8], mut stop: impl FnMut(Piece<'_>) -> bool) -> Option<usize> {
        let (owed, between) = (&mut self.owed, &mut self.between_transactions);
        self.server.advance(bytes, |piece| {
            if piece.kind == b'Z' && piece.is_last {
                // The first one ends the login; no message asked for it.
                *owed = owed.saturating_sub(1);
                *between = piece.bytes == b"I";
            }
            stop(piece)
        })
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.between_transactions
            && self.owed == 0
            && !self.begun
            && self.client.between_messages()
            && self.server.between_messages()
    }

    /// Whether what the server has said so far are whole messages, so that one of ours may follow.
    pub fn server_is_between_messages(&self) -> bool {
        self.server.between_messages()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::message;

    fn client(session: &mut Idleness, bytes: &[u8]) {
        assert_eq!(session.client(bytes, |_| false), None);
    }

    fn server(session: &mut Idleness, bytes: &[u8]) {
        assert_eq!(session.server(bytes, |_| false), None);
    }

    fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    fn logged_in() -> Idleness {
        let mut session = Idleness::default();
        server(&mut session, &message(b'R', &5_u32.to_be_bytes()));
        assert!(!session.is_idle(), "the login is under way");
        client(&mut session, &message(b'p', b"secret\0"));
        server(&mut session, &message(b'R', &0_u32.to_be_bytes()));
        server(&mut session, &ready(b'I'));
        session
    }

    #[test]
    fn after_the_login_and_after_each_answer_it_is_idle() {
        let mut session = logged_in();
        assert!(session.is_idle());
        client(&mut session, &message(b'Q', b"SELECT 1\0"));
        assert!(!session.is_idle());
        server(&mut session, &message(b'C', b"SELECT 1\0"));
        assert!(!session.is_idle());
        server(&mut session, &ready(b'I'));
        assert!(session.is_idle());
    }

    #[test]
    fn a_transaction_and_a_failed_one_are_work() {
        let mut session = logged_in();
        for status in [b'T', b'E'] {
            client(&mut session, &message(b'Q', b"BEGIN\0"));
            server(&mut session, &ready(status));
            assert!(!session.is_idle());
        }
        client(&mut session, &message(b'Q', b"ROLLBACK\0"));
        server(&mut session, &ready(b'I'));
        assert!(session.is_idle());
    }

    #[test]
    fn what_was_sent_ahead_of_an_answer_counts() {
        let mut session = logged_in();
        let two = [message(b'Q', b"SELECT 1\0"), message(b'Q', b"SELECT pg_sleep(60)\0")].concat();
        client(&mut session, &two);
        server(&mut session, &ready(b'I'));
        assert!(!session.is_idle(), "the second one runs");
        server(&mut session, &ready(b'I'));
        assert!(session.is_idle());

        client(&mut session, &[message(b'P', b"\0\0"), message(b'S', b""), message(b'P', b"\0\0")].concat());
        server(&mut session, &ready(b'I'));
        assert!(!session.is_idle(), "a Parse without its Sync");
        client(&mut session, &message(b'S', b""));
        server(&mut session, &ready(b'I'));
        assert!(session.is_idle());
        client(&mut session, &message(b'Q', b"COPY t FROM STDIN\0"));
        server(&mut session, &message(b'G', b"\0\0\0"));
        client(&mut session, &[message(b'd', b"1\n"), message(b'c', b"")].concat());
        assert!(!session.is_idle());
        server(&mut session, &ready(b'I'));
        assert!(session.is_idle());
        client(&mut session, &message(b'Q', b"SELECT 1\0")[..3]);
        assert!(!session.is_idle(), "the beginning of a message");
    }

    #[test]
    fn every_split_gives_the_same_answer() {
        let from_client = [message(b'Q', b"BEGIN\0"), message(b'S', b""), message(b'F', b"1234")].concat();
        let from_server = [ready(b'T'), message(b'D', b"abc"), ready(b'T'), ready(b'I')].concat();
        for piece in 1..=from_server.len() {
            let mut session = logged_in();
            from_client.chunks(piece).for_each(|bytes| client(&mut session, bytes));
            let mut idle = Vec::new();
            for bytes in from_server.chunks(piece) {
                server(&mut session, bytes);
                idle.push(session.is_idle());
            }
            assert_eq!(idle.pop(), Some(true), "piece {piece}");
            assert!(!idle.contains(&true), "piece {piece}");
        }
    }

    #[test]
    fn what_is_not_the_protocol_is_never_idle() {
        let mut session = logged_in();
        server(&mut session, b"E\0\0\0\x01");
        server(&mut session, &ready(b'I'));
        assert!(!session.is_idle());
    }
}
