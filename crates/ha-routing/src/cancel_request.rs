//! A request to cancel what another session does.

/// Code in place of a protocol version.
pub(crate) const CANCEL_CODE: u32 = 80_877_102;

/// Shortest and longest key, in bytes: 4 up to protocol 3.1, up to 256 in 3.2.
pub(crate) const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

/// Which session to cancel: what its server gave it as BackendKeyData.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    /// Process id of the server's backend.
    pub pid: u32,
    /// Its secret, 4 to 256 bytes.
    pub key: Vec<u8>,
}

impl CancelRequest {
    /// The packet that carries it; `None` if the key has a length that no server gives.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if !KEY_LENGTHS.contains(&self.key.len()) {
            return None;
        }
        let length = u32::try_from(12 + self.key.len()).ok()?;
        let mut packet = Vec::with_capacity(12 + self.key.len());
        packet.extend_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(&CANCEL_CODE.to_be_bytes());
        packet.extend_from_slice(&self.pid.to_be_bytes());
        packet.extend_from_slice(&self.key);
        Some(packet)
    }
}

// The key lets whoever knows it end statements: it does not belong into a log.
impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("pid", &self.pid).field("key", &"***").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_as_long_as_its_key_wants() {
        let request = CancelRequest { pid: 0x0102_0304, key: vec![9, 8, 7, 6] };
        let packet = [0, 0, 0, 16, 0x04, 0xD2, 0x16, 0x2E, 1, 2, 3, 4, 9, 8, 7, 6];
        assert_eq!(request.to_bytes().unwrap(), packet);
        assert_eq!(CancelRequest { pid: 1, key: vec![0; 257] }.to_bytes(), None);
        assert_eq!(CancelRequest { pid: 1, key: vec![0; 3] }.to_bytes(), None);
    }

    #[test]
    fn keys_are_not_printed() {
        let request = CancelRequest { pid: 7, key: vec![123; 4] };
        assert!(!format!("{request:?}").contains("123"));
    }
}
