//! The error that a client gets which cannot be served: readable, and with the SQLSTATE on which its driver does the
//! right thing.
//!
//! libpq goes on to the next host of its list after 57P03 only; after anything else, or a mere close, it stops.

use std::time::Duration;

/// An error for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sqlstate}: {message}")]
pub struct Refusal {
    /// Five characters, as in PostgreSQL's list of error codes.
    pub sqlstate: &'static str,
    /// One sentence.
    pub message: String,
    /// What could be done about it; may be empty.
    pub hint: String,
}

/// Longest message or hint that is sent, in bytes: the reasons in it come from other hosts.
const LONGEST_TEXT: usize = 1_000;

impl Refusal {
    fn new(sqlstate: &'static str, message: String, hint: &str) -> Self {
        Self { sqlstate, message, hint: hint.to_owned() }
    }

    /// 57P03: writes have no leader now. `why` is the route's reason.
    pub fn no_leader(why: &str) -> Self {
        Self::new("57P03", format!("no primary takes writes now: {why}"), "Try again in a few seconds.")
    }

    /// 57P03: no upstream takes reads now. `why` is the route's reason.
    pub fn no_standby(why: &str) -> Self {
        Self::new(
            "57P03",
            format!("no standby takes reads now: {why}"),
            "Try again in a few seconds, or use the write port.",
        )
    }

    /// 57P03: a session waited for an upstream until its time was up.
    pub fn hold_expired(waited: Duration, why: &str) -> Self {
        Self::new(
            "57P03",
            format!("no server was ready within {} s: {why}", waited.as_secs_f32()),
            "Try again in a few seconds.",
        )
    }

    /// 57P03: the proxy ends and takes no new sessions.
    pub fn draining() -> Self {
        Self::new("57P03", "this proxy is shutting down".to_owned(), "Connect to another proxy.")
    }

    /// 53300: the proxy has all the sessions that it may have.
    pub fn proxy_full(limit: u32) -> Self {
        Self::new(
            "53300",
            format!("this proxy has all of its {limit} sessions in use"),
            "Raise routing.max_connections, or open fewer sessions.",
        )
    }

    /// 53300: a session waited for a place at a server until its time was up.
    pub fn queue_expired(waited: Duration, limit: u32) -> Self {
        Self::new(
            "53300",
            format!("all {limit} sessions per server were in use for {} s", waited.as_secs_f32()),
            "Raise routing.upstream_connections, or open fewer sessions.",
        )
    }

    /// 57P01: a running session ends, because its server lost its role.
    pub fn role_lost(why: &str) -> Self {
        Self::new("57P01", format!("the session ends: {why}"), "Connect again.")
    }

    /// 57P01: a running session ends, because the proxy does.
    pub fn shutting_down() -> Self {
        Self::new("57P01", "the session ends: this proxy is shutting down".to_owned(), "Connect again.")
    }

    /// 57P02: the server of a running session vanished.
    pub fn server_lost(member: &str) -> Self {
        Self::new("57P02", format!("the connection to {member} was lost"), "Connect again.")
    }

    /// 57P05: the client said nothing for too long.
    pub fn client_silent(limit: Duration) -> Self {
        let message = format!("the session ends: nothing came from the client for {} s", limit.as_secs_f32());
        Self::new("57P05", message, "Connect again, or raise routing.client_timeout.")
    }

    /// 08006: the server answered nothing for too long.
    pub fn server_silent(member: &str, limit: Duration) -> Self {
        let message = format!("the session ends: no answer of {member} for {} s", limit.as_secs_f32());
        Self::new("08006", message, "Connect again, or raise routing.server_timeout.")
    }

    /// 08007: a commit's wait for its standbys was cancelled. PostgreSQL reports it as done.
    pub fn commit_unconfirmed() -> Self {
        Self::new(
            "08007",
            "the commit's wait for its standbys was cancelled: it is done on the primary, and may be lost with it"
                .to_owned(),
            "Look whether the transaction is there before you repeat it.",
        )
    }

    /// 42501: a session tried to let its commits wait for less.
    pub fn lowers_commits() -> Self {
        Self::new(
            "42501",
            "this proxy refuses what names synchronous_commit: commits here are confirmed by standbys"
                .to_owned(),
            "Ask who runs this cluster about routing.lowered_commits.",
        )
    }

