//! The beginning of a session: what the client wants, and the way to a server that has said its first word.

use std::net::SocketAddr;
use std::time::Duration;

use ha_routing::Refusal;
use ha_routing::startup_packet::{Opening, OpeningReader, Replication, with_client};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::cancel;
use super::client_stream::ClientStream;
use super::farewell::farewell;
use super::greeting::Greeting;
use super::handshake::Failed;
use super::reach::{Reached, Turn, reach};
use super::relay::{Relay, Watch};
use super::scratch;
use super::session_log::{self, Ended, Record};
use super::worker::{CutOrder, Seat};

/// How long a client may take for all it has to say before its login goes to a server. Waiting for a server does not
/// count.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What a server answers when it goes on with TLS.
const TLS_GRANTED: &[u8] = b"S";
/// What a server answers when it does not.
const TLS_DENIED: &[u8] = b"N";

/// Why a session does not come about.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client left, or there is no way to tell it anything.
    Silent,
    /// The client must be told this.
    Refuse(Refusal),
    /// No server in time. A client that asked for TLS can be told only when it goes on without.
    NoServer(Refusal),
    /// A load balancer did not say whose connection it is.
    NoHeader(String),
    /// TLS that was to end here failed.
    NoTls(Failed),
}

/// What came of listening to a client.
#[derive(Debug)]
pub(super) enum Heard {
    Bytes,
    End,
    /// For too long.
    Nothing,
}

/// The client while it has no server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: ClientStream,
    /// What it said beyond what was asked for; goes to the server.
    pub(super) early: Vec<u8>,
    pub(super) seat: Seat,
    /// For its line in the log.
    pub(super) record: Option<Box<Record>>,
    /// When it came.
    pub(super) came: std::time::Instant,
}

/// Leads a new client to a server; `None` when it has ended instead.
pub(super) async fn begin(stream: TcpStream, from: SocketAddr, seat: Seat) -> Option<Relay> {
    let record = seat.shared().session_log.begin(from, seat.port());
    let came = std::time::Instant::now();
    let mut client = Client { stream: ClientStream::Plain(stream), early: Vec::new(), seat, record, came };
    match client.lead(from).await {
        Ok((reached, watch)) => {
            let Client { stream, early, seat, record, .. } = client;
            let record = record.map(|mut record| {
                record.reached();
                record
            });
            let Reached { server, place, said, .. } = reached;
            Some(Relay::new(stream, server, early, said, watch, place, seat, record))
        }
        Err(Stop::Silent) => {
            client.note_end(Ended::NeverBegan);
            None
        }
        Err(Stop::NoHeader(why)) => {
            client.seat.worker().counters.headers_refused.add(1);
            client.note_end(Ended::NoProxyHeader(why));
            None
        }
        Err(Stop::NoTls(Failed { why, socket })) => {
            client.seat.worker().counters.tls_failures.add(1);
            client.note_end(Ended::TlsFailed(why));
            if let Some(socket) = socket {
                // The alert says why, if it is not destroyed by a reset.
                Box::pin(farewell(ClientStream::Plain(socket), &[])).await;
            }
            None
        }
        Err(Stop::Refuse(refusal) | Stop::NoServer(refusal)) => {
            client.seat.worker().counters.refused.add(1);
            client.note_end(Ended::Refused { sqlstate: refusal.sqlstate, message: refusal.message.clone() });
            Box::pin(farewell(client.stream, &refusal.to_bytes())).await;
            None
        }
    }
}

impl Client {
    /// Its line, when it never had a server.
    fn note_end(&mut self, end: Ended) {
        session_log::ended(self.seat.shared(), self.record.take(), None, (0, 0), || end);
    }

