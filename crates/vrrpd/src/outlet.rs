//! From the thread that advertises to the ordinary one: a queue that has all its room from the beginning, and a socket that
//! wakes the reader. Whoever puts something in neither waits for a lock nor asks for memory.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

/// The end where things go in.
#[derive(Debug)]
pub(crate) struct Outlet<T> {
    // In this order: the queue has ended when the reader is woken by the end of the socket.
    queue: SyncSender<T>,
    wake: UnixStream,
}

/// The end where they come out.
#[derive(Debug)]
pub(crate) struct OutletEnd<T> {
    queue: Receiver<T>,
    wake: tokio::net::UnixStream,
}

/// Both ends, with room for so many things. Must be called in a runtime.
///
/// # Errors
/// When the kernel gives no sockets.
pub(crate) fn outlet<T>(room: usize) -> io::Result<(Outlet<T>, OutletEnd<T>)> {
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let (sender, receiver) = sync_channel(room);
    let end = OutletEnd { queue: receiver, wake: tokio::net::UnixStream::from_std(woken)? };
    Ok((Outlet { queue: sender, wake }, end))
}

impl<T> Outlet<T> {
    /// Puts something in. False when there is no room, or nobody at the other end; then it is lost.
    pub(crate) fn put(&self, one: T) -> bool {
        let taken = self.queue.try_send(one).is_ok();
        // Where the socket is full, the reader has been woken often enough.
        drop((&self.wake).write(&[0]));
        taken
    }
}

impl<T> OutletEnd<T> {
    /// The next thing; `None` when the other end is gone and everything has come out.
    pub(crate) async fn take(&mut self) -> Option<T> {
        loop {
            match self.queue.try_recv() {
                Ok(one) => return Some(one),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            // An error is the end of the runtime.
            self.wake.readable().await.ok()?;
            // What counts is the queue.
            drop(self.wake.try_read(&mut [0; 64]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_in_comes_out_in_order_and_the_end_after_it() {
        let (outlet, mut end) = outlet(1000).unwrap();
        let writer = std::thread::spawn(move || (0..1000).all(|number| outlet.put(number)));
        for number in 0..1000 {
            assert_eq!(end.take().await, Some(number));
        }
        assert_eq!(end.take().await, None);
        assert!(writer.join().unwrap());
    }

    #[tokio::test]
    async fn what_has_no_room_is_lost_and_nobody_waits() {
        let (outlet, mut end) = outlet(2).unwrap();
        assert_eq!([1, 2, 3].map(|number| outlet.put(number)), [true, true, false]);
        assert_eq!((end.take().await, end.take().await), (Some(1), Some(2)));
        assert!(outlet.put(4));
        assert_eq!(end.take().await, Some(4));
        drop(end);
        assert!(!outlet.put(5), "nobody is there");
    }
}
