//! One process replaces another without a closed port: the old one starts the program at its own path again and gives it
//! every socket that it listens on. Both ends of that are here; the sockets themselves are in `endpoints`.
//!
//! ```text
//!  old    SIGUSR2 ─► starts it ───────────────► "serving": closes its sockets, keeps its sessions ─► last one ends
//!  new                  reads the file, hears who leads ─► takes sessions              "leaving" ─► old one drains
//! ```
//!
//! Until the new one says that it serves, nothing changes for the old one; when it never says so, nothing has happened.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use ha_core::{MemberName, MonoTime};
use ha_daemon::inherited::HANDED_OVER;
use ha_routing::{AdminState, Table};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use crate::endpoints::{Endpoints, Purpose};
use crate::launch::OwnProgram;
use crate::replaced::{FAILED, LEAVING, Replaced, ReplacedShown, SERVING};

/// How long the successor may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of its reason to fail that are kept: a file may have many problems, and a wrong program may never end.
const LAST_WORDS: usize = 200;
/// How long the successor waits for somebody who leads before it takes sessions. Until then the old process takes them, which
/// knows; afterwards they wait here as at any start.
const HEARSAY: Duration = Duration::from_secs(2);
/// Environment variable with what operators wanted of members: `MEMBER=STATE`, with commas.
const ADMINISTERED: &str = "MATRIARCH_ADMINISTERED";

/// How often a process that was replaced says what it still has.
const REPORT: Duration = Duration::from_secs(1);

/// What the old process hears about its successor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It takes sessions.
    Serves {
        /// Its process.
        id: u32,
    },
    /// There is none.
    Failed {
        /// Why.
        why: String,
    },
    /// It was asked to end: whoever asked means the whole service.
    Leaves,
    /// It is gone without a word.
    Lost,
}

/// The old process's side.
#[derive(Debug)]
pub struct Succession {
    program: OwnProgram,
    endpoints: Arc<Endpoints>,
    news: mpsc::Sender<News>,
    /// An attempt that is under way; dropping it kills what was started.
    attempt: Option<tokio::task::JoinHandle<()>>,
    /// Sessions of this process.
    sessions: watch::Sender<u32>,
}

impl Succession {
    /// Nothing has begun. The receiver has the news.
    pub fn new(program: OwnProgram, endpoints: Arc<Endpoints>) -> (Self, mpsc::Receiver<News>) {
        let (news, receiver) = mpsc::channel(4);
        (Self { program, endpoints, news, attempt: None, sessions: watch::Sender::new(0) }, receiver)
    }

    /// Starts a successor, which is told what operators want of members and of processes that were replaced before. Must be
    /// called in a runtime. False when one is already on its way.
    pub fn begin(&mut self, table: &Table, replaced: &Replaced) -> bool {
        if self.attempt.is_some() {
            return false;
        }
        tracing::info!(program = %self.program.path().display(), "starting a successor");
        let attempt = Attempt {
            program: self.program.clone(),
            endpoints: Arc::clone(&self.endpoints),
            administered: administered(table),
            // Without them the successor only hears less.
            ancestors: replaced.copies().unwrap_or_default(),
            news: self.news.clone(),
            sessions: self.sessions.subscribe(),
        };
        self.attempt = Some(tokio::spawn(attempt.run()));
        true
    }

    /// The attempt that was under way has ended.
    pub fn settled(&mut self) {
        self.attempt = None;
    }

    /// Gives up an attempt that is under way.
    pub fn give_up(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            attempt.abort();
        }
    }

    /// So many sessions are open here; the successor hears of it.
    pub fn report(&self, sessions: u32) {
        self.sessions.send_replace(sessions);
    }

    /// Everything listens elsewhere now.
    pub fn close_all(&self) {
        self.endpoints.close_all();
    }

    /// Clients are taken no more, here or by a successor.
    pub fn close_clients(&self) {
        self.endpoints.close_clients();
    }
}

struct Attempt {
    program: OwnProgram,
    endpoints: Arc<Endpoints>,
    administered: String,
    ancestors: Vec<OwnedFd>,
    news: mpsc::Sender<News>,
    sessions: watch::Receiver<u32>,
}

/// Kills the process unless it has come to serve.
struct Started(Option<u32>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            send_signal(id, Signal::SIGKILL);
        }
    }
}

/// Asks a successor to end that serves already.
pub fn end(id: u32) {
    send_signal(id, Signal::SIGTERM);
}

fn send_signal(id: u32, signal: Signal) {
    if let Ok(id) = i32::try_from(id) {
        // It may have ended by itself, which is as good.
        let _ = kill(Pid::from_raw(id), signal);
    }
}

impl Attempt {
    async fn run(self) {
        let (news, sessions) = (self.news.clone(), self.sessions.clone());
        match self.until_it_serves().await {
            Ok((id, lines, own)) => {
                // The receiver lives as long as the driver.
                drop(news.send(News::Serves { id }).await);
                follow(lines, own, &news, &sessions).await;
            }
            Err(why) => drop(news.send(News::Failed { why }).await),
        }
    }

