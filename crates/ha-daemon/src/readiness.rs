//! Tells the service manager that the daemon is ready, when it asks for that (`Type=notify`,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says "ready" to the socket that `NOTIFY_SOCKET` names. Without the variable, or when nobody listens, nothing happens:
/// readiness is a courtesy to the supervisor, no reason to stop.
pub fn notify_ready() {
    let Ok(name) = std::env::var("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&name, b"READY=1") {
        tracing::warn!(socket = %name, %error, "the service manager was not told that the daemon is ready");
    }
}

fn send(name: &str, message: &[u8]) -> std::io::Result<()> {
    let address = match name.strip_prefix('@') {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_reaches_a_socket_by_path() {
        let dir = std::env::temp_dir().join(format!("ha-daemon-ready-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), b"READY=1").unwrap();
        let mut buffer = [0; 32];
        let length = socket.recv(&mut buffer).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }
}
