//! What is asked of the kernel, written in place for the same reason.

use std::io;
use std::net::IpAddr;

use super::constants::*;
use super::message::whole_prefix;

/// The longest request is a new device: three names or numbers and what is nested, or the longest alias.
const REQUEST_MAX: usize = 512;

/// What is asked of the kernel: a message that grows in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    bytes: [u8; REQUEST_MAX],
    length: usize,
    is_too_long: bool,
}

impl Request {
    pub(super) fn new(kind: u16) -> Self {
        let mut request = Self { bytes: [0; REQUEST_MAX], length: HEADER_LEN, is_too_long: false };
        request.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        request
    }

    /// About the link with this index (0 = a new one, or all); of `mask` the bits in `flags` are set, the others cleared.
    fn about_link(kind: u16, index: u32, flags: u32, mask: u32) -> Self {
        let mut request = Self::new(kind);
        request.put(&[0; 4]); // any family, any type
        for word in [index, flags, mask] {
            request.put(&word.to_ne_bytes());
        }
        request
    }

    pub(super) fn all_links() -> Self {
        Self::about_link(RTM_GETLINK, 0, 0, 0)
    }

    pub(super) fn new_link() -> Self {
        Self::about_link(RTM_NEWLINK, 0, 0, 0)
    }

    pub(super) fn set_link(index: u32, flags: u32, mask: u32) -> Self {
        Self::about_link(RTM_SETLINK, index, flags, mask)
    }

    pub(super) fn old_link(index: u32) -> Self {
        Self::about_link(RTM_DELLINK, index, 0, 0)
    }

    fn about_address(kind: u16, header: [u8; 4], interface: u32) -> Self {
        let mut request = Self::new(kind);
        request.put(&header);
        request.put(&interface.to_ne_bytes());
        request
    }

    pub(super) fn all_addresses() -> Self {
        Self::about_address(RTM_GETADDR, [0; 4], 0)
    }

    /// For a /32 or /128 that the kernel removes after so many seconds. Over IPv6 it is deprecated from the beginning, so
    /// that nothing takes it for its source; and nobody is asked beforehand whether he has it: that would take a second,
    /// and forbid the address as long as the former holder is slow.
    pub(super) fn new_address(interface: u32, address: IpAddr, lifetime_secs: u32) -> Self {
        let (flags, preferred) = if address.is_ipv6() { (IFA_F_NODAD, 0) } else { (0, lifetime_secs) };
        let mut request = Self::one_address(RTM_NEWADDR, interface, address, whole_prefix(address), flags);
        request.nested(IFA_CACHEINFO, |times| {
            for word in [preferred, lifetime_secs, 0, 0] {
                times.put(&word.to_ne_bytes());
            }
        });
        request.attribute(IFA_PROTO, &[OURS]);
        request
    }

    pub(super) fn old_address(interface: u32, address: IpAddr, prefix: u8) -> Self {
        Self::one_address(RTM_DELADDR, interface, address, prefix, 0)
    }

    fn one_address(kind: u16, interface: u32, address: IpAddr, prefix: u8, flags: u8) -> Self {
        let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut request = Self::about_address(kind, [family, prefix, flags, 0], interface);
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            match address {
                IpAddr::V4(address) => request.attribute(kind, &address.octets()),
                IpAddr::V6(address) => request.attribute(kind, &address.octets()),
            }
        }
        request
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |request| request.put(value));
    }

    /// Attributes within an attribute.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let begin = self.length;
        self.put(&[0, 0]);
        self.put(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.length - begin).unwrap_or(u16::MAX);
        if let Some(field) = self.bytes.get_mut(begin..begin + 2) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.put(&[0; 3][..self.length.next_multiple_of(4) - self.length]);
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.is_too_long = true,
        }
    }

    /// As it is sent, under this number.
    pub(super) fn finish(&mut self, flags: u16, sequence: u32) -> io::Result<&[u8]> {
        let length = u32::try_from(self.length).ok().filter(|_| !self.is_too_long);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(&self.bytes[..self.length])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::message::{Message, number, short, split};
    use super::*;

    pub(in super::super) fn bytes_of(mut request: Request) -> Vec<u8> {
        request.finish(NLM_F_REQUEST, 7).unwrap().to_vec()
    }

    /// What the kernel would read, were it as curious as we are.
    pub(in super::super) fn read_back(request: Request) -> Message {
        let mut bytes = bytes_of(request);
        if bytes[4..6] == RTM_SETLINK.to_ne_bytes() {
            bytes[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        }
        let all: Vec<Message> = split(&bytes).map(|one| one.open().unwrap()).collect();
        let [message] = all[..] else { panic!("{all:?}") };
        message
    }

    /// What follows the header of a request.
    pub(in super::super) fn words(request: Request) -> Vec<u32> {
        let bytes = bytes_of(request);
        bytes[HEADER_LEN..].chunks(4).map(|word| number(word).unwrap()).collect()
    }

    /// As the kernel's `linux/netlink.h` and `linux/if_addr.h` have it.
    #[test]
    fn an_address_byte_by_byte() {
        let vip = u32::from_ne_bytes([10, 0, 1, 10]);
        let length_and_kind = |length: u32, kind: u32| length | kind << 16;
        let header = [u32::from_ne_bytes([2, 32, 0, 0]), 7];
        let twice = [length_and_kind(8, 2), vip, length_and_kind(8, 1), vip];
        let times = [length_and_kind(20, 6), 3, 3, 0, 0];
        let ours = [length_and_kind(5, 11), 112];
        if cfg!(target_endian = "little") {
            let all = [&header[..], &twice, &times, &ours].concat();
            assert_eq!(words(Request::new_address(7, vip.to_ne_bytes().into(), 3)), all);
        }
        let mut request = Request::all_addresses();
        let head = request.finish(NLM_F_REQUEST | NLM_F_DUMP, 5).unwrap();
        assert_eq!((number(head), short(head, 4), short(head, 6)), (Some(24), Some(22), Some(0x301)));
        assert_eq!((number(&head[8..]), number(&head[12..])), (Some(5), Some(0)));
    }

    #[test]
    fn a_request_that_does_not_fit_is_not_sent() {
        let mut request = Request::new_link();
        request.attribute(IFLA_IFALIAS, &[b'x'; REQUEST_MAX]);
        assert_eq!(request.finish(0, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
