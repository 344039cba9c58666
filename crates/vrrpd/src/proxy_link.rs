//! The stream that the local pg-proxy serves on a unix socket: as long as it says something good at least once a second,
//! the proxy lives. Whether it has a primary is told as well; what that is worth is decided elsewhere, because a database
//! without one must never move the address.

use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ha_core::MonoTime;
use serde::Deserialize;
use socket2::{Domain, SockAddr, Socket, Type};
use vrrp::{ProxyHealth, ProxyReport};

/// The proxy speaks every 200 ms; after this much silence it hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(1);
/// How soon a lost connection is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A line is below 100 bytes. Whoever sends longer ones is not our proxy.
const LINE_MAX: usize = 4096;
/// What is read at one go.
const PIECE: usize = 1024;

/// The connection to the proxy, and what is known of it.
#[derive(Debug)]
pub(crate) struct ProxyLink {
    path: Arc<Path>,
    connection: Option<Connection>,
    /// The beginning of a line whose end has not come; as long as it may be from the beginning.
    rest: Vec<u8>,
    /// When to connect again, while there is no connection.
    retry_at: MonoTime,
    report: ProxyReport,
    /// Maintenance mode of the cluster, by the last word of a proxy that knew.
    maintenance: bool,
    /// Why it counts as dead.
    why: Death,
}

/// Why a proxy counts as dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Death {
    /// It was not heard of yet.
    NotHeardOf,
    /// By its own word.
    DoesNotServe,
    /// It said nothing for too long.
    Silent,
    /// It closed the stream without having spoken.
    Closed,
    /// Nobody is at its socket.
    NotReached { path: Arc<Path>, error: i32 },
    /// The stream broke.
    Broken { error: i32 },
    /// What it says is longer than anything that it could have to say.
    NoLines,
    /// What it says is nothing that we know.
    NotUnderstood { why: Arc<str> },
}

/// What a line of the stream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    report: ProxyReport,
    /// Maintenance mode of the cluster; none as long as the proxy has heard of no agent.
    maintenance: Option<bool>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    silent_since: MonoTime,
    has_spoken: bool,
}

impl ProxyLink {
    /// Not connected yet: the proxy counts as dead until it has said that it serves.
    pub(crate) fn new(path: &Path, now: MonoTime) -> Self {
        Self {
            path: path.into(),
            connection: None,
            rest: Vec::with_capacity(LINE_MAX + PIECE),
            retry_at: now,
            report: ProxyReport::NONE,
            maintenance: false,
            why: Death::NotHeardOf,
        }
    }

    /// An earlier process that ended just now knew a serving proxy: that holds until it speaks, at most as long as any silence
    /// may last.
    pub(crate) fn presume_serving(&mut self, now: MonoTime) {
        self.connect(now);
        if let Some(connection) = &mut self.connection {
            // Its end then means death, also before the first word.
            connection.silent_since = now;
            self.report = ProxyReport { health: ProxyHealth::Serving, primary: true, epoch: 0 };
        }
    }

    /// What is known now.
    pub(crate) fn report(&self) -> ProxyReport {
        self.report
    }

    /// Whether the cluster is in maintenance mode. One that has just started knows nothing, which ends no mode.
    pub(crate) fn maintenance(&self) -> bool {
        self.maintenance
    }

    /// Why it is dead, for the log.
    pub(crate) fn why(&self) -> &Death {
        &self.why
    }

    /// What to wait for.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|connection| connection.socket.as_fd())
    }

    /// When to be called even if nothing arrives.
    pub(crate) fn poll_timeout(&self) -> MonoTime {
        self.connection.as_ref().map_or(self.retry_at, |connection| connection.silent_since + SILENCE_LIMIT)
    }

    /// Reads, connects, and judges.
    pub(crate) fn work(&mut self, now: MonoTime) {
        if self.connection.is_none() && self.retry_at <= now {
            self.connect(now);
        }
        self.read(now);
    }

    fn read(&mut self, now: MonoTime) {
        let Some(connection) = &mut self.connection else { return };
        match connection.read(now, &mut self.rest) {
            Ok(Some(said)) => {
                self.report = said.report;
                self.maintenance = said.maintenance.unwrap_or(self.maintenance);
                self.why = Death::DoesNotServe;
            }
            Ok(None) if now.since(connection.silent_since) >= SILENCE_LIMIT => {
                self.dead(now, Death::Silent);
            }
            Ok(None) => {}
            Err(Death::Closed) if connection.has_spoken => self.come_back(now),
            Err(why) => self.dead(now, why),
        }
    }

    /// The stream ended after it had spoken. Either the proxy is dead, then nobody listens any more; or another process has
    /// taken its sockets over (an upgrade), then that one speaks at once. What was known holds until it does, at most as
    /// long as any silence may last.
    fn come_back(&mut self, now: MonoTime) {
        let since = self.connection.take().map(|ended| ended.silent_since);
        self.connect(now);
        if let Some(connection) = &mut self.connection {
            connection.silent_since = since.unwrap_or(now);
            self.read(now);
        }
    }

    fn connect(&mut self, now: MonoTime) {
        let connected =
            Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).and_then(|socket| {
                // A full queue of the proxy gives "try again" instead of blocking.
                socket.connect(&SockAddr::unix(&self.path)?)?;
                Ok(Connection { socket, silent_since: now, has_spoken: false })
            });
        match connected {
            Ok(connection) => {
                self.connection = Some(connection);
                self.rest.clear();
            }
            Err(error) => {
                let path = Arc::clone(&self.path);
                self.dead(now, Death::NotReached { path, error: error.raw_os_error().unwrap_or_default() });
            }
        }
    }

    fn dead(&mut self, now: MonoTime, why: Death) {
        self.report = ProxyReport { health: ProxyHealth::Dead, primary: false, ..self.report };
        self.why = why;
        self.connection = None;
        self.retry_at = now + RETRY_PAUSE;
    }
}

