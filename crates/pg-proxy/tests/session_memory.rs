//! What an idle session costs. A process of its own, because it measures the memory of the whole process.

#[allow(dead_code, reason = "shared with the other tests of the data path")]
#[path = "data_path/harness.rs"]
mod harness;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use harness::{Proxy, login_done, startup};
use nix::sys::resource::{Resource, getrlimit};
use pg_proxy::data_path::Port;

/// Enough that fixed costs do not matter.
const SESSIONS: usize = 2_000;

/// What an idle session may cost, in bytes: its cancel key included.
const LIMIT: usize = 2_048;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// A session whose two outer ends are plain descriptors, which cost this process no memory worth mentioning.
fn session(proxy: &Proxy, server: &TcpListener, pid: u32) -> io::Result<(TcpStream, TcpStream)> {
    let mut client = TcpStream::connect(proxy.address(Port::Writes))?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    client.write_all(&startup("alice"))?;
    let (mut upstream, _) = server.accept()?;
    upstream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut packet = vec![0; startup("alice").len()];
    upstream.read_exact(&mut packet)?;
    let done = login_done(pid, &[1; 4]);
    upstream.write_all(&done)?;
    let mut heard = vec![0; done.len()];
    client.read_exact(&mut heard)?;
    Ok((client, upstream))
}

/// A small question and its answer.
fn transact((client, upstream): &mut (TcpStream, TcpStream)) -> io::Result<()> {
    let mut heard = [0; 6];
    client.write_all(b"Z\0\0\0\x05I")?;
    upstream.read_exact(&mut heard)?;
    upstream.write_all(b"Z\0\0\0\x05I")?;
    client.read_exact(&mut heard)
}

#[test]
#[expect(clippy::print_stdout, reason = "the figure is what one runs this for")]
fn idle_sessions_are_cheap_before_and_after_traffic() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&[server.local_addr().unwrap()], |options| {
        options.at_start.max_connections = 10_000;
        options.at_start.upstream_connections = 10_000;
    });
    proxy.open(Port::Writes, &[0]);
    // Four descriptors per session live in this process.
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let count = SESSIONS.min(usize::try_from(files / 4).unwrap().saturating_sub(200));
    assert!(count >= 100, "too few open files allowed to measure anything: {files}");
    let mut sessions: Vec<_> = (0..50).map(|pid| session(&proxy, &server, pid).unwrap()).collect();
    sessions.reserve(count);
    sessions.iter_mut().for_each(|session| transact(session).unwrap());

    let before = resident_bytes();
    sessions.extend((1_000..).take(count).map(|pid| session(&proxy, &server, pid).unwrap()));
    let idle = resident_bytes().saturating_sub(before) / count;
    sessions.iter_mut().for_each(|session| transact(session).unwrap());
    let after = resident_bytes().saturating_sub(before) / count;
    println!("{count} sessions: {idle} bytes each after login, {after} bytes each after traffic");
    assert!(idle <= LIMIT, "an idle session costs {idle} bytes");
    assert!(after <= LIMIT, "a session that was used costs {after} bytes");
}
