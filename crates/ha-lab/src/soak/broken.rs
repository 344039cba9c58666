//! Clients that end in every state that a session can be in, with and without a farewell of their kernel.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::SockRef;

use super::clients::Shared;
use crate::front::WRITE_PORT;
use crate::nemesis::Dice;
use crate::sessions::SAMPLER;
use crate::wire::{CANCEL, PROTOCOL, WireSession, connect, framed};

/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// What asks for TLS in place of a version.
const SSL: i32 = 80_877_103;

#[derive(Debug, Clone, Copy)]
enum State {
    Connected,
    InFirstPacket,
    AskedForTls,
    InHandshake,
    LoggingIn,
    Idle,
    InStatement,
    InTransaction,
    InMessage,
    InResult,
    InCopy,
    HalfClosed,
    WrongKey,
}

const ALL: [State; 13] = [
    State::Connected,
    State::InFirstPacket,
    State::AskedForTls,
    State::InHandshake,
    State::LoggingIn,
    State::Idle,
    State::InStatement,
    State::InTransaction,
    State::InMessage,
    State::InResult,
    State::InCopy,
    State::HalfClosed,
    State::WrongKey,
];

/// One after the other until the load is over.
pub(super) fn run(shared: &Shared, seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    for turn in 0.. {
        if !shared.goes_on() {
            break;
        }
        let (state, reset) = (dice.one_of(&ALL), dice.one_of(&[true, false]));
        // A change may refuse it before it is where it wants to end.
        if let Ok(stream) = bring(shared.place(turn), state) {
            if reset {
                // Unsent bytes are dropped, and the other side gets a reset.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).context("set SO_LINGER")?;
            }
            drop(stream);
            shared.one_killed();
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A connection in this state.
fn bring(place: SocketAddrV4, state: State) -> Result<TcpStream> {
    let logged_in = || WireSession::log_in(place);
    let mut login = PROTOCOL.to_be_bytes().to_vec();
    login.extend(format!("user\0{SAMPLER}\0database\0postgres\0\0").bytes());
    let login = framed(&login)?;
    let first = |bytes: &[u8]| -> Result<TcpStream> {
        let mut stream = connect(place)?;
        stream.write_all(bytes)?;
        Ok(stream)
    };
    let asking = |sql: &str| -> Result<TcpStream> {
        let mut session = logged_in()?;
        session.send_query(sql)?;
        Ok(session.into_stream())
    };
    match state {
        State::Connected => connect(place),
        State::InFirstPacket => first(&login[..login.len() / 2]),
        State::AskedForTls => first(&framed(&SSL.to_be_bytes())?),
        State::InHandshake => {
            let mut stream = first(&framed(&SSL.to_be_bytes())?)?;
            stream.read_exact(&mut [0])?;
            // A handshake record of 512 bytes, of which only the first come.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3])?;
            Ok(stream)
        }
        State::LoggingIn => first(&login),
        State::Idle => Ok(logged_in()?.into_stream()),
        State::InStatement => asking("SELECT pg_sleep(3)"),
        State::InTransaction if place.port() == WRITE_PORT => {
            asking("BEGIN; INSERT INTO sampled DEFAULT VALUES")
        }
        State::InTransaction => asking("BEGIN"),
        State::InMessage => {
            let mut stream = logged_in()?.into_stream();
            stream.write_all(b"Q\0\0\x10\0SELECT")?;
            Ok(stream)
        }
        State::InResult => {
            let mut stream = asking("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")?;
            stream.read_exact(&mut [0; 64 * 1024])?;
            Ok(stream)
        }
        State::InCopy => {
            let mut stream = asking("COPY sampled FROM STDIN")?;
            stream.write_all(b"d\0\0\0\x0F2020-01-01\nd\0\0\x01\0never ends")?;
            Ok(stream)
        }
        State::HalfClosed => {
            let stream = asking("SELECT 1")?;
            stream.shutdown(Shutdown::Write)?;
            let mut rest = Vec::new();
            (&stream).read_to_end(&mut rest)?;
            Ok(stream)
        }
        State::WrongKey => {
            let mut request = CANCEL.to_be_bytes().to_vec();
            request.extend([0, 0, 0, 1, 2, 3, 4, 5]);
            first(&framed(&request)?)
        }
    }
}