    async fn lead(&mut self, from: SocketAddr) -> Result<(Reached, Watch), Stop> {
        let mut reader = OpeningReader::new();
        let mut turn = Turn::default();
        let mut patience = PATIENCE;
        let options = &self.seat.shared().options;
        let terminates = options.tls.is_some();
        let mut origin = from;
        if options.proxy_protocol_from.iter().any(|network| network.contains(&from.ip())) {
            let client = Box::pin(self.read_origin(&mut patience)).await?;
            if let (Some(client), Some(record)) = (client, &mut self.record) {
                record.comes_from(client);
            }
            origin = client.unwrap_or(from);
        }
        let mut connected = None;
        let mut denied = (!self.seat.admitted()).then(|| self.too_many());
        loop {
            match self.read(&mut reader, &mut patience).await? {
                Opening::GssRequest => self.answer(TLS_DENIED).await?,
                Opening::SslRequest if terminates => {
                    self.still_silent()?;
                    self.answer(TLS_GRANTED).await?;
                    Box::pin(self.begin_tls(&mut patience)).await?;
                    reader = OpeningReader::encrypted();
                }
                Opening::DirectTls if terminates => {
                    Box::pin(self.begin_tls(&mut patience)).await?;
                    self.speaks_postgresql()?;
                    reader = OpeningReader::encrypted();
                }
                Opening::SslRequest if denied.is_some() => self.answer(TLS_DENIED).await?,
                Opening::SslRequest => match reach(self, &mut turn, Greeting::Tls, None).await {
                    Ok(reached) if reached.said == TLS_DENIED => {
                        self.answer(TLS_DENIED).await?;
                        connected = Some(reached);
                    }
                    Ok(reached) => {
                        debug_assert!(reached.said != TLS_GRANTED || self.early.is_empty());
                        return Ok((reached, Watch::Nothing));
                    }
                    Err(Stop::NoServer(refusal)) => {
                        self.answer(TLS_DENIED).await?;
                        denied = Some(refusal);
                    }
                    Err(stop) => return Err(stop),
                },
                // Without the keys there is no way to tell it why.
                Opening::DirectTls if denied.is_some() => return Err(Stop::Silent),
                Opening::DirectTls => {
                    let reached = reach(self, &mut turn, Greeting::DirectTls, None).await;
                    return Ok((reached.map_err(Stop::without_words)?, Watch::Nothing));
                }
                Opening::Cancel(request) => {
                    self.seat.worker().counters.cancels.add(1);
                    // It is no session.
                    self.record = None;
                    Box::pin(cancel::deliver(self.seat.shared(), &request)).await;
                    if self.stream.is_tls() {
                        // Without TLS's own good-bye libpq would take the end for a failure.
                        let stream = std::mem::replace(&mut self.stream, ClientStream::Gone);
                        Box::pin(farewell(stream, &[])).await;
                    }
                    return Err(Stop::Silent);
                }
                Opening::Startup(info) => {
                    if let Some(record) = &mut self.record {
                        record.names(&info);
                    }
                    if let Some(refusal) = denied {
                        return Err(Stop::Refuse(refusal));
                    }
                    if info.names_synchronous_commit
                        && self.seat.shared().settings.load().refuse_lowered_commits
                    {
                        return Err(Stop::Refuse(Refusal::lowers_commits()));
                    }
                    if self.seat.shared().settings.load().require_tls && !self.stream.is_tls() {
                        return Err(Stop::Refuse(Refusal::plaintext()));
                    }
                    let mut packet = reader.into_packet();
                    let names_clients = self.seat.shared().settings.load().name_clients;
                    if names_clients && info.replication == Replication::None {
                        packet = with_client(&packet, &info, origin);
                    }
                    let mut reached = reach(self, &mut turn, Greeting::Login(&packet), connected).await?;
                    let login = reached.login.take();
                    return Ok((reached, Watch::login(login)));
                }
            }
        }
    }

    /// Why one client too many is refused.
    fn too_many(&self) -> Refusal {
        let shared = self.seat.shared();
        let mut refusal = Refusal::proxy_full(shared.settings.load().max_connections);
        if shared.options.other_proxies {
            // The only code that sends libpq to the next host of its list.
            refusal.sqlstate = "57P03";
        }
        refusal
    }

    /// Reads the client's next packet, not a byte more, and charges `patience` for it.
    async fn read(&mut self, reader: &mut OpeningReader, patience: &mut Duration) -> Result<Opening, Stop> {
        let begun = Instant::now();
        let deadline = begun + *patience;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match self.hear(&mut bytes, reader.wanted(), deadline).await? {
                Heard::Bytes => {}
                Heard::End => return Err(Stop::Silent),
                Heard::Nothing => return Err(Stop::Refuse(Refusal::opening_too_slow(PATIENCE))),
            }
            let (consumed, opening) = reader.push(&bytes).map_err(|error| Stop::Refuse(error.refusal()))?;
            if let Some(opening) = opening {
                self.early.extend_from_slice(&bytes[consumed..]);
                *patience = patience.saturating_sub(begun.elapsed());
                return Ok(opening);
            }
        }
    }

    /// Appends the next bytes of a client that has no server yet, at most `wanted`, to `bytes`.
    ///
    /// # Errors
    /// When the proxy ends.
    pub(super) async fn hear(
        &mut self,
        bytes: &mut Vec<u8>,
        wanted: usize,
        deadline: Instant,
    ) -> Result<Heard, Stop> {
        loop {
            let next = scratch::read(&mut self.stream, bytes, wanted);
            let read = tokio::select! {
                biased;
                order = self.seat.cut() => match order {
                    CutOrder::ShuttingDown => return Err(Stop::Refuse(Refusal::draining())),
                    // Of a server that has not seen the login yet: another one will.
                    CutOrder::RoleLost(_) | CutOrder::Silent(_) => {
                        self.seat.concern(None);
                        continue;
                    }
                },
                read = tokio::time::timeout_at(deadline, next) => read,
            };
            return Ok(match read {
                Ok(Ok(1..)) => Heard::Bytes,
                Ok(_) => Heard::End,
                Err(_) => Heard::Nothing,
            });
        }
    }

    /// Says one byte to the client, which must not have gone on without waiting for it.
    async fn answer(&mut self, byte: &[u8]) -> Result<(), Stop> {
        self.stream.write_all(byte).await.map_err(|_| Stop::Silent)
    }
}

impl Stop {
    /// For a client that speaks TLS from its first byte.
    fn without_words(self) -> Self {
        Self::Silent
    }
}
