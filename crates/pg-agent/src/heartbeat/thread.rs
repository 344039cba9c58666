//! The thread: a round of heartbeats every 100 ms, and between rounds whatever arrives. It allocates nothing, logs nothing
//! once it runs, and waits for nothing but its socket.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use ha_core::heartbeat::{BODY, DATAGRAM, HeardHeartbeat, Heartbeat, HeartbeatEcho, HeartbeatWay};
use ha_core::{MemberName, MonoTime};
use ha_daemon::boottime;
use ha_daemon::scheduling::{RealTime, become_real_time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ring::hmac;

use super::HeartbeatOptions;
use super::table::Table;

/// Time between two heartbeats to the same member.
const EVERY: Duration = Duration::from_millis(100);
/// Who turns so much later than planned stood still: what it did not hear, and what has waited in its socket meanwhile,
/// proves nothing.
const LATE: Duration = Duration::from_millis(200);
/// A life with a lower number is believed only after the one before has been silent for so long: a clock may have been
/// set back between two lives.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Above ordinary work, below the guard's.
const PRIORITY: i32 = 10;

struct Peer {
    name: MemberName,
    address: SocketAddr,
    /// Heartbeats sent to it.
    sent: u64,
    /// The newest heard: session, sequence, its clock, ours.
    newest: Option<(u64, u64, MonoTime, MonoTime)>,
}

/// Everything that the thread works with.
pub(super) struct Beating {
    socket: UdpSocket,
    me: MemberName,
    peers: Vec<Peer>,
    session: u64,
    key: hmac::Key,
    table: Arc<Table>,
}

impl Beating {
    pub(super) fn new(
        socket: UdpSocket,
        options: &HeartbeatOptions,
        session: u64,
        key: hmac::Key,
        table: Arc<Table>,
    ) -> Self {
        let peers = options.others.iter().map(|(name, address)| Peer {
            name: name.clone(),
            address: *address,
            sent: 0,
            newest: None,
        });
        Self { socket, me: options.me.clone(), peers: peers.collect(), session, key, table }
    }

    pub(super) fn run(mut self) {
        if let Err(why) = become_real_time(RealTime::RoundRobin, PRIORITY) {
            tracing::warn!(why, "heartbeats");
        }
        let mut due = boottime();
        let mut awaited = due;
        while !self.table.has_ended() {
            let now = boottime();
            if now > awaited + LATE {
                self.discard();
                self.table.stalled(now);
            } else {
                self.receive(now);
            }
            if now >= due {
                self.send();
                due = now + EVERY;
            }
            awaited = due;
            self.wait(due.since(now));
        }
    }

    /// Until something arrives or the time has passed. Why it ended is of no interest: the loop looks at everything.
    fn wait(&self, time: Duration) {
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX).saturating_add(1);
        let _ = poll(&mut watched, PollTimeout::from(milliseconds));
    }

    fn send(&mut self) {
        let (leads, detection_ms) = self.table.said();
        for peer in &mut self.peers {
            peer.sent += 1;
            let now = boottime();
            let heartbeat = Heartbeat {
                session: self.session,
                sequence: peer.sent,
                sent_at: now,
                leads,
                detection_ms,
                echo: peer.newest.map(|(session, _, sent_at, heard_at)| HeartbeatEcho {
                    session,
                    sent_at,
                    held_ns: u64::try_from(now.since(heard_at).as_nanos()).unwrap_or(u64::MAX),
                }),
            };
            let mut datagram = [0; DATAGRAM];
            datagram[..BODY]
                .copy_from_slice(&heartbeat.encode(HeartbeatWay { from: &self.me, to: &peer.name }));
            let tag = hmac::sign(&self.key, &datagram[..BODY]);
            datagram[BODY..].copy_from_slice(tag.as_ref());
            // A network that does not take it is what the receiver is to notice.
            drop(self.socket.send_to(&datagram, peer.address));
        }
    }

    /// Throws away what has waited.
    fn discard(&self) {
        let mut buffer = [0; DATAGRAM + 1];
        while self.socket.recv_from(&mut buffer).is_ok() {}
    }

    fn receive(&mut self, now: MonoTime) {
        // One byte more than a heartbeat has, so that a longer datagram shows.
        let mut buffer = [0; DATAGRAM + 1];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let Some(index) = self.peers.iter().position(|peer| peer.address == from) else { continue };
            if self.hear(index, &buffer[..length], now).is_none() {
                self.table.peer(index).reject();
            }
        }
    }

    /// Takes one datagram from the address of a member; none when it is not a new heartbeat of that member.
    fn hear(&mut self, index: usize, datagram: &[u8], now: MonoTime) -> Option<()> {
        let (body, tag) = datagram.split_at_checked(BODY)?;
        hmac::verify(&self.key, body, tag).ok()?;
        let peer = &mut self.peers[index];
        let way = HeartbeatWay { from: &peer.name, to: &self.me };
        let heartbeat = Heartbeat::decode(datagram, way).ok()?;
        let missed = match peer.newest {
            Some((session, sequence, ..)) if session == heartbeat.session => {
                heartbeat.sequence.checked_sub(sequence + 1)?
            }
            Some((session, _, _, heard_at))
                if heartbeat.session < session && now.since(heard_at) < FORGOTTEN =>
            {
                return None;
            }
            _ => 0,
        };
        peer.newest = Some((heartbeat.session, heartbeat.sequence, heartbeat.sent_at, now));
        let shared = self.table.peer(index);
        let (leads, detection_ms) = (heartbeat.leads, heartbeat.detection_ms);
        shared.hear(HeardHeartbeat { at: now, leads, detection_ms }, missed);
        if let Some(echo) = heartbeat.echo.filter(|echo| echo.session == self.session) {
            let held = Duration::from_nanos(echo.held_ns);
            shared.round_trip(now.since(echo.sent_at).saturating_sub(held));
        }
        Some(())
    }
}
