//! What the signature of a received packet is worth, and signing what is sent.

use std::net::IpAddr;
use std::time::Duration;

use super::member::Member;
use crate::alarm::AlarmKind;
use crate::packet::Received;
use crate::setup::{Replay, Signing, SigningMode};
use crate::signature::Signature;

/// What a signature says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: signatures are not used.
    Nothing,
    /// Made by somebody who has the key, and new; perhaps there is something to tell.
    Right(Option<AlarmKind>),
    /// None, or not right.
    Wrong(AlarmKind),
}

impl Member {
    /// Whether nothing counts without a right signature.
    pub(super) fn enforces(&self) -> bool {
        self.setup.signing.as_ref().is_some_and(|signing| signing.mode == SigningMode::Enforce)
    }

    /// The signature that belongs behind a message that is sent now.
    pub(super) fn sign(&mut self, source: IpAddr, message: &[u8], utc: Duration) -> Option<Signature> {
        let signing =
            self.setup.signing.as_ref().filter(|signing| signing.mode >= SigningMode::Permissive)?;
        self.signed = self.signed.next(utc);
        Some(Signature::sign(&signing.key, source, message, self.signed))
    }

    /// Judges a packet of this virtual router, and remembers its stamp if it is right.
    pub(super) fn verdict(&mut self, received: &Received<'_>, utc: Duration) -> Verdict {
        let Some(signing) = &self.setup.signing else { return Verdict::Nothing };
        let Some(signature) = &received.signature else {
            // Before we sign ourselves, nothing is to be expected of others.
            return match signing.mode {
                SigningMode::ReceiveOnly => Verdict::Nothing,
                _ => Verdict::Wrong(AlarmKind::Unsigned),
            };
        };
        let id = signature.key_id();
        let Some(key) = signing.keys().find(|key| key.id == id) else {
            return Verdict::Wrong(AlarmKind::UnknownKey { key: id });
        };
        if !signature.is_valid(key, received.source, received.message) {
            return Verdict::Wrong(AlarmKind::WrongSignature { key: id });
        }
        let other_key = id != signing.key.id;
        let (stamp, apart) = (signature.stamp(), signature.stamp().distance(utc));
        let known = self.heard_signed.get(received.source);
        let window = match signing.replay {
            Replay::Monotonic => None,
            Replay::Time(window) => Some(window),
        };
        let is_new = match known {
            // What goes on from here is no repetition, wherever either clock has been set to.
            Some(last) => stamp > *last,
            None => window.is_none_or(|window| apart <= window),
        };
        if !is_new {
            return Verdict::Wrong(AlarmKind::Replayed);
        }
        // Only somebody who has a key gets a place.
        self.heard_signed.put(received.source, signature.stamp(), |stamp| *stamp);
        let far = window.is_some_and(|window| apart > window / 2);
        Verdict::Right(if far {
            Some(AlarmKind::ClockApart { by: apart })
        } else {
            other_key.then_some(AlarmKind::OtherKey { key: id })
        })
    }
}

impl Signing {
    fn keys(&self) -> impl Iterator<Item = &crate::signature::Key> {
        std::iter::once(&self.key).chain(&self.next_key)
    }
}
