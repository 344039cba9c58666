//! One line for each session: who, where to, how long, how much, and why it ended. Written by a thread of its own: the threads
//! that relay never wait for a log.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ha_routing::silence::Side;
use ha_routing::startup_packet::StartupInfo;

use super::Port;
use super::worker::{CutOrder, Shared};

/// Sessions that may wait for their line. More than this ended faster than the log takes; the rest is only counted.
const WAITING_LINES: usize = 4096;

/// How long lines gather before they are written. A thread that is woken for each of them costs as much as the writing.
const GATHER: Duration = Duration::from_millis(20);

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where lines go, and whether anybody wants them now.
#[derive(Debug)]
pub(super) struct SessionLog {
    lines: SyncSender<Entry>,
    wanted: AtomicBool,
}

/// What the thread that writes is told.
#[derive(Debug)]
enum Entry {
    Line(Line),
    /// Everything before this is to be written, and that is to be told.
    Flush(SyncSender<()>),
}

/// What is known of a session while it lives.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    client: SocketAddr,
    /// The load balancer that said so.
    through: Option<SocketAddr>,
    port: Port,
    /// Of TLS that ends here.
    tls: &'static str,
    /// Whoever encrypts past the proxy does not tell.
    who: Option<Who>,
    /// How long it took until a server had said its first word.
    waited: Duration,
}

#[derive(Debug)]
struct Who {
    user: String,
    database: String,
    application: String,
}

/// A whole session.
#[derive(Debug)]
pub(super) struct Line {
    record: Box<Record>,
    lasted: Duration,
    /// Whose server it had.
    member: Option<String>,
    to_server: u64,
    to_client: u64,
    end: Ended,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client closed.
    ByClient,
    /// The client's connection broke.
    ClientLost,
    /// The server closed.
    ByServer,
    /// The server's connection broke.
    ServerLost,
    /// One side had closed and the other said nothing more for too long.
    HalfClosed,
    /// It was ordered.
    Cut(CutOrder),
    /// A commit did not wait for its standbys, and the client must not take it for one that did.
    Unconfirmed,
    /// The client tried to let its commits wait for less.
    LowersCommits,
    /// It never had a server; the client was told this.
    Refused { sqlstate: &'static str, message: String },
    /// It never had a server, and the client left.
    NeverBegan,
    /// A load balancer did not say whose connection it is.
    NoProxyHeader(String),
    /// TLS was begun and failed.
    TlsFailed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient => f.write_str("the client closed"),
            Self::ClientLost => f.write_str("the client's connection broke"),
            Self::ByServer => f.write_str("the server closed"),
            Self::ServerLost => f.write_str("the server's connection broke"),
            Self::HalfClosed => f.write_str("one side had closed and the other stayed silent"),
            Self::Cut(CutOrder::RoleLost(why)) => write!(f, "cut: {why}"),
            Self::Cut(CutOrder::ShuttingDown) => f.write_str("cut: the proxy ends"),
            Self::Cut(CutOrder::Silent(Side::Client)) => {
                f.write_str("cut: the client was silent for too long")
            }
            Self::Cut(CutOrder::Silent(Side::Server)) => {
                f.write_str("cut: the server was silent for too long")
            }
            Self::Unconfirmed => f.write_str("cut: the wait of a commit for its standbys was cancelled"),
            Self::LowersCommits => f.write_str("cut: a statement named synchronous_commit"),
            Self::Refused { sqlstate, message } => write!(f, "refused with {sqlstate}: {message}"),
            Self::NeverBegan => f.write_str("the client left before it had a server"),
            Self::NoProxyHeader(why) => write!(f, "closed: {why}"),
            Self::TlsFailed(why) => write!(f, "TLS failed: {why}"),
        }
    }
}

impl SessionLog {
    /// Starts the thread that writes. It sleeps while no lines are wanted.
    pub(super) fn start(wanted: bool) -> io::Result<Self> {
        let (lines, received) = sync_channel(WAITING_LINES);
        thread::Builder::new().name("session-log".to_owned()).spawn(move || write(&received))?;
        Ok(Self { lines, wanted: AtomicBool::new(wanted) })
    }

    /// Whether sessions that begin from now on get a line.
    pub(super) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// A record for a session that begins, if lines are wanted.
    pub(super) fn begin(&self, client: SocketAddr, port: Port) -> Option<Box<Record>> {
        self.wanted.load(Ordering::Relaxed).then(|| {
            Box::new(Record {
                began: Instant::now(),
                client,
                through: None,
                port,
                tls: "",
                who: None,
                waited: Duration::ZERO,
            })
        })
    }