    /// 28000: this client may not connect like this.
    pub fn not_allowed(why: &str) -> Self {
        Self::new("28000", why.to_owned(), "")
    }

    /// 28000: without TLS where it is required.
    pub fn plaintext() -> Self {
        Self::new("28000", "this port takes sessions with TLS only".to_owned(), "Use sslmode=require.")
    }

    /// 08P01: not the PostgreSQL protocol.
    pub fn protocol_violation(what: &str) -> Self {
        Self::new("08P01", what.to_owned(), "")
    }

    /// 08P01: the login was not complete in time.
    pub fn opening_too_slow(limit: Duration) -> Self {
        Self::new("08P01", format!("no complete login request within {} s", limit.as_secs_f32()), "")
    }

    /// 0A000: a protocol version that nobody here speaks.
    pub fn unsupported(what: &str) -> Self {
        Self::new("0A000", what.to_owned(), "")
    }

    /// The ErrorResponse message. Write it, shut the sending side down, read until the client closes or a second has
    /// passed, then close: closing with unread bytes resets the connection, and the text may be lost.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(64 + self.message.len() + self.hint.len());
        field(&mut body, b'S', "FATAL");
        field(&mut body, b'V', "FATAL");
        field(&mut body, b'C', self.sqlstate);
        field(&mut body, b'M', &self.message);
        if !self.hint.is_empty() {
            field(&mut body, b'H', &self.hint);
        }
        body.push(0);
        // Five short fields of at most LONGEST_TEXT bytes each: far below what a length can say.
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        let mut message = Vec::with_capacity(body.len() + 5);
        message.push(b'E');
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&body);
        message
    }
}

/// One field. A NUL inside would end it early and leave the client with a broken message.
fn field(body: &mut Vec<u8>, kind: u8, text: &str) {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    body.push(kind);
    body.extend(text.as_bytes()[..end].iter().map(|&byte| if byte == 0 { b'?' } else { byte }));
    body.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_an_error_response() {
        let bytes = Refusal::protocol_violation("no").to_bytes();
        assert_eq!(bytes, b"E\0\0\0\x1ESFATAL\0VFATAL\0C08P01\0Mno\0\0");
        let bytes = Refusal::shutting_down().to_bytes();
        assert!(bytes.ends_with(b"\0HConnect again.\0\0"), "{bytes:?}");
        assert_eq!(bytes[1..5], u32::try_from(bytes.len() - 1).unwrap().to_be_bytes());
    }

    #[test]
    fn each_case_has_the_code_on_which_drivers_do_the_right_thing() {
        let second = Duration::from_secs(1);
        let cases = [
            (Refusal::no_leader("x"), "57P03"),
            (Refusal::no_standby("x"), "57P03"),
            (Refusal::hold_expired(second, "x"), "57P03"),
            (Refusal::draining(), "57P03"),
            (Refusal::proxy_full(1), "53300"),
            (Refusal::queue_expired(second, 1), "53300"),
            (Refusal::role_lost("x"), "57P01"),
            (Refusal::shutting_down(), "57P01"),
            (Refusal::server_lost("pg1"), "57P02"),
            (Refusal::client_silent(second), "57P05"),
            (Refusal::server_silent("pg1", second), "08006"),
            (Refusal::commit_unconfirmed(), "08007"),
            (Refusal::lowers_commits(), "42501"),
            (Refusal::not_allowed("x"), "28000"),
            (Refusal::plaintext(), "28000"),
            (Refusal::protocol_violation("x"), "08P01"),
            (Refusal::opening_too_slow(second), "08P01"),
            (Refusal::unsupported("x"), "0A000"),
        ];
        for (refusal, sqlstate) in cases {
            assert_eq!(refusal.sqlstate, sqlstate, "{refusal}");
            assert!(!refusal.message.is_empty());
        }
    }

    #[test]
    fn text_from_elsewhere_cannot_break_the_message() {
        let hostile = format!("a\0b{}", "ü".repeat(5_000));
        let bytes = Refusal::no_leader(&hostile).to_bytes();
        assert!(bytes.len() < 3_000);
        let fields = bytes[5..].split(|&byte| byte == 0).filter(|field| !field.is_empty());
        assert_eq!(fields.map(|field| field[0]).collect::<Vec<_>>(), *b"SVCMH");
        assert!(String::from_utf8(bytes[5..].to_vec()).is_ok(), "cut between characters");
    }
}
