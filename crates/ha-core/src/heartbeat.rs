//! Heartbeats between agents: one datagram every 100 ms to every other member, apart from the streams on which agents talk.
//! A stream needs a retransmission of 200 ms and more for one lost packet; datagrams need none, but firewalls may drop
//! them. A member is alive if either is heard.
//!
//! The bytes are fixed in length and place, so that neither side allocates: [`BODY`] bytes of content, then [`TAG`] bytes
//! of HMAC-SHA-256 over them (RFC 2104), made with the cluster's `heartbeat_key`. All numbers are big endian.

use crate::identity::{Epoch, MemberName};
use crate::mono_time::MonoTime;

/// Length of the content.
pub const BODY: usize = 136;
/// Length of the authentication code that follows it.
pub const TAG: usize = 32;
/// Length of a whole datagram.
pub const DATAGRAM: usize = BODY + TAG;

const MAGIC: [u8; 4] = *b"MTHB";
const VERSION: u8 = 1;
/// Room for a name; the longest that [`MemberName`] allows is a little shorter.
const NAME: usize = 32;

/// Between whom a heartbeat goes. A datagram that somebody sends on to another member proves nothing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatWay<'a> {
    /// Who sends.
    pub from: &'a MemberName,
    /// For whom it is.
    pub to: &'a MemberName,
}

/// One heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Life of the sending agent; a later life has a higher number.
    pub session: u64,
    /// Grows by one with each heartbeat of a session to the same member.
    pub sequence: u64,
    /// When it was sent, by the sender's clock: only the sender computes with it.
    pub sent_at: MonoTime,
    /// The epoch that the sender leads with a running primary; none while it does not.
    pub leads: Option<Epoch>,
    /// The silence after which the sender lets a leader be replaced, milliseconds.
    pub detection_ms: u64,
    /// The newest heartbeat of the receiver that the sender has heard.
    pub echo: Option<HeartbeatEcho>,
}

/// An answer to a heartbeat: that it arrived, and how long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatEcho {
    /// Session of the heartbeat that is answered.
    pub session: u64,
    /// When that one was sent, by the clock of its sender.
    pub sent_at: MonoTime,
    /// For how long the answer was held back here, nanoseconds.
    pub held_ns: u64,
}

/// Why bytes are no heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// Another length.
    #[error("{0} bytes instead of {DATAGRAM}")]
    Length(usize),
    /// Not ours, or of a version that this build does not know.
    #[error("no heartbeat of version {VERSION}")]
    Kind,
    /// Of another sender or for another receiver.
    #[error("between other members")]
    Way,
}

impl Heartbeat {
    /// The content, without the authentication code.
    pub fn encode(&self, way: HeartbeatWay<'_>) -> [u8; BODY] {
        let mut body = [0; BODY];
        body[..4].copy_from_slice(&MAGIC);
        body[4] = VERSION;
        put(&mut body, 8, self.session);
        put(&mut body, 16, self.sequence);
        put(&mut body, 24, self.sent_at.0);
        put(&mut body, 32, self.leads.map_or(0, |epoch| epoch.0));
        if let Some(echo) = self.echo {
            body[7] = 1;
            put(&mut body, 40, echo.session);
            put(&mut body, 48, echo.sent_at.0);
            put(&mut body, 56, echo.held_ns);
        }
        put(&mut body, 128, self.detection_ms);
        body[5] = put_name(&mut body[64..64 + NAME], way.from);
        body[6] = put_name(&mut body[96..96 + NAME], way.to);
        body
    }

    /// Reads a datagram whose authentication code was found right.
    ///
    /// # Errors
    /// It is none of ours.
    pub fn decode(datagram: &[u8], way: HeartbeatWay<'_>) -> Result<Self, HeartbeatError> {
        if datagram.len() != DATAGRAM {
            return Err(HeartbeatError::Length(datagram.len()));
        }
        if datagram[..4] != MAGIC || datagram[4] != VERSION {
            return Err(HeartbeatError::Kind);
        }
        let of = |at: usize, length: u8| datagram[at..at + NAME].get(..usize::from(length));
        if of(64, datagram[5]) != Some(way.from.as_str().as_bytes())
            || of(96, datagram[6]) != Some(way.to.as_str().as_bytes())
        {
            return Err(HeartbeatError::Way);
        }
        let epoch = get(datagram, 32);
        let echo = (datagram[7] == 1).then(|| HeartbeatEcho {
            session: get(datagram, 40),
            sent_at: MonoTime(get(datagram, 48)),
            held_ns: get(datagram, 56),
        });
        Ok(Self {
            session: get(datagram, 8),
            sequence: get(datagram, 16),
            sent_at: MonoTime(get(datagram, 24)),
            leads: (epoch > 0).then_some(Epoch(epoch)),
            detection_ms: get(datagram, 128),
            echo,
        })
    }
}

