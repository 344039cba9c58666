//! Bytes of [`Reply`].

use super::frame::{FrameError, Reader, Writer};
use super::{
    Armed, Degraded, ExitOutcome, Fence, FenceMethod, GuardStatus, LayerMode, Layers, RefusalCode, Reply,
    WatchdogStatus,
};
use crate::Generation;

const ACK: u8 = 65;
const REFUSED: u8 = 66;
const STARTED: u8 = 67;
const START_FAILED: u8 = 68;
const STATUS: u8 = 69;
const EXITED: u8 = 70;
const EMPTIED: u8 = 71;
const FENCED: u8 = 72;
const HOLD_ENDED: u8 = 73;

/// Position = byte on the wire: only ever append.
const METHODS: [FenceMethod; 5] = [
    FenceMethod::CgroupKill,
    FenceMethod::SignalLoop,
    FenceMethod::FoundAtStart,
    FenceMethod::Freezer,
    FenceMethod::ProcessWalk,
];

/// Likewise.
const MODES: [LayerMode; 3] = [LayerMode::Required, LayerMode::Automatic, LayerMode::Off];

/// Likewise.
const REFUSALS: [RefusalCode; 16] = [
    RefusalCode::WrongBoot,
    RefusalCode::StaleSequence,
    RefusalCode::NotArmed,
    RefusalCode::OtherEpoch,
    RefusalCode::EpochTooLow,
    RefusalCode::EpochFenced,
    RefusalCode::DeadlinePast,
    RefusalCode::DeadlineTooFar,
    RefusalCode::DeadlineNotLater,
    RefusalCode::Populated,
    RefusalCode::PrimaryMayRun,
    RefusalCode::HoldTooLong,
    RefusalCode::BadSetting,
    RefusalCode::FenceNotAcknowledged,
    RefusalCode::Stopping,
    RefusalCode::LayerMissing,
];

impl Reply {
    /// The message's bytes, at most [`super::MESSAGE_MAX`]; long texts are shortened.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ack { seq, armed: held, layers } => {
                Writer::new(ACK).long(*seq).option(*held, write_armed).word(layers.0)
            }
            Self::Refused { seq, code, text } => {
                Writer::new(REFUSED).long(*seq).byte(position(&REFUSALS, code)).remark(text)
            }
            Self::Started { seq, pid, start } => Writer::new(STARTED).long(*seq).word(*pid).long(*start),
            Self::StartFailed { seq, text } => Writer::new(START_FAILED).long(*seq).remark(text),
            Self::Status { seq, status } => write_status(Writer::new(STATUS).long(*seq), status),
            Self::Exited { pid, start, outcome } => {
                let (kind, value) = match outcome {
                    ExitOutcome::Code(code) => (0, *code),
                    ExitOutcome::Signal(signal) => (1, *signal),
                    ExitOutcome::Unknown => (2, 0),
                };
                Writer::new(EXITED).word(*pid).long(*start).byte(kind).word(value.cast_unsigned())
            }
            Self::Emptied { start } => Writer::new(EMPTIED).long(*start),
            Self::Fenced(fence) => write_fence(Writer::new(FENCED), *fence),
            Self::HoldEnded { epoch } => Writer::new(HOLD_ENDED).epoch(*epoch),
        }
        .finish()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When the bytes are not exactly one message of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (kind, mut r) = Reader::open(bytes)?;
        let reply = match kind {
            ACK => Self::Ack { seq: r.long()?, armed: r.option(read_armed)?, layers: Layers(r.word()?) },
            REFUSED => Self::Refused {
                seq: r.long()?,
                code: at(&REFUSALS, r.byte()?, "the refusal")?,
                text: r.text()?,
            },
            STARTED => Self::Started { seq: r.long()?, pid: r.word()?, start: r.long()? },
            START_FAILED => Self::StartFailed { seq: r.long()?, text: r.text()? },
            STATUS => Self::Status { seq: r.long()?, status: read_status(&mut r)? },
            EXITED => Self::Exited { pid: r.word()?, start: r.long()?, outcome: read_outcome(&mut r)? },
            EMPTIED => Self::Emptied { start: r.long()? },
            FENCED => Self::Fenced(read_fence(&mut r)?),
            HOLD_ENDED => Self::HoldEnded { epoch: r.epoch()? },
            other => return Err(FrameError::Kind(other)),
        };
        r.close(reply)
    }
}

fn position<T: PartialEq>(list: &[T], value: &T) -> u8 {
    let found = list.iter().position(|item| item == value).expect("every value stands in its list");
    u8::try_from(found).expect("the lists are shorter than 256")
}

fn at<T: Copy>(list: &[T], position: u8, what: &'static str) -> Result<T, FrameError> {
    list.get(usize::from(position)).copied().ok_or(FrameError::Value(what))
}

fn write_armed(writer: Writer, armed: Armed) -> Writer {
    writer.epoch(armed.epoch).time(armed.deadline)
}

fn read_armed(r: &mut Reader<'_>) -> Result<Armed, FrameError> {
    Ok(Armed { epoch: r.epoch()?, deadline: r.time()? })
}

fn write_fence(writer: Writer, fence: Fence) -> Writer {
    writer
        .epoch(fence.epoch)
        .long(fence.generation.0)
        .time(fence.at)
        .byte(position(&METHODS, &fence.how))
        .flag(fence.empty)
}

fn read_fence(r: &mut Reader<'_>) -> Result<Fence, FrameError> {
    Ok(Fence {
        epoch: r.epoch()?,
        generation: Generation(r.long()?),
        at: r.time()?,
        how: at(&METHODS, r.byte()?, "the fence method")?,
        empty: r.flag()?,
    })
}

