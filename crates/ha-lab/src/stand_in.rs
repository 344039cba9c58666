//! What stands in for a database host where only proxies are looked at: an agent's health checks, and sessions that say
//! hello and then do nothing, ten thousand of them if need be.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// PostgreSQL's port.
const SQL_PORT: u16 = 5432;
/// Codes in the place of a protocol version.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
/// Longest packet that is looked at.
const LONGEST: usize = 10_000;
/// Name of its service description.
const UNIT: &str = "stand-in";

/// A service description for a host with this role (`primary` or `replica`), by name.
pub fn stand_in(role: &str) -> (String, String) {
    (
        format!("{UNIT}-{role}"),
        format!("[Service]\nExecStart=/usr/bin/hactl-lab stand-in {role}\nRestart=no\n"),
    )
}

/// The same for a host that has a real PostgreSQL: only the health checks.
pub fn checks_of(role: &str) -> (String, String) {
    (
        format!("{UNIT}-checks-{role}"),
        format!("[Service]\nExecStart=/usr/bin/hactl-lab stand-in {role} --only-checks\nRestart=no\n"),
    )
}

/// Serves until it is ended.
///
/// # Errors
/// A port is taken.
pub(crate) fn run(role: &str, only_checks: bool) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let any = Ipv4Addr::UNSPECIFIED;
        // Without sessions of its own it listens on any port that nobody asks for.
        let port = if only_checks { 0 } else { SQL_PORT };
        let sessions = TcpListener::bind((any, port)).await.context("listen for sessions")?;
        let checks = TcpListener::bind((any, ha_config::REST_PORT)).await.context("listen for checks")?;
        loop {
            // A client that goes away is no concern of a stand-in.
            tokio::select! {
                accepted = sessions.accept() => {
                    let (stream, _) = accepted.context("accept a session")?;
                    tokio::spawn(async move { session(stream).await.ok() });
                }
                accepted = checks.accept() => {
                    let (stream, _) = accepted.context("accept a check")?;
                    let role = role.to_owned();
                    tokio::spawn(async move { check(stream, &role).await.ok() });
                }
            }
        }
    })
}

async fn check(mut stream: TcpStream, role: &str) -> std::io::Result<()> {
    let mut request = [0; 1024];
    loop {
        let length = stream.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        let asked = String::from_utf8_lossy(&request[..length]);
        let right = asked.split_whitespace().nth(1).is_some_and(|path| path.trim_start_matches('/') == role);
        let status = if right { "200 OK" } else { "503 Service Unavailable" };
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
    }
}

async fn session(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut body = vec![0; (stream.read_u32().await? as usize).saturating_sub(4).min(LONGEST)];
        stream.read_exact(&mut body).await?;
        let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
        match code {
            Some(TLS | GSS) => stream.write_all(b"N").await?,
            Some(CANCEL) | None => return Ok(()),
            Some(_) => break,
        }
    }
    // Logged in, a cancel key, ready.
    stream.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
    loop {
        let kind = stream.read_u8().await?;
        let mut body = vec![0; (stream.read_u32().await? as usize).saturating_sub(4).min(LONGEST)];
        stream.read_exact(&mut body).await?;
        match kind {
            b'Q' => stream.write_all(b"I\0\0\0\x04Z\0\0\0\x05I").await?,
            b'X' => return Ok(()),
            _ => {}
        }
    }
}
