//! The floating addresses while nothing happens: who takes one over, and how late advertisements come.
//!
//! Besides the cluster's own there are others with other intervals on the same hosts, so that one run under one load says
//! what each interval would have made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ha_config::VRRPD_METRICS_PORT;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Lab;
use crate::topology::CLIENT;
use crate::wait::wait_for;

/// Addresses besides the cluster's own: the last byte of each, which is its identifier, and its interval.
const OTHERS: [(u8, u64); 3] = [(201, 100), (202, 250), (203, 500)];
/// EtherType of IPv4; protocol number of VRRP.
const ETH_P_IP: u16 = 0x0800;
const VRRP: u8 = 112;

/// Lines for the cluster file that make [`OTHERS`].
pub(super) fn appendix() -> String {
    let vip = |(last, millis): &(u8, u64)| {
        format!("\n[[vip]]\naddress = \"10.0.1.{last}/24\"\ninterval = \"{millis}ms\"\n")
    };
    OTHERS.iter().map(vip).collect()
}

/// How often any proxy host has become the holder of any address, as its metrics count it.
pub(super) fn takeovers(lab: &Lab) -> Result<u64> {
    let sums = lab.proxies().into_iter().map(|host| sum(lab, host, "matriarch_vrrp_became_active_total"));
    sums.sum()
}

/// Waits until each address has one holder.
pub(super) fn wait_held(lab: &Lab, limit: Duration) -> Result<()> {
    let wanted = OTHERS.len() as u64 + 1;
    wait_for(&format!("a holder for each of {wanted} addresses"), limit, || {
        let sums = lab.proxies().into_iter().map(|host| sum(lab, host, "matriarch_vrrp_active"));
        let held = sums.sum::<Result<u64>>().map_err(|error| format!("{error:#}"))?;
        if held == wanted { Ok(()) } else { Err(format!("{held}")) }
    })
}

fn sum(lab: &Lab, host: &str, name: &str) -> Result<u64> {
    let page = lab.http("GET", host, VRRPD_METRICS_PORT, "/metrics")?.body;
    let samples =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let values = samples.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()));
    values.map(|value| value.with_context(|| format!("{name} of {host}"))).sum()
}

/// Hears advertisements where the client is; the kernel says when each came, however busy this process is.
#[derive(Debug)]
pub(super) struct Listener {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Result<Heard>>>,
}

/// What was heard of each virtual router.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<u8, Advertisements>);

#[derive(Debug, Default)]
struct Advertisements {
    interval: Duration,
    senders: BTreeSet<[u8; 4]>,
    last: Option<Duration>,
    gaps: Vec<Duration>,
}

impl Listener {
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = lab.spawn_in_network_of(CLIENT, move || listen(&stopped))?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        let heard = self.thread.join().map_err(|_| anyhow::anyhow!("the listener panicked"))???;
        ensure!(heard.0.len() > OTHERS.len(), "not every address was advertised: {:?}", heard.0.keys());
        Ok(heard)
    }
}

fn listen(stop: &AtomicBool) -> Result<Heard> {
    let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).context("open a packet socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).context("limit reads")?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("ask for times")?;
    let mut heard = Heard::default();
    while !stop.load(Ordering::Relaxed) {
        let mut packet = [0; 128];
        let mut control = nix::cmsg_space!(TimeSpec);
        let received = {
            let mut parts = [IoSliceMut::new(&mut packet)];
            match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
                Ok(message) => {
                    let mut controls = message.cmsgs().context("read a packet's time")?;
                    let time = controls.find_map(|control| match control {
                        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                        _ => None,
                    });
                    time.map(|time| (time, message.bytes))
                }
                Err(Errno::EAGAIN | Errno::EINTR) => None,
                Err(error) => return Err(error).context("read a packet"),
            }
        };
        if let Some((time, length)) = received {
            heard.note(time, &packet[..length]);
        }
    }
    Ok(heard)
}

impl Heard {
    /// An IPv4 packet without options, as vrrpd sends it.
    fn note(&mut self, time: Duration, packet: &[u8]) {
        let &[0x45, _, _, _, _, _, _, _, _, VRRP, _, _, a, b, c, d, _, _, _, _, _, vrid, _, _, high, low, ..] =
            packet
        else {
            return;
        };
        let router = self.0.entry(vrid).or_default();
        router.interval = Duration::from_millis(10 * u64::from(u16::from_be_bytes([high & 0x0f, low])));
        router.senders.insert([a, b, c, d]);
        let last = router.last.replace(time);
        router.gaps.extend(last.map(|last| time.saturating_sub(last)));
    }

    /// Whether each address was advertised by one host only.
    pub(super) fn one_sender_each(&self) -> bool {
        self.0.values().all(|router| router.senders.len() == 1)
    }
}

/// A table in Markdown.
impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| interval | advertisements | senders | half of the gaps below | of 1000, 999 below | longest gap | Down interval |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        let mut routers: Vec<&Advertisements> = self.0.values().collect();
        routers.sort_by_key(|router| router.interval);
        for Advertisements { interval, senders, gaps, .. } in routers {
            let mut gaps = gaps.clone();
            gaps.sort_unstable();
            let at = |of_1000: usize| gaps.get(gaps.len() * of_1000 / 1000).copied().unwrap_or_default();
            // RFC 9568 section 6.1, with 150, the priority of a second host that serves.
            let down = *interval * 3 + *interval * (256 - 150) / 256;
            let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} |",
                shown(*interval),
                gaps.len() + 1,
                senders.len(),
                shown(at(500)),
                shown(at(999)),
                shown(gaps.last().copied().unwrap_or_default()),
                shown(down)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_those_between_advertisements_of_one_router() {
        let packet = |vrid: u8, last: u8| {
            let mut packet =
                vec![0x45, 0xc0, 0, 32, 0, 0, 0, 0, 255, VRRP, 0, 0, 10, 0, 1, last, 224, 0, 0, 18];
            packet.extend([0x31, vrid, 150, 1, 0, 20, 0, 0, 10, 0, 1, vrid]);
            packet
        };
        let ms = Duration::from_millis;
        let mut heard = Heard::default();
        for (at, vrid, last) in [(0, 10, 21), (50, 11, 21), (200, 10, 21), (450, 10, 22)] {
            heard.note(ms(at), &packet(vrid, last));
        }
        heard.note(ms(460), &[0x45; 10]);
        assert_eq!((&heard.0[&10].gaps[..], heard.0[&10].interval), (&[ms(200), ms(250)][..], ms(200)));
        assert!(!heard.one_sender_each() && heard.0[&11].gaps.is_empty());
        assert!(
            heard.to_string().contains("| 200.0 ms | 3 | 2 | 250.0 ms | 250.0 ms | 250.0 ms | 682.8 ms |"),
            "{heard}"
        );
    }
}
