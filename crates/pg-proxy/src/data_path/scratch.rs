//! The one buffer of each thread. Nothing stays in it between two polls, so that no session owns one while it waits.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Measured to cost least per byte in bulk: smaller means more system calls, larger more cache misses.
const SIZE: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into());
}

/// Lends the buffer of this thread.
pub(super) fn with<T>(user: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| user(buffer))
}

/// Appends what there is to read, at most `limit` bytes, to `bytes`; says how many, 0 at the end. May be given up
/// without losing anything.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    limit: usize,
) -> io::Result<usize> {
    poll_fn(|context| {
        with(|buffer| {
            let limit = limit.min(buffer.len());
            let mut buffer = ReadBuf::new(&mut buffer[..limit]);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer))?;
            bytes.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}
