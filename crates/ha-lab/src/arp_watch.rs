//! Who says that a floating address is his: every announcement is recorded, and "who has it" is asked all the time.
//!
//! It sits on the client host, where announcements arrive as broadcasts. Each question has a number of its own (in the sender's
//! hardware address, with an unspecified sender's IP address as RFC 5227 asks for, so that nobody's neighbour table
//! changes): two answers to one question are two owners at one moment.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::{LinkAddr, MsgFlags, sendto};
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock;
use crate::lab::Lab;
use crate::topology::CLIENT;

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a read waits, so that questions are asked in time.
const READ: Duration = Duration::from_millis(5);
/// How long answers to the last question may take.
const LAST_ANSWER: Duration = Duration::from_millis(100);
/// EtherType of address resolution.
const ETHERTYPE: u16 = 0x0806;
/// First bytes of the questions' sender hardware addresses: locally administered, nobody's.
const QUESTION: [u8; 2] = [0x0a, 0xa5];

/// A hardware address.
pub type Mac = [u8; 6];

/// One question and who answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// When it was asked, on the monotonic clock.
    pub at: Duration,
    /// Hosts that answered; a hardware address where it is none of the lab's.
    pub owners: BTreeSet<String>,
}

/// A packet that announces the address without having been asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// When it was seen, on the monotonic clock.
    pub at: Duration,
    /// Who sent it.
    pub owner: String,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct ArpLog {
    /// Every question in the order of asking.
    pub questions: Vec<Question>,
    /// Every announcement.
    pub announcements: Vec<Announcement>,
}

impl ArpLog {
    /// Spans in which more than one host answered, from the first such question to the last in a row.
    pub fn doubly_owned(&self) -> Vec<(Duration, Duration)> {
        self.spans(|owners| owners > 1)
    }

    /// Spans in which nobody answered.
    pub fn unowned(&self) -> Vec<(Duration, Duration)> {
        self.spans(|owners| owners == 0)
    }

    /// How long more than one host answered between two moments: each question stands for the time until the next.
    pub fn time_doubly_owned(&self, from: Duration, to: Duration) -> Duration {
        self.time(from, to, |owners| owners > 1)
    }

    /// How long nobody answered between two moments.
    pub fn time_unowned(&self, from: Duration, to: Duration) -> Duration {
        self.time(from, to, |owners| owners == 0)
    }

    /// Whether more than one host answered the last question before `moment`.
    pub fn is_doubly_owned_at(&self, moment: Duration) -> bool {
        let last = self.questions.iter().rev().find(|question| question.at < moment);
        last.is_some_and(|question| question.owners.len() > 1)
    }

    fn time(&self, from: Duration, to: Duration, holds: impl Fn(usize) -> bool) -> Duration {
        let pairs = self.questions.windows(2).filter(|pair| pair[0].at >= from && pair[0].at < to);
        pairs.filter(|pair| holds(pair[0].owners.len())).map(|pair| pair[1].at - pair[0].at).sum()
    }

    /// Whether `host` was the only one that answered every question asked from `since` on (that is left to be answered).
    pub fn owned_only_by(&self, host: &str, since: Duration) -> bool {
        let mut asked = self.questions.iter().filter(|question| question.at >= since).peekable();
        asked.peek().is_some() && asked.all(|question| question.owners.iter().eq([host]))
    }

    /// When a host answered last before, and first after, some moment.
    pub fn around(&self, host: &str, moment: Duration) -> (Option<Duration>, Option<Duration>) {
        let mut answered = self.questions.iter().filter(|question| question.owners.contains(host));
        let before = answered.clone().take_while(|question| question.at < moment).last();
        let after = answered.find(|question| question.at >= moment);
        (before.map(|question| question.at), after.map(|question| question.at))
    }

    fn spans(&self, holds: impl Fn(usize) -> bool) -> Vec<(Duration, Duration)> {
        let mut spans: Vec<(Duration, Duration)> = Vec::new();
        let mut open = false;
        for question in &self.questions {
            let now = holds(question.owners.len());
            match spans.last_mut() {
                Some(span) if open && now => span.1 = question.at,
                _ if now => spans.push((question.at, question.at)),
                _ => {}
            }
            open = now;
        }
        spans
    }
}

/// A watch at work; it ends when dropped.
#[derive(Debug)]
pub struct ArpWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<ArpLog>>>,
}

