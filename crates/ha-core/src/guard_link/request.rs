//! Bytes of [`Request`].

use super::frame::{FrameError, Reader, Writer};
use super::{NoPrimary, Request};
use crate::Generation;

const HELLO: u8 = 1;
const START: u8 = 2;
const ARM: u8 = 3;
const RENEW: u8 = 4;
const RELEASE: u8 = 5;
const HOLD: u8 = 6;
const KILL_ALL: u8 = 7;
const STATUS: u8 = 8;
const ACKNOWLEDGE_FENCED: u8 = 9;

impl Request {
    /// The message's bytes. Longer than [`super::MESSAGE_MAX`] only for a `Start` with too many settings; the guard
    /// refuses that.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { seq, boot_id } => Writer::new(HELLO).long(*seq).boot(boot_id),
            Self::Start { seq, settings } => {
                let count = u32::try_from(settings.len()).unwrap_or(u32::MAX);
                settings.iter().fold(Writer::new(START).long(*seq).word(count), |writer, (name, value)| {
                    writer.text(name).text(value)
                })
            }
            Self::Arm { seq, epoch, generation, deadline, boot_id } => {
                Writer::new(ARM).long(*seq).epoch(*epoch).long(generation.0).time(*deadline).boot(boot_id)
            }
            Self::Renew { seq, epoch, deadline } => {
                Writer::new(RENEW).long(*seq).epoch(*epoch).time(*deadline)
            }
            Self::Release { seq, epoch, proof } => {
                let writer = Writer::new(RELEASE).long(*seq).epoch(*epoch);
                match proof {
                    NoPrimary::Empty => writer.byte(0),
                    NoPrimary::Standby { start } => writer.byte(1).long(*start),
                }
            }
            Self::Hold { seq, epoch, until } => Writer::new(HOLD).long(*seq).epoch(*epoch).time(*until),
            Self::KillAll { seq, reason } => Writer::new(KILL_ALL).long(*seq).remark(reason),
            Self::Status { seq } => Writer::new(STATUS).long(*seq),
            Self::AcknowledgeFenced { seq, epoch } => {
                Writer::new(ACKNOWLEDGE_FENCED).long(*seq).epoch(*epoch)
            }
        }
        .finish()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are not exactly one message of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (kind, mut r) = Reader::open(bytes)?;
        let known = HELLO..=ACKNOWLEDGE_FENCED;
        if !known.contains(&kind) {
            return Err(FrameError::Kind(kind));
        }
        let seq = r.long()?;
        let request = match kind {
            HELLO => Self::Hello { seq, boot_id: r.boot()? },
            START => Self::Start { seq, settings: settings(&mut r)? },
            ARM => Self::Arm {
                seq,
                epoch: r.epoch()?,
                generation: Generation(r.long()?),
                deadline: r.time()?,
                boot_id: r.boot()?,
            },
            RENEW => Self::Renew { seq, epoch: r.epoch()?, deadline: r.time()? },
            RELEASE => Self::Release { seq, epoch: r.epoch()?, proof: proof(&mut r)? },
            HOLD => Self::Hold { seq, epoch: r.epoch()?, until: r.time()? },
            KILL_ALL => Self::KillAll { seq, reason: r.text()? },
            STATUS => Self::Status { seq },
            _ => Self::AcknowledgeFenced { seq, epoch: r.epoch()? },
        };
        r.close(request)
    }
}

fn settings(r: &mut Reader<'_>) -> Result<Vec<(String, String)>, FrameError> {
    // No reservation by the count: it is the sender's claim, and each element takes four bytes at least.
    (0..r.word()?).map(|_| Ok((r.text()?, r.text()?))).collect()
}

fn proof(r: &mut Reader<'_>) -> Result<NoPrimary, FrameError> {
    match r.byte()? {
        0 => Ok(NoPrimary::Empty),
        1 => Ok(NoPrimary::Standby { start: r.long()? }),
        _ => Err(FrameError::Value("the proof")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootId, Epoch, MonoTime};

    fn all() -> Vec<Request> {
        let boot_id = BootId("0b1c-22".to_owned());
        let (epoch, deadline) = (Epoch(7), MonoTime(9_000_000_123));
        vec![
            Request::Hello { seq: 1, boot_id: boot_id.clone() },
            Request::Start { seq: 2, settings: vec![] },
            Request::Start {
                seq: 2,
                settings: vec![("port".into(), "5432".into()), ("a.b".into(), "".into())],
            },
            Request::Arm { seq: 3, epoch, generation: Generation(12), deadline, boot_id },
            Request::Renew { seq: 4, epoch, deadline },
            Request::Release { seq: 5, epoch, proof: NoPrimary::Empty },
            Request::Release { seq: 6, epoch, proof: NoPrimary::Standby { start: 3 } },
            Request::Hold { seq: 7, epoch, until: deadline },
            Request::KillAll { seq: 8, reason: "stop took too long – again".into() },
            Request::Status { seq: 9 },
            Request::AcknowledgeFenced { seq: 10, epoch },
        ]
    }

    #[test]
    fn every_request_reads_back() {
        for request in all() {
            assert_eq!(Request::decode(&request.encode()), Ok(request.clone()));
            assert!(request.encode().len() <= super::super::MESSAGE_MAX);
        }
    }

    #[test]
    fn a_changed_bit_or_a_lost_byte_is_noticed() {
        for request in all() {
            let bytes = request.encode();
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(Request::decode(&changed).is_err(), "bit {bit} of {request:?}");
            }
            for length in 0..bytes.len() {
                assert!(Request::decode(&bytes[..length]).is_err(), "{length} bytes of {request:?}");
            }
        }
    }

    #[test]
    fn a_good_checksum_does_not_save_a_bad_message() {
        let sealed = |bytes: &[u8]| {
            let mut message = bytes.to_vec();
            message.extend_from_slice(&crc32fast::hash(bytes).to_le_bytes());
            Request::decode(&message)
        };
        assert_eq!(sealed(&[]), Err(FrameError::CutOff));
        assert_eq!(sealed(&[9, STATUS, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Version(9)));
        assert_eq!(sealed(&[1, 77, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Kind(77)));
        assert_eq!(sealed(&[1, STATUS, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::CutOff));
        assert_eq!(sealed(&[1, STATUS, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Trailing));
        assert_eq!(Request::decode(&[0; super::super::MESSAGE_MAX + 1]), Err(FrameError::TooLong));
        let mut claims_many = vec![1, START, 0, 0, 0, 0, 0, 0, 0, 0];
        claims_many.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(sealed(&claims_many), Err(FrameError::CutOff));
    }
}
