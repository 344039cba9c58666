//! Operators' wishes, from the thread that serves gRPC to the one that advertises: a short queue, and a descriptor that wakes
//! it. The driver takes what is there and never waits for anybody.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wishes that may wait; people are slow.
const WAITING: usize = 16;

/// The side of whoever wishes.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    addresses: SyncSender<String>,
    wake: Arc<EventFd>,
}

/// The driver's side.
#[derive(Debug)]
pub(crate) struct WishesIn {
    addresses: Receiver<String>,
    wake: Arc<EventFd>,
}

/// Both sides.
///
/// # Errors
/// When the kernel gives no descriptor.
pub(crate) fn wishes() -> io::Result<(Wishes, WishesIn)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let (sender, receiver) = sync_channel(WAITING);
    let there = Wishes { addresses: sender, wake: Arc::clone(&wake) };
    Ok((there, WishesIn { addresses: receiver, wake }))
}

impl Wishes {
    /// Wishes that the router of this address steps aside. False when too many wait, or nobody is there.
    pub(crate) fn step_aside(&self, address: String) -> bool {
        self.addresses.try_send(address).is_ok() && self.wake.write(1).is_ok()
    }
}

impl WishesIn {
    /// The addresses whose routers shall step aside.
    pub(crate) fn take(&self) -> impl Iterator<Item = String> + '_ {
        // Empty most of the time; what counts is the queue.
        let _ = self.wake.read();
        self.addresses.try_iter()
    }
}

impl AsFd for WishesIn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_arrives_once_and_too_many_are_refused() {
        let (wishes, wishes_in) = wishes().unwrap();
        assert!(wishes.step_aside("10.0.1.10".to_owned()));
        assert_eq!(wishes_in.take().collect::<Vec<_>>(), ["10.0.1.10"]);
        assert_eq!(wishes_in.take().count(), 0);
        let taken = (0..100).filter(|_| wishes.step_aside("10.0.1.10".to_owned())).count();
        assert_eq!(taken, WAITING);
        drop(wishes_in);
        assert!(!wishes.step_aside("10.0.1.10".to_owned()), "nobody is there");
    }
}
