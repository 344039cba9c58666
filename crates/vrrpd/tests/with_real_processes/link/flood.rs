//! A stranger who sends as fast as he can what looks like advertisements of our virtual router with the highest priority,
//! except for a wrong checksum, as one with a wrong key would.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};

use super::World;

/// Runs until it is dropped.
pub(crate) struct Flood {
    end: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    pub(crate) fn begin(world: &World) -> Self {
        let socket = world.client.inside(|| {
            let socket =
                Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).expect("a raw socket");
            socket.set_multicast_if_v4(&Ipv4Addr::new(10, 0, 1, 99)).expect("the interface");
            socket.set_multicast_ttl_v4(255).expect("a TTL");
            socket
        });
        let (end, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&end), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let group = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 18), 0)).into();
            let packet = [0x31, 10, 254, 1, 0, 20, 0xde, 0xad, 10, 0, 1, 10];
            while !ended.load(Ordering::Relaxed) {
                // A full queue gives an error now and then; the next is sent all the same.
                let done = socket.send_to(&packet, &group).is_ok();
                count.fetch_add(done.into(), Ordering::Relaxed);
            }
        });
        Self { end, sent, thread: Some(thread) }
    }

    /// Packets sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
