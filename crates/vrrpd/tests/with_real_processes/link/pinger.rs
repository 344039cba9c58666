//! A client that asks the floating address for an echo all the time (ICMP) and remembers what was answered.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{VIP, World, ms};

/// Between two questions; each stands for this time.
const PAUSE: Duration = Duration::from_millis(10);
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// Asks until it is told to end.
pub(crate) struct Pinger {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Instant, bool)>>>,
}

impl Pinger {
    pub(crate) fn begin(world: &World) -> Self {
        let socket = world.client.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("a raw socket");
            socket.set_read_timeout(Some(ms(2))).expect("a limit");
            socket
        });
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        Self { end, thread: Some(std::thread::spawn(move || ask(&socket, &ended))) }
    }

    /// For how long altogether there was no answer.
    pub(crate) fn end(mut self) -> Duration {
        self.end.store(true, Ordering::SeqCst);
        let asked = self.thread.take().expect("ended once").join().expect("the client");
        assert!(asked.iter().any(|(_, answered)| *answered), "no answer at all");
        let unanswered = asked.windows(2).filter(|pair| !pair[0].1);
        unanswered.map(|pair| pair[1].0 - pair[0].0).sum()
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
    }
}

fn ask(socket: &Socket, end: &AtomicBool) -> Vec<(Instant, bool)> {
    let mut asked: Vec<(Instant, bool)> = Vec::new();
    let address = SocketAddr::V4(SocketAddrV4::new(VIP, 0)).into();
    let mut last = None;
    loop {
        let now = Instant::now();
        let ended = end.load(Ordering::SeqCst);
        if !ended && asked.last().is_none_or(|(at, _)| now - *at >= PAUSE) {
            let number = u16::try_from(asked.len()).expect("a short test");
            // Nobody may be there to send it to: then it is unanswered.
            drop(socket.send_to(&echo(number), &address));
            asked.push((now, false));
        }
        // The last answers may be under way.
        if ended && now - *last.get_or_insert(now) > ms(100) {
            return asked;
        }
        let mut buffer = [0; 256];
        match (&*socket).read(&mut buffer) {
            // Behind the IP header: type, code, checksum, identifier, number.
            Ok(length) if length >= 28 && buffer[20] == ECHO_REPLY => {
                let number = usize::from(u16::from_be_bytes([buffer[26], buffer[27]]));
                if let Some((_, answered)) = asked.get_mut(number) {
                    *answered = true;
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("read an answer: {error}"),
        }
    }
}

fn echo(number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let sum = !(u16::from(ECHO_REQUEST) << 8).wrapping_add(number);
    // The carry of the addition comes in at the other end (RFC 1071).
    let carry = u16::from((u16::from(ECHO_REQUEST) << 8).checked_add(number).is_none());
    let [sum_high, sum_low] = sum.wrapping_sub(carry).to_be_bytes();
    [ECHO_REQUEST, 0, sum_high, sum_low, 0, 0, high, low]
}
