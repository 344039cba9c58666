//! As much of HTTP as asking an agent takes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// An agent answers from memory: longer means that it is not there.
const LIMIT: Duration = Duration::from_secs(2);

/// What an agent answered.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// The body, empty for `HEAD`.
    pub body: String,
}

impl HttpAnswer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("answer {:?}", self.body))
    }
}

/// One request, one connection. Runs in the network namespace of the calling thread.
pub(crate) fn request(method: &str, address: Ipv4Addr, port: u16, path: &str) -> Result<HttpAnswer> {
    let address = SocketAddr::from((address, port));
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .with_context(|| format!("ask {address}"))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("answer of {address}"))?;
    parse(&bytes).with_context(|| format!("answer of {address} to {method} {path}"))
}

fn parse(bytes: &[u8]) -> Result<HttpAnswer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split_whitespace().nth(1).context("no status code")?.parse().context("status code")?;
    let chunked = head.lines().any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = if chunked { join_chunks(body)? } else { body.to_owned() };
    Ok(HttpAnswer { status, body })
}

fn join_chunks(mut rest: &str) -> Result<String> {
    let mut joined = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).context("size of a chunk")?;
        if size == 0 {
            break;
        }
        joined.push_str(after.get(..size).context("a chunk ends early")?);
        rest = after.get(size..).context("a chunk ends early")?.trim_start_matches("\r\n");
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_answers() {
        let plain = parse(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((plain.status, plain.body.as_str()), (503, "{}"));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n3\r\na\":\r\n2\r\n1}\r\n0\r\n\r\n").unwrap();
        assert_eq!(chunked.json().unwrap()["a"], 1);
    }
}
