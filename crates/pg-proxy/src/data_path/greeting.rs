//! What a server is told first, and its first word.

use std::io;
use std::time::Duration;

use ha_routing::login::{LoginStage, LoginWatcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a server may take for its first word. It forks and looks up its rules before, on a busy machine.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// Longest beginning that is looked at for an error before it is passed on.
const LONGEST_FIRST_WORD: usize = 16 * 1024;

/// Request for TLS: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// SQLSTATE of a server that starts up or shuts down.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// What the client began with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Greeting<'a> {
    /// A request for TLS: one byte is the answer.
    Tls,
    /// TLS from the first byte: nothing of the answer can be understood.
    DirectTls,
    /// A login.
    Login(&'a [u8]),
}

impl Greeting<'_> {
    /// Whether the client has to be silent until it was answered: what it says before is not encrypted, and anybody
    /// may have put it there.
    pub(super) fn wants_silence(self) -> bool {
        matches!(self, Self::Tls)
    }

    /// Greets `server`. Gives what it said and, for a login, the watcher that has seen it.
    ///
    /// # Errors
    /// Why the server is of no use now, in words. Nothing was shown to the client: another may be tried.
    pub(super) async fn send(
        self,
        server: &mut TcpStream,
    ) -> Result<(Vec<u8>, Option<Box<LoginWatcher>>), String> {
        let talk = async {
            match self {
                Self::Tls => {
                    server.write_all(&SSL_REQUEST).await.map_err(lost)?;
                    let mut answer = [0];
                    server.read_exact(&mut answer).await.map_err(lost)?;
                    Ok((answer.to_vec(), None))
                }
                Self::DirectTls => Ok((Vec::new(), None)),
                Self::Login(packet) => log_in(server, packet).await,
            }
        };
        let late = |_| format!("no answer within {} s", FIRST_WORD.as_secs());
        tokio::time::timeout(FIRST_WORD, talk).await.map_err(late)?
    }
}

async fn log_in(
    server: &mut TcpStream,
    packet: &[u8],
) -> Result<(Vec<u8>, Option<Box<LoginWatcher>>), String> {
    server.write_all(packet).await.map_err(lost)?;
    let mut said = Vec::with_capacity(512);
    loop {
        if server.read_buf(&mut said).await.map_err(lost)? == 0 {
            return Err("it closed the connection before it answered".to_owned());
        }
        let mut watcher = LoginWatcher::new();
        watcher.watch(&said);
        match watcher.stage() {
            LoginStage::Refused { sqlstate, authenticated: false } if sqlstate == CANNOT_CONNECT_NOW => {
                return Err(format!("it takes no sessions now ({sqlstate})"));
            }
            LoginStage::Authenticating if may_become_error(&said) && said.len() < LONGEST_FIRST_WORD => {}
            _ => return Ok((said, Some(Box::new(LoginWatcher::new())))),
        }
    }
}

/// Whether what the server said so far is the beginning of an error, perhaps behind a NegotiateProtocolVersion.
fn may_become_error(mut said: &[u8]) -> bool {
    while let Some((b'v', rest)) = said.split_first() {
        let length = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
        match length.and_then(|length| rest.get(length..)) {
            Some(next) => said = next,
            None => return true,
        }
    }
    matches!(said.first(), None | Some(b'E'))
}

fn lost(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection before it answered".to_owned(),
        _ => format!("the connection was lost: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_is_waited_for() {
        let negotiate = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
        assert!(may_become_error(b"E\0\0"));
        assert!(may_become_error(b""));
        assert!(!may_become_error(b"R"));
        assert!(may_become_error(&negotiate[..6]));
        assert!(may_become_error(negotiate));
        assert!(!may_become_error(&[&negotiate[..], b"R"].concat()));
        assert!(may_become_error(&[&negotiate[..], b"E"].concat()));
    }
}
