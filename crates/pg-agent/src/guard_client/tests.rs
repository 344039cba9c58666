use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream as StdStream};

use ha_core::guard_link::{Degraded, ExitOutcome, Layers};
use ha_core::{Epoch, MonoTime};
use nix::sys::socket::{Backlog, bind, listen};

use super::*;

/// A listening guard. A listener of the standard library accepts, reads and writes whole messages on such a socket, too.
fn guard(path: &Path) -> UnixListener {
    let fd = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&fd, Backlog::new(4).unwrap()).unwrap();
    fd.into()
}

fn next(stream: &mut StdStream) -> Request {
    let mut buffer = [0; MESSAGE_MAX];
    let length = stream.read(&mut buffer).unwrap();
    Request::decode(&buffer[..length]).unwrap()
}

fn say(stream: &mut StdStream, reply: &Reply) {
    let bytes = reply.encode();
    assert_eq!(stream.write(&bytes).unwrap(), bytes.len());
}

fn status(seq: u64, populated: bool) -> Reply {
    let status = GuardStatus {
        boot_id: BootId("boot".into()),
        now: MonoTime(5),
        armed: None,
        hold_until: None,
        fenced_through: Epoch(0),
        fence: None,
        postmaster: None,
        start: 0,
        populated,
        layers: Layers::PROCESS,
        degraded: Degraded::default(),
        watchdog: Default::default(),
        kill_lead: Duration::from_secs(1),
        resident_bytes: 1,
        rejected_messages: 0,
    };
    Reply::Status { seq, status }
}

#[tokio::test]
async fn answers_find_their_request_and_no_notice_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guard.sock");
    let listener = guard(&path);
    let guard = std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        let Request::Hello { seq, boot_id } = next(&mut first) else { panic!("no greeting") };
        assert_eq!(boot_id.0, "boot");
        say(&mut first, &status(seq, false));
        let asked = next(&mut first);
        // Three messages at once: the client must take all of them from one wake-up.
        say(&mut first, &Reply::Emptied { start: 7 });
        say(&mut first, &status(asked.seq(), true));
        say(&mut first, &Reply::Exited { pid: 3, start: 7, outcome: ExitOutcome::Code(1) });
        let Request::Start { seq, .. } = next(&mut first) else { panic!("no start") };
        say(&mut first, &Reply::StartFailed { seq, text: "no such file".into() });
        drop(first);
        let (mut second, _) = listener.accept().unwrap();
        let seq = next(&mut second).seq();
        say(&mut second, &status(seq, true));
        // Open until the client has ended.
        assert_eq!(second.read(&mut [0; 8]).unwrap(), 0);
    });

    let (client, mut notices) = GuardClient::start(path, BootId("boot".into()));
    assert!(matches!(notices.recv().await, Some(Notice::Connected(_))));
    assert_eq!(client.is_populated().await, Ok(true));
    let mut said = async || match notices.recv().await {
        Some(Notice::Said(reply)) => *reply,
        other => panic!("no notice: {other:?}"),
    };
    assert!(matches!(said().await, Reply::Emptied { start: 7 }));
    assert!(matches!(said().await, Reply::Exited { pid: 3, .. }));
    let refused = Starter::start(&client, vec![]).await.unwrap_err();
    assert!(refused.contains("no such file"), "{refused}");
    assert!(matches!(notices.recv().await, Some(Notice::Lost)));
    let Some(Notice::Connected(status)) = notices.recv().await else { panic!("did not come back") };
    assert!(status.populated);
    drop(client);
    tokio::task::spawn_blocking(move || guard.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_missing_guard_is_told_and_asked_in_vain() {
    let dir = tempfile::tempdir().unwrap();
    let (client, mut notices) = GuardClient::start(dir.path().join("none"), BootId("boot".into()));
    assert!(matches!(notices.recv().await, Some(Notice::Lost)));
    assert!(matches!(client.status().await, Err(GuardError::Unreachable { .. } | GuardError::Silent { .. })));
}
