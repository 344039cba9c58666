//! The two objects of BPF that are needed: a map of sockets, and a program that sends what comes at one socket to another.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const MAP_TYPE_SOCKHASH: u32 = 18;
const PROG_TYPE_SK_SKB: u32 = 14;
const SK_SKB_STREAM_VERDICT: u32 = 5;
const FUNC_GET_SOCKET_COOKIE: i32 = 46;
const FUNC_SK_REDIRECT_HASH: i32 = 72;

/// `union bpf_attr`, as far as it is used here.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Self {
        Self([0; 128])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn call(&self, command: libc::c_long) -> io::Result<RawFd> {
        // SAFETY: the attributes outlive the call and point at memory that does.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
    }
}

/// One instruction: opcode, destination and source register, offset, immediate value.
fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[0] = opcode;
    bytes[1] = registers;
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&immediate.to_ne_bytes());
    bytes
}

/// Sockets by the cookie of the socket whose bytes they get.
pub(crate) struct SocketMap {
    map: OwnedFd,
    _program: OwnedFd,
}

impl SocketMap {
    pub(crate) fn new() -> io::Result<Self> {
        let create = Attributes::new().u32(0, MAP_TYPE_SOCKHASH).u32(4, 8).u32(8, 4).u32(12, 65_536);
        // SAFETY: a new descriptor that nobody else owns.
        let map = unsafe { OwnedFd::from_raw_fd(create.call(MAP_CREATE)?) };
        let code = [
            // r6 = context
            instruction(0xbf, 0x16, 0, 0),
            // r0 = bpf_get_socket_cookie(context)
            instruction(0x85, 0, 0, FUNC_GET_SOCKET_COOKIE),
            // *(u64 *)(r10 - 8) = r0
            instruction(0x7b, 0x0a, -8, 0),
            // return bpf_sk_redirect_hash(context, map, r10 - 8, 0)
            instruction(0xbf, 0x61, 0, 0),
            instruction(0x18, 0x12, 0, map.as_raw_fd()),
            instruction(0, 0, 0, 0),
            instruction(0xbf, 0xa3, 0, 0),
            instruction(0x07, 0x03, 0, -8),
            instruction(0xb7, 0x04, 0, 0),
            instruction(0x85, 0, 0, FUNC_SK_REDIRECT_HASH),
            instruction(0x95, 0, 0, 0),
        ];
        let license = c"Dual MIT/GPL";
        let load = Attributes::new()
            .u32(0, PROG_TYPE_SK_SKB)
            .u32(4, code.len() as u32)
            .u64(8, code.as_ptr() as u64)
            .u64(16, license.as_ptr() as u64);
        // SAFETY: a new descriptor that nobody else owns.
        let program = unsafe { OwnedFd::from_raw_fd(load.call(PROG_LOAD)?) };
        let attach = Attributes::new()
            .u32(0, map.as_raw_fd() as u32)
            .u32(4, program.as_raw_fd() as u32)
            .u32(8, SK_SKB_STREAM_VERDICT);
        attach.call(PROG_ATTACH)?;
        Ok(Self { map, _program: program })
    }

    /// From now on what comes at the socket with this cookie goes to `to`.
    pub(crate) fn lead(&self, cookie: u64, to: RawFd) -> io::Result<()> {
        let value = to as u32;
        let update = Attributes::new()
            .u32(0, self.map.as_raw_fd() as u32)
            .u64(8, (&raw const cookie) as u64)
            .u64(16, (&raw const value) as u64);
        update.call(MAP_UPDATE_ELEM).map(drop)
    }

    pub(crate) fn forget(&self, cookie: u64) -> io::Result<()> {
        let delete = Attributes::new().u32(0, self.map.as_raw_fd() as u32).u64(8, (&raw const cookie) as u64);
        delete.call(MAP_DELETE_ELEM).map(drop)
    }
}

pub(crate) fn cookie(socket: RawFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: there is room for the cookie, and the kernel is told how much.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast(), &mut size)
    };
    crate::epoll::check(result).map(|_| cookie)
}