    async fn until_it_serves(mut self) -> Result<(u32, Lines, OwnedWriteHalf), String> {
        let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let (own, others) = UnixStream::pair().map_err(told("socketpair"))?;
        own.set_nonblocking(true).map_err(told("socketpair"))?;
        let own = tokio::net::UnixStream::from_std(own).map_err(told("socketpair"))?;
        let mut sockets = self.endpoints.copies().map_err(told("copying the sockets"))?;
        sockets.push((Purpose::Predecessor, OwnedFd::from(others)));
        sockets.extend(
            std::mem::take(&mut self.ancestors).into_iter().map(|stream| (Purpose::Ancestor, stream)),
        );
        let id = self.launch(sockets).await?;
        let mut started = Started(Some(id));
        let (read, write) = own.into_split();
        let mut lines = BufReader::new(read).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        match first {
            Err(_) => Err(format!("process {id} did not serve within {} s", PATIENCE.as_secs())),
            Ok(Ok(Some(line))) if line == SERVING => {
                started.0 = None;
                Ok((id, lines, write))
            }
            Ok(Ok(Some(line))) => {
                // What follows belongs to it; it ends by itself after these words.
                let mut why = line.strip_prefix(FAILED).unwrap_or(&line).to_owned();
                for _ in 0..LAST_WORDS {
                    let Ok(Ok(Some(more))) = tokio::time::timeout(PATIENCE, lines.next_line()).await else {
                        break;
                    };
                    why = why + "\n" + &more;
                }
                Err(format!("process {id}: {why}"))
            }
            Ok(Ok(None) | Err(_)) => Err(format!("process {id} ended before it served")),
        }
    }

    /// Starts it with these sockets and gives its process.
    async fn launch(&self, sockets: Vec<(Purpose, OwnedFd)>) -> Result<u32, String> {
        let named: Vec<String> =
            sockets.iter().map(|(purpose, fd)| format!("{}:{}", fd.as_raw_fd(), purpose.name())).collect();
        for (_, socket) in &sockets {
            // Nothing else in this process starts programs, so nobody else inherits them; they are closed here right after.
            fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
                .map_err(|error| format!("fcntl: {error}"))?;
        }
        let mut command = tokio::process::Command::from(self.program.launcher());
        command.env(HANDED_OVER, named.join(",")).env(ADMINISTERED, &self.administered);
        // Whoever is dropped while it is waited for is of no use any more.
        command.kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("start: {error}"))?;
        drop(sockets);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output =
            output.map_err(|_| format!("start: nothing happened within {} s", PATIENCE.as_secs()))?;
        let output = output.map_err(|error| format!("start: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        said.parse().map_err(|_| if said.is_empty() { format!("start: {}", output.status) } else { said })
    }
}

type Lines = tokio::io::Lines<BufReader<OwnedReadHalf>>;

/// Hears what a successor that serves has to say, and tells it what is left here.
async fn follow(
    mut lines: Lines,
    own: OwnedWriteHalf,
    news: &mpsc::Sender<News>,
    sessions: &watch::Receiver<u32>,
) {
    let mut due = tokio::time::interval(REPORT);
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) if line == LEAVING => drop(news.send(News::Leaves).await),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return drop(news.send(News::Lost).await),
            },
            _ = due.tick() => {
                let left = ReplacedShown { process: std::process::id(), sessions: *sessions.borrow() };
                // When nobody reads, nothing is lost but this.
                drop(own.try_write(left.line().as_bytes()));
            }
        }
    }
}

/// What operators want of members, where it is not the usual.
fn administered(table: &Table) -> String {
    let special = table.upstreams.iter().filter(|view| view.admin != AdminState::Ready);
    special.map(|view| format!("{}={}", view.member, view.admin.as_str())).collect::<Vec<_>>().join(",")
}

/// The same, as the successor is told it. What it does not understand it leaves out.
pub fn administered_before() -> Vec<(MemberName, AdminState)> {
    understand(&std::env::var(ADMINISTERED).unwrap_or_default())
}

fn understand(text: &str) -> Vec<(MemberName, AdminState)> {
    let one = |entry: &str| {
        let (member, state) = entry.split_once('=')?;
        let all = [AdminState::Ready, AdminState::Drain, AdminState::Maintenance];
        Some((member.parse().ok()?, all.into_iter().find(|known| known.as_str() == state)?))
    };
    text.split(',').filter_map(one).collect()
}

/// When a process begins to take sessions.
#[derive(Debug)]
pub struct Arrival {
    due: Option<MonoTime>,
}

impl Arrival {
    /// Of a process that starts now: at once, or after a predecessor when it knows who leads.
    pub fn new(now: MonoTime, has_predecessor: bool) -> Self {
        Self { due: Some(if has_predecessor { now + HEARSAY } else { now }) }
    }

    /// Whether it is time; says so once.
    pub fn has_come(&mut self, now: MonoTime, writes_are_open: bool) -> bool {
        let come = self.due.is_some_and(|due| writes_are_open || now >= due);
        if come {
            self.due = None;
        }
        come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_takes_sessions_when_it_knows_who_leads_and_others_at_once() {
        let at = |millis: u64| MonoTime(millis * 1_000_000);
        let mut first = Arrival::new(at(10), false);
        assert!(first.has_come(at(10), false));
        assert!(!first.has_come(at(11), true), "once");
        let mut second = Arrival::new(at(10), true);
        assert!(!second.has_come(at(2009), false));
        assert!(second.has_come(at(2009), true));
        let mut third = Arrival::new(at(10), true);
        assert!(third.has_come(at(2010), false), "nobody leads: clients wait here as well as there");
    }

    #[test]
    fn what_operators_wanted_arrives() {
        let name = |text: &str| text.parse::<MemberName>().unwrap();
        let wanted = understand("pg2=drain,pg3=maintenance,pg4=unheard-of,?");
        assert_eq!(wanted, [(name("pg2"), AdminState::Drain), (name("pg3"), AdminState::Maintenance)]);
        assert!(understand("").is_empty());
    }
}
