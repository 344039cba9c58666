//! Whose connection it is when a load balancer passes it on.

use std::net::SocketAddr;
use std::time::Duration;

use ha_routing::proxy_header::{HeaderReader, Origin};
use tokio::time::Instant;

use super::begin::{Client, Heard, PATIENCE, Stop};

impl Client {
    /// Reads the header that connections of a trusted network begin with, and charges `patience` for it; gives the
    /// client's address if the header tells one.
    ///
    /// # Errors
    /// When there is none: what follows may be anybody's.
    pub(super) async fn read_origin(&mut self, patience: &mut Duration) -> Result<Option<SocketAddr>, Stop> {
        let begun = Instant::now();
        let deadline = begun + *patience;
        let mut reader = HeaderReader::new();
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match self.hear(&mut bytes, reader.wanted(), deadline).await? {
                Heard::Bytes => {}
                // A health check that only connects.
                Heard::End if reader.is_empty() => return Err(Stop::Silent),
                Heard::End => return Err(Stop::NoHeader("the PROXY header is cut off".to_owned())),
                Heard::Nothing => {
                    let why = format!("no complete PROXY header within {} s", PATIENCE.as_secs());
                    return Err(Stop::NoHeader(why));
                }
            }
            let origin = reader.push(&bytes).map_err(|error| Stop::NoHeader(error.to_string()))?;
            if let Some(origin) = origin {
                *patience = patience.saturating_sub(begun.elapsed());
                return Ok(match origin {
                    Origin::Peer => None,
                    Origin::Client(client) => Some(client),
                });
            }
        }
    }
}
