//! One direction of a session.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is read at once for a receiver that is slower than its sender: this is what a stuck session keeps.
const SLOW_READ: usize = 16 * 1024;

/// Reads in one go before other sessions get their turn.
const ROUNDS: u32 = 4;

/// Bytes on their way from one socket to the other. Owns no buffer unless the receiver does not take all at once.
#[derive(Debug, Default)]
pub(super) struct Pump {
    /// What the receiver did not take yet. While there is any, nothing is read: the sender feels the back-pressure.
    spill: Vec<u8>,
    /// Of `spill`, how much the receiver took since.
    taken: usize,
    /// The last write was not taken whole.
    slow: bool,
    /// The sender has ended.
    ended: bool,
    /// Its end was passed on: this direction is over.
    over: bool,
    /// The receiver is gone: what the sender still says is thrown away.
    discards: bool,
}

/// Which side failed.
#[derive(Debug)]
pub(super) enum Broken {
    Sender,
    Receiver,
    /// What the sender said may not pass.
    Barred,
}

impl Pump {
    /// A direction that begins with bytes that were read before.
    pub(super) fn with(first: Vec<u8>) -> Self {
        Self { spill: first, ..Self::default() }
    }

    /// Whether nothing more will pass.
    pub(super) fn over(&self) -> bool {
        self.over
    }

    /// Nothing more passes.
    pub(super) fn end(&mut self) {
        self.spill = Vec::new();
        self.over = true;
    }

    /// From now on everything is thrown away.
    pub(super) fn discard(&mut self) {
        self.spill = Vec::new();
        self.discards = true;
    }

    /// Whether the sender's end was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes out what was read and not yet written.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.spill);
        rest.drain(..self.taken.min(rest.len()));
        self.taken = 0;
        rest
    }

    /// Moves what there is; `see` looks at each piece before it is written, and says whether it may pass. Ready when the sender has ended and that
    /// was passed on.
    ///
    /// A read that does not fill the buffer tells the runtime that the socket is empty, so the next one returns
    /// Pending without a system call: a small message costs exactly one recv and one send.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        scratch: &mut [u8],
        mut see: impl FnMut(&[u8]) -> bool,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..ROUNDS {
            ready!(self.poll_spill(context, to))?;
            if self.ended {
                if !self.discards {
                    // A receiver that is gone already needs no end.
                    drop(ready!(Pin::new(&mut *to).poll_shutdown(context)));
                }
                self.over = true;
                return Poll::Ready(Ok(()));
            }
            let limit = if self.slow { SLOW_READ } else { scratch.len() };
            let mut buffer = ReadBuf::new(&mut scratch[..limit]);
            ready!(Pin::new(&mut *from).poll_read(context, &mut buffer)).map_err(|_| Broken::Sender)?;
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.ended = true;
                continue;
            }
            if self.discards {
                continue;
            }
            if !see(bytes) {
                return Poll::Ready(Err(Broken::Barred));
            }
            let written = match Pin::new(&mut *to).poll_write(context, bytes) {
                Poll::Ready(written) => written.map_err(|_| Broken::Receiver)?,
                Poll::Pending => 0,
            };
            self.slow = written < bytes.len();
            if self.slow {
                self.spill = bytes[written..].to_vec();
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_spill(&mut self, context: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), Broken>> {
        while self.taken < self.spill.len() {
            let left = &self.spill[self.taken..];
            let written =
                ready!(Pin::new(&mut *to).poll_write(context, left)).map_err(|_| Broken::Receiver)?;
            self.taken += written;
        }
        if !self.spill.is_empty() {
            // An idle session keeps no buffer.
            self.spill = Vec::new();
        }
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}
