//! The kernel's watchdog device (Linux: Documentation/watchdog/watchdog-api.rst).
#![allow(unsafe_code, reason = "ioctls have no safe face; each block says why it is sound")]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::Device;

/// `struct watchdog_info` (Linux: include/uapi/linux/watchdog.h).
#[repr(C)]
#[derive(Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// In the boot status: the last reset was this device's.
const CARD_RESET: libc::c_int = 0x20;

/// The numbers come out of the kernel's macros: their bits differ between architectures.
mod number {
    #![allow(missing_docs, reason = "named as in the kernel's header")]
    use super::Info;

    nix::ioctl_read!(get_support, b'W', 0, Info);
    nix::ioctl_read!(get_boot_status, b'W', 2, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, libc::c_int);
}

/// An open device. Dropping it closes it: whether it runs on is decided by the last write.
#[derive(Debug)]
pub(super) struct KernelDevice(File);

impl KernelDevice {
    /// Opens the device, which starts it. Never inherited by a child: it would keep the device open.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::options().write(true).open(path).map(Self) // std opens with O_CLOEXEC
    }
}

impl Device for KernelDevice {
    fn support(&self) -> io::Result<(String, u32)> {
        let mut info = Info::default();
        // SAFETY: the number says that the kernel writes one `Info`, and `info` is one.
        unsafe { number::get_support(self.0.as_raw_fd(), &raw mut info) }?;
        let length = info.identity.iter().position(|byte| *byte == 0).unwrap_or(info.identity.len());
        Ok((String::from_utf8_lossy(&info.identity[..length]).into_owned(), info.options))
    }

    fn caused_boot(&self) -> io::Result<bool> {
        let mut flags = 0;
        // SAFETY: the number says that the kernel writes one int.
        unsafe { number::get_boot_status(self.0.as_raw_fd(), &raw mut flags) }?;
        Ok(flags & CARD_RESET != 0)
    }

    fn set_timeout(&self, seconds: u32) -> io::Result<u32> {
        let mut value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
        // SAFETY: the number says that the kernel reads and writes one int.
        unsafe { number::set_timeout(self.0.as_raw_fd(), &raw mut value) }?;
        Ok(value.unsigned_abs())
    }

    fn timeout(&self) -> io::Result<u32> {
        let mut value = 0;
        // SAFETY: the number says that the kernel writes one int.
        unsafe { number::get_timeout(self.0.as_raw_fd(), &raw mut value) }?;
        Ok(value.unsigned_abs())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match (&self.0).write(bytes)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    /// The numbers of x86-64, arm64 and riscv, written out; elsewhere direction and size stand in other bits.
    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn numbers_are_the_kernels() {
        assert_eq!(nix::request_code_read!(b'W', 0, size_of::<Info>()), 0x8028_5700);
        assert_eq!(nix::request_code_read!(b'W', 2, size_of::<libc::c_int>()), 0x8004_5702);
        assert_eq!(nix::request_code_readwrite!(b'W', 6, size_of::<libc::c_int>()), 0xc004_5706);
        assert_eq!(nix::request_code_read!(b'W', 7, size_of::<libc::c_int>()), 0x8004_5707);
    }

    /// The parts of a number that are the same everywhere: type and number in the low sixteen bits.
    #[test]
    fn the_structure_is_the_kernels() {
        assert_eq!((size_of::<Info>(), align_of::<Info>()), (40, 4));
        assert_eq!((offset_of!(Info, firmware_version), offset_of!(Info, identity)), (4, 8));
        for (number, request) in [
            (0, nix::request_code_read!(b'W', 0, size_of::<Info>())),
            (2, nix::request_code_read!(b'W', 2, size_of::<libc::c_int>())),
            (6, nix::request_code_readwrite!(b'W', 6, size_of::<libc::c_int>())),
            (7, nix::request_code_read!(b'W', 7, size_of::<libc::c_int>())),
        ] {
            assert_eq!(request & 0xffff, 0x5700 | number);
        }
    }

    #[test]
    fn what_is_no_watchdog_answers_no_question() {
        let device = KernelDevice::open(Path::new("/dev/null")).unwrap();
        assert!(device.support().is_err() && device.timeout().is_err());
    }
}