impl ArpWatch {
    /// Starts to watch an address from the client host.
    ///
    /// # Errors
    /// The client host is off.
    pub fn start(lab: &Lab, address: Ipv4Addr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let names: Vec<(String, String)> =
            lab.hosts().iter().map(|host| (host.mac(), host.name.clone())).collect();
        let for_thread = Arc::clone(&stop);
        let thread = lab.spawn_in_network_of(CLIENT, move || {
            let watcher = Watcher::new(address, names)?;
            watcher.run(&for_thread)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the watch.
    ///
    /// # Errors
    /// It could not run.
    pub fn finish(self) -> Result<ArpLog> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watch of {ETHERTYPE:#06x} panicked"))??
    }
}

struct Watcher {
    socket: Socket,
    link: LinkAddr,
    own: Mac,
    address: Ipv4Addr,
    /// Hardware address and name of every host.
    names: Vec<(String, String)>,
    log: ArpLog,
}

impl Watcher {
    /// Runs in the network of the client host.
    fn new(address: Ipv4Addr, names: Vec<(String, String)>) -> Result<Self> {
        let protocol = Protocol::from(i32::from(ETHERTYPE.to_be()));
        let socket =
            Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("open a packet socket")?;
        socket.set_read_timeout(Some(READ)).context("limit reads")?;
        let link = nix::ifaddrs::getifaddrs()
            .context("list interfaces")?
            .filter(|entry| entry.interface_name == "eth0")
            .find_map(|entry| entry.address?.as_link_addr().copied())
            .context("the client host has no eth0")?;
        let own = link.addr().context("eth0 has no hardware address")?;
        Ok(Self { socket, link, own, address, names, log: ArpLog::default() })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<ArpLog> {
        let mut next = clock::now();
        while !stop.load(Ordering::Relaxed) {
            let now = clock::now();
            if now >= next {
                self.ask(now)?;
                // No burst after a stall: the machine's, not the hosts', is of no interest.
                next = now + PAUSE;
            }
            self.read()?;
        }
        let end = clock::now() + LAST_ANSWER;
        while clock::now() < end {
            self.read()?;
        }
        Ok(self.log)
    }

    fn ask(&mut self, now: Duration) -> Result<()> {
        let number = u32::try_from(self.log.questions.len()).context("too many questions")?.to_be_bytes();
        let mut frame = Vec::with_capacity(42);
        frame.extend([0xff; 6]);
        frame.extend(self.own);
        frame.extend(ETHERTYPE.to_be_bytes());
        // Ethernet, IPv4, their lengths, request.
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(QUESTION);
        frame.extend(number);
        frame.extend([0; 4]);
        frame.extend([0; 6]);
        frame.extend(self.address.octets());
        sendto(self.socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty()).context("ask who has it")?;
        self.log.questions.push(Question { at: now, owners: BTreeSet::new() });
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let mut frame = [0; 128];
        let length = match (&self.socket).read(&mut frame) {
            Ok(length) => length,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error).context("read a frame"),
        };
        let Some(packet) = frame.get(14..length.min(42)).filter(|packet| packet.len() == 28) else {
            return Ok(());
        };
        // Only packets whose sender says that the address is his.
        if packet[14..18] != self.address.octets() {
            return Ok(());
        }
        let owner = self.name(&packet[8..14]);
        let target = &packet[18..24];
        let question = target.strip_prefix(&QUESTION).and_then(|number| number.try_into().ok());
        match question.map(|number| u32::from_be_bytes(number) as usize) {
            Some(number) => {
                let question = self.log.questions.get_mut(number).context("an answer to no question")?;
                question.owners.insert(owner);
            }
            None => self.log.announcements.push(Announcement { at: clock::now(), owner }),
        }
        Ok(())
    }

    fn name(&self, mac: &[u8]) -> String {
        let text: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = text.join(":");
        self.names.iter().find(|(mac, _)| *mac == text).map_or(text, |(_, name)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_two_owners_and_of_none() {
        let question = |at, owners: &[&str]| Question {
            at: Duration::from_millis(at),
            owners: owners.iter().map(|&owner| owner.to_owned()).collect(),
        };
        let log = ArpLog {
            questions: vec![
                question(0, &["ha1"]),
                question(20, &[]),
                question(40, &[]),
                question(60, &["ha1", "ha2"]),
                question(80, &["ha2"]),
                question(100, &[]),
                question(120, &["ha2"]),
            ],
            announcements: Vec::new(),
        };
        let ms = Duration::from_millis;
        assert_eq!(log.unowned(), [(ms(20), ms(40)), (ms(100), ms(100))]);
        assert_eq!(log.doubly_owned(), [(ms(60), ms(60))]);
        assert_eq!(
            (log.time_unowned(ms(0), ms(200)), log.time_doubly_owned(ms(0), ms(200))),
            (ms(60), ms(20))
        );
        assert_eq!(
            (log.time_unowned(ms(30), ms(100)), log.time_doubly_owned(ms(0), ms(60))),
            (ms(20), ms(0))
        );
        assert!(log.is_doubly_owned_at(ms(70)) && !log.is_doubly_owned_at(ms(90)));
        assert!(log.owned_only_by("ha2", ms(110)) && !log.owned_only_by("ha2", ms(80)));
        assert_eq!(log.around("ha1", ms(50)), (Some(ms(0)), Some(ms(60))));
    }
}