    /// False when the line had to be dropped.
    fn send(&self, line: Line) -> bool {
        !matches!(self.lines.try_send(Entry::Line(line)), Err(TrySendError::Full(_)))
    }

    /// Waits, but not for long, until all lines of sessions that have ended are written.
    pub(super) fn flush(&self) {
        let (written, outcome) = sync_channel(1);
        if self.lines.try_send(Entry::Flush(written)).is_ok() {
            // In vain only when the log takes nothing: whoever ends cannot wait for that.
            let _ = outcome.recv_timeout(LAST_LINES);
        }
    }
}

impl Record {
    pub(super) fn names(&mut self, info: &StartupInfo) {
        self.who = Some(Who {
            user: info.user.clone(),
            database: info.database.clone(),
            application: info.application_name.clone(),
        });
    }

    /// The connection is `client`'s: its peer said so.
    pub(super) fn comes_from(&mut self, client: SocketAddr) {
        self.through = Some(std::mem::replace(&mut self.client, client));
    }

    /// TLS of this version ends here.
    pub(super) fn encrypted(&mut self, version: &'static str) {
        self.tls = version;
    }

    pub(super) fn reached(&mut self) {
        self.waited = self.began.elapsed();
    }
}

/// Writes the line of a session that ended, or counts that it could not be.
pub(super) fn ended(
    shared: &Shared,
    record: Option<Box<Record>>,
    member: Option<usize>,
    (to_server, to_client): (u64, u64),
    end: impl FnOnce() -> Ended,
) {
    let Some(record) = record else { return };
    let lasted = record.began.elapsed();
    let member = member.map(|upstream| shared.member(upstream).to_string());
    if !shared.session_log.send(Line { record, lasted, member, to_server, to_client, end: end() }) {
        shared.lines_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn write(entries: &Receiver<Entry>) {
    while let Ok(first) = entries.recv() {
        thread::sleep(GATHER);
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Line(line) => line.write(),
                // Whoever asked may have given up.
                Entry::Flush(written) => drop(written.send(())),
            }
        }
    }
}

impl Line {
    fn write(self) {
        let Self { record, lasted, member, to_server, to_client, end } = self;
        let port = match record.port {
            Port::Writes => "writes",
            Port::Reads => "reads",
        };
        let (user, database, application) =
            record.who.as_ref().map_or(("", "", ""), |who| (&who.user, &who.database, &who.application));
        tracing::info!(
            client = %record.client,
            through = record.through.map(tracing::field::display),
            port,
            tls = record.tls,
            server = member.as_deref().unwrap_or(""),
            user,
            database,
            application,
            lasted_ms = lasted.as_millis(),
            waited_ms = record.waited.as_millis(),
            to_server,
            to_client,
            "session ended: {end}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> SocketAddr {
        SocketAddr::from(([10, 0, 1, 100], 40_000))
    }

    #[test]
    fn nobody_pays_for_lines_that_nobody_wants() {
        let log = SessionLog::start(false).unwrap();
        assert!(log.begin(somebody(), Port::Writes).is_none());
        log.want(true);
        assert!(log.begin(somebody(), Port::Writes).is_some());
    }

    #[test]
    fn a_log_that_cannot_follow_drops_lines_and_never_waits() {
        let (lines, received) = sync_channel(1);
        let log = SessionLog { lines, wanted: AtomicBool::new(true) };
        let line = || Line {
            record: log.begin(somebody(), Port::Reads).unwrap(),
            lasted: Duration::ZERO,
            member: None,
            to_server: 1,
            to_client: 2,
            end: Ended::ByClient,
        };
        assert!(log.send(line()));
        assert!(!log.send(line()), "nobody takes them");
        assert!(matches!(received.recv().unwrap(), Entry::Line(Line { to_client: 2, .. })));
        assert!(log.send(line()));
    }

    #[test]
    fn who_ends_waits_until_the_log_has_come_so_far() {
        let (lines, received) = sync_channel(2);
        let log = SessionLog { lines, wanted: AtomicBool::new(true) };
        let writer = thread::spawn(move || {
            let Entry::Flush(written) = received.recv().unwrap() else { return false };
            written.send(()).is_ok()
        });
        log.flush();
        assert!(writer.join().unwrap());
        log.flush();
    }

    #[test]
    fn the_end_is_told_in_words() {
        let refused = Ended::Refused { sqlstate: "57P03", message: "no primary yet".to_owned() };
        assert_eq!(refused.to_string(), "refused with 57P03: no primary yet");
        let cut = Ended::Cut(CutOrder::RoleLost("pg2 leads epoch 7".into()));
        assert_eq!(cut.to_string(), "cut: pg2 leads epoch 7");
    }
}
