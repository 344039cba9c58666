//! Sockets that this process was started with: by the service manager (`LISTEN_FDS`,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>), or by the process that it replaces
//! ([`HANDED_OVER`]).
#![allow(
    unsafe_code,
    reason = "a number from the environment becomes a descriptor; its block says why it is sound"
)]

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Environment variable by which a process hands its sockets to the one that replaces it: `NUMBER:NAME`, with commas.
/// `LISTEN_FDS` will not do: it must name the receiver's process id, which nobody knows before it exists.
pub const HANDED_OVER: &str = "MATRIARCH_HANDED_OVER";

/// Where the service manager's descriptors begin.
const FIRST: RawFd = 3;

/// Who gave the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// Nobody: there are none.
    Nobody,
    /// The service manager (`.socket` units).
    ServiceManager,
    /// The process that this one replaces.
    Predecessor,
}

/// The sockets, each with its name, not inherited any further.
#[derive(Debug)]
pub struct Inherited {
    /// Who gave them.
    pub giver: Giver,
    /// Name and socket.
    pub sockets: Vec<(String, OwnedFd)>,
}

/// Takes them. Once in a process: a second call finds none. To be called before anything else opens descriptors.
///
/// # Errors
/// When the environment cannot be understood or names what is no descriptor, in words.
pub fn inherited_sockets() -> Result<Inherited, String> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Inherited { giver: Giver::Nobody, sockets: Vec::new() });
    }
    let variable = |name: &str| std::env::var(name).ok();
    let (giver, named) = match variable(HANDED_OVER) {
        Some(text) => (Giver::Predecessor, handed_over(&text)?),
        None => match variable("LISTEN_PID") {
            // Meant for another process when the number is not ours.
            Some(id) if id.parse() == Ok(std::process::id()) => {
                let count = variable("LISTEN_FDS").unwrap_or_default();
                let names = variable("LISTEN_FDNAMES").unwrap_or_default();
                (Giver::ServiceManager, listen_fds(&count, &names)?)
            }
            _ => (Giver::Nobody, Vec::new()),
        },
    };
    let sockets = named.into_iter().map(|(number, name)| Ok((name, take(number)?)));
    Ok(Inherited { giver, sockets: sockets.collect::<Result<_, String>>()? })
}

fn handed_over(text: &str) -> Result<Vec<(RawFd, String)>, String> {
    let mut seen = BTreeSet::new();
    let one = |entry: &str| {
        let (number, name) = entry.split_once(':')?;
        let number = number.parse::<RawFd>().ok().filter(|number| *number >= FIRST)?;
        seen.insert(number).then(|| (number, name.to_owned()))
    };
    let all: Option<Vec<_>> = text.split(',').map(one).collect();
    all.ok_or_else(|| {
        format!("{HANDED_OVER}: found {text:?}, expected NUMBER:NAME,... with different numbers")
    })
}

fn listen_fds(count: &str, names: &str) -> Result<Vec<(RawFd, String)>, String> {
    const MOST: RawFd = 1024;
    let count = count.parse::<RawFd>().ok().filter(|count| (0..=MOST).contains(count));
    let count = count.ok_or_else(|| format!("LISTEN_FDS: expected a number of descriptors, up to {MOST}"))?;
    let mut names = names.split(':');
    Ok((FIRST..FIRST + count).map(|number| (number, names.next().unwrap_or_default().to_owned())).collect())
}

fn take(number: RawFd) -> Result<OwnedFd, String> {
    // SAFETY: called once for each number and once in a process, before anything else opens descriptors (both promised by
    // the only caller), so nobody else owns it. Whether it is one at all is asked of the kernel before it is used.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(descriptor),
        Err(error) => {
            // Closing what is no descriptor would be an error of ours.
            std::mem::forget(descriptor);
            Err(format!("descriptor {number} was announced in the environment and is none: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(all: &[(RawFd, &str)]) -> Vec<(RawFd, String)> {
        all.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
    }

    #[test]
    fn both_ways_to_announce_descriptors_are_understood() {
        assert_eq!(handed_over("7:write,12:read").unwrap(), named(&[(7, "write"), (12, "read")]));
        assert_eq!(listen_fds("2", "write:read").unwrap(), named(&[(3, "write"), (4, "read")]));
        assert_eq!(listen_fds("2", "write").unwrap(), named(&[(3, "write"), (4, "")]));
        assert_eq!(listen_fds("0", "").unwrap(), named(&[]));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for text in ["", "7", "x:write", "2:write", "7:write,7:read"] {
            assert!(handed_over(text).unwrap_err().contains(HANDED_OVER), "{text}");
        }
        for count in ["", "-1", "many", "100000"] {
            assert!(listen_fds(count, "").unwrap_err().contains("LISTEN_FDS"), "{count}");
        }
        assert!(take(1_000_000).unwrap_err().contains("1000000"));
    }
}