fn put(body: &mut [u8], at: usize, number: u64) {
    body[at..at + 8].copy_from_slice(&number.to_be_bytes());
}

fn get(body: &[u8], at: usize) -> u64 {
    body[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn put_name(room: &mut [u8], name: &MemberName) -> u8 {
    let bytes = name.as_str().as_bytes();
    room[..bytes.len()].copy_from_slice(bytes);
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

/// What one agent has heard from another by heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardHeartbeat {
    /// When the newest one arrived, by the receiver's clock.
    pub at: MonoTime,
    /// What it said: the epoch that its sender leads with a running primary.
    pub leads: Option<Epoch>,
    /// What it said: the silence after which its sender lets a leader be replaced, milliseconds.
    pub detection_ms: u64,
}

/// All that heartbeats say right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeats {
    /// Members from whom any was heard in this life of the agent.
    pub heard: Vec<(MemberName, HeardHeartbeat)>,
    /// When the thread that receives them last found that it had stood still. What was not heard until then proves nothing.
    pub stalled_at: Option<MonoTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Heartbeat {
        Heartbeat {
            session: 3,
            sequence: 1 << 40,
            sent_at: MonoTime(77),
            leads: Some(Epoch(9)),
            detection_ms: 1000,
            echo: Some(HeartbeatEcho { session: 2, sent_at: MonoTime(5), held_ns: 100 }),
        }
    }

    fn names() -> (MemberName, MemberName) {
        ("pg1".parse().unwrap(), "a-name-of-thirty-characters-30".parse().unwrap())
    }

    fn datagram(heartbeat: &Heartbeat, way: HeartbeatWay<'_>) -> [u8; DATAGRAM] {
        let mut datagram = [0; DATAGRAM];
        datagram[..BODY].copy_from_slice(&heartbeat.encode(way));
        datagram
    }

    #[test]
    fn what_is_written_is_read() {
        let (from, to) = names();
        let way = HeartbeatWay { from: &from, to: &to };
        for heartbeat in [one(), Heartbeat { leads: None, echo: None, ..one() }] {
            assert_eq!(Heartbeat::decode(&datagram(&heartbeat, way), way), Ok(heartbeat));
        }
    }

    #[test]
    fn every_byte_has_its_place() {
        let (from, to) = names();
        let body = one().encode(HeartbeatWay { from: &from, to: &to });
        assert_eq!(&body[..8], b"MTHB\x01\x03\x1e\x01");
        assert_eq!(&body[8..24], &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(&body[64..70], b"pg1\0\0\0");
        assert_eq!(&body[128..], &[0, 0, 0, 0, 0, 0, 3, 0xe8]);
    }

    #[test]
    fn what_is_none_is_refused() {
        let (from, to) = names();
        let way = HeartbeatWay { from: &from, to: &to };
        let good = datagram(&one(), way);
        assert_eq!(Heartbeat::decode(&good[..BODY], way), Err(HeartbeatError::Length(BODY)));
        let back = HeartbeatWay { from: &to, to: &from };
        assert_eq!(Heartbeat::decode(&good, back), Err(HeartbeatError::Way));
        let altered = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Heartbeat::decode(&bytes, way)
        };
        assert_eq!(altered(0, b'X'), Err(HeartbeatError::Kind));
        assert_eq!(altered(4, 2), Err(HeartbeatError::Kind));
        assert_eq!(altered(5, 200), Err(HeartbeatError::Way));
        assert_eq!(altered(96, 0xff), Err(HeartbeatError::Way));
    }
}
