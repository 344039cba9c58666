//! Telling the neighbours where the floating address is now: gratuitous ARP (RFC 5227 section 3; RFC 9568 section 8.2.2).

use std::net::Ipv4Addr;

use crate::announcer::HardwareAddress;

pub(crate) const BROADCAST: HardwareAddress = [0xFF; 6];
pub(crate) const ETHERTYPE: u16 = 0x0806;
const FRAME_LEN: usize = 42;

/// Which form of the announcement; some stacks honour only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// An ARP request for one's own address, the announcement of RFC 5227.
    Request,
    /// An answer that nobody asked for.
    Reply,
}

/// One Ethernet frame, without padding and checksum (the interface adds both).
pub(crate) fn frame(form: Form, own: HardwareAddress, address: Ipv4Addr) -> [u8; FRAME_LEN] {
    let (operation, target_hardware) = match form {
        Form::Request => (1_u16, [0; 6]),
        Form::Reply => (2, own),
    };
    let mut frame = [0; FRAME_LEN];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&own);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    // Ethernet, IPv4, lengths of their addresses (RFC 826).
    frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame[20..22].copy_from_slice(&operation.to_be_bytes());
    frame[22..28].copy_from_slice(&own);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&target_hardware);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: HardwareAddress = [0x02, 0, 0, 0, 0, 0x21];

    #[test]
    fn both_forms_byte_by_byte() {
        let request = frame(Form::Request, OWN, Ipv4Addr::new(10, 0, 1, 10));
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x21, 0x08, 0x06,
            0, 1, 8, 0, 6, 4, 0, 1,
            0x02, 0, 0, 0, 0, 0x21, 10, 0, 1, 10,
            0, 0, 0, 0, 0, 0, 10, 0, 1, 10,
        ];
        assert_eq!(request, expected);
        let reply = frame(Form::Reply, OWN, Ipv4Addr::new(10, 0, 1, 10));
        assert_eq!((reply[21], &reply[32..38]), (2, &OWN[..]));
        assert_eq!((&reply[..20], &reply[22..32]), (&request[..20], &request[22..32]));
    }
}
