//! What reaches the thread that advertises from the others: operators' wishes and what other hosts say, in a short queue with
//! a descriptor that wakes it. The driver takes what is there and never waits for anybody.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ha_core::MemberName;
use nix::sys::eventfd::{EfdFlags, EventFd};
use vrrp::track::Tracking;
use vrrp::{PeerRouter, ProxyReport, Tuning};

use crate::configuration::RouterPlan;

/// What may wait: people are slow, and hosts tell five times a second how they are. When it is full, what comes is refused,
/// and told again by whoever tells.
const WAITING: usize = 256;

/// One thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The router of this address shall give it away.
    StepAside(IpAddr),
    /// An operator keeps floating addresses off this host, or no longer.
    Drain(bool),
    /// What this address follows beside the proxy has come to this.
    Tracking { address: IpAddr, tracking: Tracking },
    /// The file was changed: what its addresses go by now, and the times that all have in common.
    Tuned { tunings: Vec<(IpAddr, Tuning)>, times: ha_config::Vrrp },
    /// The file was changed: these virtual routers or groups come, those go (by the address that decides), and these are the
    /// floating addresses that it has.
    Changed { added: Vec<Vec<RouterPlan>>, removed: Vec<IpAddr>, floating: Vec<IpAddr> },
    /// Another host says how its proxy is.
    ProxyReported { peer: MemberName, proxy: ProxyReport },
    /// Another host says how its virtual router of this address is.
    RouterReported { peer: MemberName, address: IpAddr, router: PeerRouter },
    /// Another host is not heard any more.
    PeerLost(MemberName),
    /// Another host asks to be relieved.
    TakeOver { peer: MemberName, address: IpAddr, priority: u8, epoch: u64 },
}

/// The side of whoever wishes.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    queue: SyncSender<Wish>,
    wake: Arc<EventFd>,
}

/// The driver's side.
#[derive(Debug)]
pub(crate) struct WishesIn {
    queue: Receiver<Wish>,
    wake: Arc<EventFd>,
}

/// Both sides.
///
/// # Errors
/// When the kernel gives no descriptor.
pub(crate) fn wishes() -> io::Result<(Wishes, WishesIn)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let (sender, receiver) = sync_channel(WAITING);
    let there = Wishes { queue: sender, wake: Arc::clone(&wake) };
    Ok((there, WishesIn { queue: receiver, wake }))
}

impl Wishes {
    /// Hands one over. False when too many wait, or nobody is there.
    pub(crate) fn wish(&self, wish: Wish) -> bool {
        self.queue.try_send(wish).is_ok() && self.wake.write(1).is_ok()
    }
}

impl WishesIn {
    /// The next one that has come.
    pub(crate) fn take(&self) -> Option<Wish> {
        self.queue.try_recv().ok().or_else(|| {
            // What comes from here on wakes again; empty most of the time.
            let _ = self.wake.read();
            self.queue.try_recv().ok()
        })
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
        let aside = || Wish::StepAside([10, 0, 1, 10].into());
        assert!(wishes.wish(aside()));
        assert_eq!((wishes_in.take(), wishes_in.take()), (Some(aside()), None));
        let taken = (0..2 * WAITING).filter(|_| wishes.wish(aside())).count();
        assert_eq!(taken, WAITING);
        drop(wishes_in);
        assert!(!wishes.wish(aside()), "nobody is there");
    }
}