fn read_outcome(r: &mut Reader<'_>) -> Result<ExitOutcome, FrameError> {
    let (kind, value) = (r.byte()?, r.word()?.cast_signed());
    match kind {
        0 => Ok(ExitOutcome::Code(value)),
        1 => Ok(ExitOutcome::Signal(value)),
        2 => Ok(ExitOutcome::Unknown),
        _ => Err(FrameError::Value("the exit status")),
    }
}

fn write_status(writer: Writer, status: &GuardStatus) -> Writer {
    writer
        .boot(&status.boot_id)
        .time(status.now)
        .option(status.armed, write_armed)
        .option(status.hold_until, Writer::time)
        .epoch(status.fenced_through)
        .option(status.fence, write_fence)
        .option(status.postmaster, Writer::word)
        .long(status.start)
        .flag(status.populated)
        .word(status.layers.0)
        .word(status.degraded.0)
        .span(status.kill_lead)
        .byte(position(&MODES, &status.watchdog.mode))
        .option(status.watchdog.timeout, Writer::span)
        .remark(&status.watchdog.text)
        .long(status.resident_bytes)
        .long(status.rejected_messages)
}

fn read_status(r: &mut Reader<'_>) -> Result<GuardStatus, FrameError> {
    Ok(GuardStatus {
        boot_id: r.boot()?,
        now: r.time()?,
        armed: r.option(read_armed)?,
        hold_until: r.option(Reader::time)?,
        fenced_through: r.epoch()?,
        fence: r.option(read_fence)?,
        postmaster: r.option(Reader::word)?,
        start: r.long()?,
        populated: r.flag()?,
        layers: Layers(r.word()?),
        degraded: Degraded(r.word()?),
        kill_lead: r.span()?,
        watchdog: WatchdogStatus {
            mode: at(&MODES, r.byte()?, "the watchdog's mode")?,
            timeout: r.option(Reader::span)?,
            text: r.text()?,
        },
        resident_bytes: r.long()?,
        rejected_messages: r.long()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootId, Epoch, MonoTime};
    use std::time::Duration;

    fn all() -> Vec<Reply> {
        let fence = Fence {
            epoch: Epoch(4),
            generation: Generation(9),
            at: MonoTime(5),
            how: FenceMethod::CgroupKill,
            empty: true,
        };
        let status = GuardStatus {
            boot_id: BootId("boot".into()),
            now: MonoTime(1),
            armed: Some(Armed { epoch: Epoch(5), deadline: MonoTime(6) }),
            hold_until: Some(MonoTime(7)),
            fenced_through: Epoch(4),
            fence: Some(fence),
            postmaster: Some(4711),
            start: 2,
            populated: true,
            layers: Layers::PROCESS.with(Layers::CGROUP_KILL),
            degraded: Degraded::NOT_REAL_TIME,
            kill_lead: Duration::from_secs(1),
            watchdog: WatchdogStatus {
                mode: LayerMode::Required,
                timeout: Some(Duration::from_secs(5)),
                text: "/dev/watchdog0 (a timer)".into(),
            },
            resident_bytes: 3_000_000,
            rejected_messages: 1,
        };
        let mut empty = status.clone();
        (empty.armed, empty.hold_until, empty.fence, empty.postmaster) = (None, None, None, None);
        empty.watchdog = WatchdogStatus::default();
        let mut replies = vec![
            Reply::Ack { seq: 1, armed: None, layers: Layers::PROCESS },
            Reply::Ack { seq: 1, armed: status.armed, layers: Layers::PROCESS },
            Reply::Started { seq: 3, pid: 99, start: 2 },
            Reply::StartFailed { seq: 4, text: "no such directory".into() },
            Reply::Status { seq: 5, status },
            Reply::Status { seq: 6, status: empty },
            Reply::Exited { pid: 99, start: 2, outcome: ExitOutcome::Signal(9) },
            Reply::Exited { pid: 99, start: 2, outcome: ExitOutcome::Code(-1) },
            Reply::Exited { pid: 99, start: 2, outcome: ExitOutcome::Unknown },
            Reply::Emptied { start: 2 },
            Reply::HoldEnded { epoch: Epoch(5) },
        ];
        replies.extend(METHODS.map(|how| Reply::Fenced(Fence { how, ..fence })));
        replies.extend(REFUSALS.map(|code| Reply::Refused { seq: 2, code, text: "because".into() }));
        replies
    }

    #[test]
    fn every_reply_reads_back() {
        for reply in all() {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn a_cut_reply_is_refused() {
        for reply in all() {
            let bytes = reply.encode();
            for length in 0..bytes.len() {
                assert!(Reply::decode(&bytes[..length]).is_err(), "{length} bytes of {reply:?}");
            }
        }
    }

    #[test]
    fn a_long_text_is_shortened_at_a_character() {
        let reply = Reply::StartFailed { seq: 1, text: "é".repeat(4000) };
        let bytes = reply.encode();
        assert!(bytes.len() <= super::super::MESSAGE_MAX);
        let Ok(Reply::StartFailed { text, .. }) = Reply::decode(&bytes) else { panic!("does not read back") };
        assert_eq!(text, "é".repeat(512));
    }

    #[test]
    fn requests_and_replies_are_not_mistaken_for_each_other() {
        for reply in all() {
            assert!(super::super::Request::decode(&reply.encode()).is_err());
        }
    }
}
