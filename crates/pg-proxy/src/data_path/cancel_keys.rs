//! Which server a cancel request belongs to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The secret of a session: four bytes up to protocol 3.1, up to 256 from 3.2 on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SecretKey {
    /// Kept in place: most sessions have one of these.
    Short([u8; 4]),
    Long(Box<[u8]>),
}

impl SecretKey {
    fn new(key: &[u8]) -> Self {
        key.try_into().map_or_else(|_| Self::Long(key.into()), Self::Short)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(key) => key,
            Self::Long(key) => key,
        }
    }
}

/// The process of a session and its server. A server gives a process id to one session at a time.
type Process = (u32, u16);

#[derive(Debug)]
struct Entry {
    key: SecretKey,
    owner: u32,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<Process, Entry>,
    next_owner: u32,
}

/// The keys of all sessions whose login went by in the clear. Touched once per login, cancel and end.
#[derive(Debug, Default)]
pub(super) struct CancelKeys {
    known: Mutex<Known>,
}

impl CancelKeys {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the key of a session with `upstream` until the returned value is dropped.
    pub(super) fn remember(self: &Arc<Self>, upstream: usize, pid: u32, key: &[u8]) -> KnownKey {
        let process = (pid, u16::try_from(upstream).unwrap_or(u16::MAX));
        let mut known = self.known();
        let owner = known.next_owner;
        known.next_owner = owner.wrapping_add(1);
        known.entries.insert(process, Entry { key: SecretKey::new(key), owner });
        KnownKey { keys: Arc::clone(self), process, owner }
    }

    /// The upstreams whose session has this process id and key: one, or none when it is not ours.
    pub(super) fn find(&self, upstreams: usize, pid: u32, key: &[u8]) -> Vec<usize> {
        let known = self.known();
        let has_it = |upstream: &usize| {
            let process = (pid, u16::try_from(*upstream).unwrap_or(u16::MAX));
            known.entries.get(&process).is_some_and(|entry| entry.key.bytes() == key)
        };
        (0..upstreams).filter(has_it).collect()
    }
}

/// Forgets the key when the session ends.
#[derive(Debug)]
pub(super) struct KnownKey {
    keys: Arc<CancelKeys>,
    process: Process,
    owner: u32,
}

impl Drop for KnownKey {
    fn drop(&mut self) {
        let mut known = self.keys.known();
        // The server may have given the process id to a new session before this one was cleared away.
        if known.entries.get(&self.process).is_some_and(|entry| entry.owner == self.owner) {
            known.entries.remove(&self.process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_server_of_a_key_until_its_session_ends() {
        let keys = Arc::new(CancelKeys::default());
        let first = keys.remember(0, 7, &[1, 2, 3, 4]);
        let second = keys.remember(2, 7, &[9; 32]);
        assert_eq!(keys.find(3, 7, &[1, 2, 3, 4]), [0]);
        assert_eq!(keys.find(3, 7, &[9; 32]), [2]);
        assert!(keys.find(3, 7, &[1, 2, 3, 5]).is_empty());
        drop(first);
        assert!(keys.find(3, 7, &[1, 2, 3, 4]).is_empty());
        drop(second);
        assert!(keys.find(3, 7, &[9; 32]).is_empty());
    }

    #[test]
    fn late_end_does_not_forget_the_next_session() {
        let keys = Arc::new(CancelKeys::default());
        let old = keys.remember(0, 7, &[1; 4]);
        let new = keys.remember(0, 7, &[2; 4]);
        drop(old);
        assert_eq!(keys.find(1, 7, &[2; 4]), [0]);
        drop(new);
    }
}
