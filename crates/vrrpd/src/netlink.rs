//! Addresses and links of this network namespace (rtnetlink(7)), without waiting for anything but the kernel's own answer.
//!
//! Two sockets: one asks and is answered at once, the other hears what changes.

mod constants;
mod device;
mod message;
mod request;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::constants::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike as _};

use constants::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
pub(crate) use device::NewDevice;
pub(crate) use message::{Address, ArpSettings, Link, Message, whole_prefix};
use request::Request;

/// Kernels send dumps in pieces of at most this size when the reader's buffer is that large (netlink(7)).
const BUFFER_LEN: usize = 32 * 1024;
/// The kernel answers before the request returns; this only keeps a kernel that does not from hanging the thread.
const ANSWER_LIMIT_MS: i64 = 500;
/// Links and addresses of an ordinary host, at most.
const ORDINARY_MOST: usize = 64;
/// A dump during which something changed is of no use and is asked for again, so often.
const DUMP_ATTEMPTS: u32 = 5;
/// Groups as bits of the address to bind to: `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const LINKS_AND_ADDRESSES: u32 = 0x1 | 0x10 | 0x100;

/// All links and addresses at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) links: Vec<Link>,
    /// In the kernel's order: of each interface, primary addresses before secondary ones.
    pub(crate) addresses: Vec<Address>,
}

impl Picture {
    /// With room for what an ordinary host has, so that looking again takes no memory.
    pub(crate) fn with_room() -> Self {
        Self { links: Vec::with_capacity(ORDINARY_MOST), addresses: Vec::with_capacity(ORDINARY_MOST) }
    }
}

/// Asks and changes.
pub(crate) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(ANSWER_LIMIT_MS))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER_LEN] })
    }

    /// Brings a picture up to date.
    pub(crate) fn look(&mut self, picture: &mut Picture) -> io::Result<()> {
        self.dump_links(&mut picture.links)?;
        self.dump(Request::all_addresses(), &mut picture.addresses, |message| match message {
            Message::Address(address) => Some(address),
            _ => None,
        })
    }

    /// All interfaces.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.dump_links(&mut links)?;
        Ok(links)
    }

    fn dump_links(&mut self, links: &mut Vec<Link>) -> io::Result<()> {
        self.dump(Request::all_links(), links, |message| match message {
            Message::Link(link) => Some(link),
            _ => None,
        })
    }

    /// Makes a macvlan, down and without any address; an error if there is something of this name.
    pub(crate) fn make_device(&mut self, device: NewDevice<'_>) -> io::Result<()> {
        self.change(device::new(device), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Prepares such a device for an IPv4 address; or for an IPv6 address.
    pub(crate) fn prepare_device(&mut self, index: u32, ipv6: bool) -> io::Result<()> {
        let settings = if ipv6 { device::without_link_local(index) } else { device::answering(index) };
        self.change(settings, 0)
    }

    /// Writes on an interface what `ip link` shows of it.
    pub(crate) fn set_alias(&mut self, index: u32, text: &str) -> io::Result<()> {
        self.change(device::alias(index, text), 0)
    }

    /// Sets how an interface deals with ARP.
    pub(crate) fn set_arp(&mut self, index: u32, settings: ArpSettings) -> io::Result<()> {
        self.change(device::arp(index, settings), 0)
    }

    /// Sets an interface up or down.
    pub(crate) fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        self.change(device::up(index, up), 0)
    }

    /// Removes an interface, with the addresses on it; not being there is success.
    pub(crate) fn remove_device(&mut self, index: u32) -> io::Result<()> {
        match self.change(device::old(index), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Puts `address` (a /32 or /128) on the interface for so many seconds, or gives it that long from now. When nobody renews
    /// it, the kernel removes it.
    pub(crate) fn hold(&mut self, interface: u32, address: IpAddr, lifetime_secs: u32) -> io::Result<()> {
        let request = Request::new_address(interface, address, lifetime_secs);
        self.change(request, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address; `false` when it was not there.
    pub(crate) fn remove(&mut self, interface: u32, address: IpAddr, prefix: u8) -> io::Result<bool> {
        match self.change(Request::old_address(interface, address, prefix), 0) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn change(&mut self, request: Request, flags: u16) -> io::Result<()> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            let length = self.receive()?;
            // Others are the answers to requests that were given up.
            let answers = message::split(&self.buffer[..length]).filter(|one| one.sequence == self.sequence);
            for answer in answers {
                if let Ok(Message::Outcome(outcome)) = answer.open() {
                    return outcome.map_err(io::Error::from_raw_os_error);
                }
            }
        }
    }

    /// Replaces what is in `all`.
    fn dump<T>(
        &mut self,
        request: Request,
        all: &mut Vec<T>,
        select: impl Fn(Message) -> Option<T>,
    ) -> io::Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            all.clear();
            if self.dump_once(request, |message| all.extend(select(message)))? {
                return Ok(());
            }
        }
        Err(io::Error::other("links or addresses changed while they were read, again and again"))
    }

    /// False when something changed meanwhile.
    fn dump_once(&mut self, request: Request, mut take: impl FnMut(Message)) -> io::Result<bool> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut interrupted = false;
        loop {
            let length = self.receive()?;
            let answers = message::split(&self.buffer[..length]).filter(|one| one.sequence == self.sequence);
            for answer in answers {
                interrupted |= answer.is_interrupted();
                match answer.open() {
                    Ok(Message::Done) => return Ok(!interrupted),
                    Ok(Message::Outcome(outcome)) => outcome.map_err(io::Error::from_raw_os_error)?,
                    Ok(message) => take(message),
                    // A link or address that cannot be read is none of ours.
                    Err(_) => {}
                }
            }
        }
    }

    fn send(&mut self, mut request: Request, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(request.finish(flags, self.sequence)?, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.socket.recv(&mut &mut self.buffer[..], 0)
    }
}

/// Hears changes.
pub(crate) struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What the monitor gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Changes, all of which have been handed over.
    Changes,
    /// More changes than the kernel could keep for us: look at everything again.
    Overrun,
    /// Nothing more.
    Nothing,
}

impl Monitor {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, LINKS_AND_ADDRESSES))?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_LEN] })
    }

    /// Hands over what has changed since the last call, in its order; to be called until nothing is left.
    pub(crate) fn hear(&mut self, mut take: impl FnMut(&Message)) -> io::Result<Heard> {
        let length = match self.socket.recv(&mut &mut self.buffer[..], 0) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Heard::Overrun),
            Err(error) => return Err(error),
        };
        for change in message::split(&self.buffer[..length]) {
            match change.open() {
                Ok(message) => take(&message),
                Err(_) => return Ok(Heard::Overrun), // unreadable, so unknown: look at everything again
            }
        }
        Ok(Heard::Changes)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
