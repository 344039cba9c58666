//! A client of PostgreSQL: just enough of its protocol (version 3.0, no authentication) to see acknowledgements come.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ha_core::MonoTime;

use super::now;

/// One connection.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Self { stream };
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        startup.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        client.stream.write_all(&length_of(&startup))?;
        client.stream.write_all(&startup)?;
        client.until_ready()?;
        Ok(client)
    }

    /// Runs one statement (or several); the first column of all rows.
    pub(crate) fn query(&mut self, sql: &str) -> io::Result<Vec<String>> {
        self.send(sql)?;
        self.until_ready()
    }

    /// Sends a statement without waiting for its end.
    pub(crate) fn send(&mut self, sql: &str) -> io::Result<()> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.stream.write_all(b"Q")?;
        self.stream.write_all(&length_of(&body))?;
        self.stream.write_all(&body)
    }

    fn until_ready(&mut self) -> io::Result<Vec<String>> {
        let mut rows = vec![];
        let mut failure = None;
        loop {
            let (kind, body) = self.message()?;
            match kind {
                b'Z' => return failure.map_or(Ok(rows), |text| Err(io::Error::other(text))),
                b'E' => failure = Some(String::from_utf8_lossy(&body).replace('\0', " ")),
                b'D' if body.len() > 6 => {
                    let length = u32::from_be_bytes([body[2], body[3], body[4], body[5]]) as usize;
                    rows.push(String::from_utf8_lossy(&body[6..6 + length]).into_owned());
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }
}

fn length_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).expect("a short message").to_be_bytes()
}

/// Inserts numbered rows, one commit each, until the connection breaks; notes when each was acknowledged.
pub(crate) struct Writer {
    acknowledged: Receiver<(u64, MonoTime)>,
}

impl Writer {
    pub(crate) fn begin(mut client: Client) -> Self {
        let (tell, acknowledged) = channel();
        std::thread::spawn(move || {
            for number in 1.. {
                if client.query(&format!("INSERT INTO t VALUES ({number})")).is_err() {
                    return;
                }
                if tell.send((number, now())).is_err() {
                    return;
                }
            }
        });
        Self { acknowledged }
    }

    /// The next acknowledgement, or `None` after the connection broke.
    pub(crate) fn next(&self) -> Option<(u64, MonoTime)> {
        self.acknowledged.recv().ok()
    }

    /// Waits for the connection to break; the last acknowledgement.
    pub(crate) fn last(self) -> (u64, MonoTime) {
        self.acknowledged.iter().last().expect("at least one commit")
    }
}