impl Connection {
    /// The last whole line that has arrived; an error when the stream has ended or is not what it should be.
    fn read(&mut self, now: MonoTime, rest: &mut Vec<u8>) -> Result<Option<Said>, Death> {
        let mut said = None;
        let mut buffer = [0; PIECE];
        loop {
            match self.socket.read(&mut buffer) {
                // What came before the end counts: a proxy that leaves says so first.
                Ok(0) => return said.map_or(Err(Death::Closed), |said| Ok(Some(said))),
                Ok(length) => rest.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Death::Broken { error: error.raw_os_error().unwrap_or_default() }),
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let read = read_line(&rest[..end]);
                rest.drain(..=end);
                said = Some(read?);
                (self.silent_since, self.has_spoken) = (now, true);
            }
            if rest.len() > LINE_MAX {
                return Err(Death::NoLines);
            }
        }
        Ok(said)
    }
}

/// A line of the stream; what is absent is false, and what is unknown here is for others.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    serving: bool,
    draining: bool,
    primary: bool,
    epoch: u64,
    maintenance: Option<bool>,
}

fn read_line(line: &[u8]) -> Result<Said, Death> {
    let line: Line = serde_json::from_slice(line)
        .map_err(|error| Death::NotUnderstood { why: error.to_string().into() })?;
    let health = match (line.draining, line.serving) {
        // A draining proxy takes no new sessions, so it may well say that it does not serve.
        (true, _) => ProxyHealth::Draining,
        (false, true) => ProxyHealth::Serving,
        (false, false) => ProxyHealth::Dead,
    };
    let report = ProxyReport { health, primary: line.primary, epoch: line.epoch };
    Ok(Said { report, maintenance: line.maintenance })
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = io::Error::from_raw_os_error;
        match self {
            Self::NotHeardOf => f.write_str("not heard of yet"),
            Self::DoesNotServe => f.write_str("it says that it does not serve"),
            Self::Silent => write!(f, "silent for {SILENCE_LIMIT:?}"),
            Self::Closed => f.write_str("the proxy closed the stream"),
            Self::NotReached { path, error } => write!(f, "{}: {}", path.display(), known(*error)),
            Self::Broken { error } => known(*error).fmt(f),
            Self::NoLines => f.write_str("the proxy's stream holds no lines"),
            Self::NotUnderstood { why } => write!(f, "the proxy's stream is not understood: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    const SERVING: &[u8] = b"{\"seq\":1,\"serving\":true,\"draining\":false,\"primary\":false}\n";

    fn at(millis: u64) -> MonoTime {
        MonoTime(millis * 1_000_000)
    }

    fn connected(dir: &Path) -> (ProxyLink, UnixStream, UnixListener) {
        let path = dir.join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut link = ProxyLink::new(&path, at(0));
        link.work(at(0));
        let (stream, _) = listener.accept().unwrap();
        (link, stream, listener)
    }

    #[test]
    fn a_line_says_how_the_proxy_is_and_whether_it_has_a_primary() {
        let read = |text: &str| read_line(text.as_bytes()).ok().map(|said| said.report.health);
        let report = ProxyReport { health: ProxyHealth::Serving, primary: false, epoch: 0 };
        assert_eq!(read_line(SERVING).unwrap(), Said { report, maintenance: None });
        let with_one = br#"{"serving":true,"draining":false,"primary":true,"epoch":7,"maintenance":true}"#;
        let report = ProxyReport { primary: true, epoch: 7, ..report };
        assert_eq!(read_line(with_one).unwrap(), Said { report, maintenance: Some(true) });
        assert_eq!(read(r#"{"serving":true,"draining":true,"primary":true}"#), Some(ProxyHealth::Draining));
        assert_eq!(read(r#"{"serving":false,"draining":true}"#), Some(ProxyHealth::Draining));
        assert_eq!(read(r#"{"serving":false,"primary":true}"#), Some(ProxyHealth::Dead));
        assert_eq!(read(r#"{"new":"field"}"#), Some(ProxyHealth::Dead));
        assert_eq!(read("hello"), None);
    }

    #[test]
    fn a_proxy_that_has_just_started_ends_no_maintenance_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (mut link, mut stream, listener) = connected(dir.path());
        assert!(!link.maintenance());
        stream.write_all(b"{\"serving\":true,\"maintenance\":true}\n").unwrap();
        link.work(at(10));
        drop(stream);
        link.work(at(20));
        let (mut next, _) = listener.accept().unwrap();
        next.write_all(b"{\"serving\":true,\"maintenance\":null}\n").unwrap();
        link.work(at(30));
        assert!(link.report().health == ProxyHealth::Serving && link.maintenance());
        next.write_all(b"{\"serving\":true,\"maintenance\":false}\n").unwrap();
        link.work(at(40));
        assert!(!link.maintenance());
    }

    #[test]
    fn it_serves_until_the_stream_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (mut link, mut stream, listener) = connected(dir.path());
        assert_eq!(link.report().health, ProxyHealth::Dead, "nothing said yet");
        stream.write_all(&SERVING[..20]).unwrap();
        link.work(at(10));
        assert_eq!(link.report().health, ProxyHealth::Dead, "half a line");
        stream.write_all(&SERVING[20..]).unwrap();
        link.work(at(20));
        assert_eq!(link.report().health, ProxyHealth::Serving);
        stream.write_all(b"{\"serving\":false}\n").unwrap();
        link.work(at(25));
        assert_eq!((link.report().health, link.why()), (ProxyHealth::Dead, &Death::DoesNotServe));
        stream.write_all(SERVING).unwrap();
        link.work(at(26));
        drop((stream, listener));
        link.work(at(30));
        assert_eq!((link.report().health, link.poll_timeout()), (ProxyHealth::Dead, at(130)));
        std::fs::remove_file(dir.path().join("proxy.sock")).unwrap();
        let listener = UnixListener::bind(dir.path().join("proxy.sock")).unwrap();
        link.work(at(129));
        assert!(link.descriptor().is_none(), "not before the pause is over");
        link.work(at(130));
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(SERVING).unwrap();
        link.work(at(140));
        assert_eq!(link.report().health, ProxyHealth::Serving);
    }

    #[test]
    fn a_successor_on_the_same_socket_is_no_death() {
        let dir = tempfile::tempdir().unwrap();
        let (mut link, mut old, listener) = connected(dir.path());
        old.write_all(SERVING).unwrap();
        link.work(at(100));
        drop(old);
        link.work(at(200));
        assert_eq!(
            (link.report().health, link.poll_timeout()),
            (ProxyHealth::Serving, at(1100)),
            "it may be silent no longer"
        );
        let (mut new, _) = listener.accept().unwrap();
        new.write_all(SERVING).unwrap();
        link.work(at(250));
        assert_eq!((link.report().health, link.poll_timeout()), (ProxyHealth::Serving, at(1250)));
        // One that accepts and closes without a word is none.
        drop(new);
        link.work(at(300));
        drop(listener.accept().unwrap());
        link.work(at(310));
        assert_eq!(link.report().health, ProxyHealth::Dead);
    }

    #[test]
    fn silence_means_dead_also_for_one_that_accepts_and_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut link, mut stream, _listener) = connected(dir.path());
        stream.write_all(SERVING).unwrap();
        link.work(at(400));
        assert_eq!(link.poll_timeout(), at(1400));
        link.work(at(1399));
        assert_eq!(link.report().health, ProxyHealth::Serving);
        link.work(at(1400));
        assert_eq!(link.report().health, ProxyHealth::Dead);
        link.work(at(1500));
        assert_eq!((link.report().health, link.poll_timeout()), (ProxyHealth::Dead, at(2500)));
        link.work(at(2500));
        assert_eq!(link.why(), &Death::Silent);
    }

    #[test]
    fn nobody_there_is_dead_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut link = ProxyLink::new(&dir.path().join("absent"), at(0));
        link.work(at(0));
        assert_eq!((link.report().health, link.poll_timeout()), (ProxyHealth::Dead, at(100)));
    }
}
