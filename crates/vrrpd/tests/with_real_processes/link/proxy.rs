//! What vrrpd sees of a pg-proxy: a unix socket and lines of JSON.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use super::ms;

const SERVING: u8 = 0;
const DRAINING: u8 = 1;
const SILENT: u8 = 2;
const DEAD: u8 = 3;

/// Can serve, drain, hang and die.
pub(crate) struct PretendedProxy {
    path: PathBuf,
    mood: Arc<AtomicU8>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PretendedProxy {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, mood: Arc::new(AtomicU8::new(DEAD)), thread: Mutex::new(None) }
    }

    /// Serves, also after it has died.
    pub(crate) fn serve(&self) {
        self.set(SERVING);
        let mut thread = self.thread.lock().expect("the thread");
        if thread.is_none() {
            let listener = UnixListener::bind(&self.path).expect("listen");
            let mood = Arc::clone(&self.mood);
            *thread = Some(std::thread::spawn(move || talk(&listener, &mood)));
        }
    }

    /// Takes no new sessions.
    pub(crate) fn drain(&self) {
        self.set(DRAINING);
    }

    /// Says nothing more, but keeps its connections.
    pub(crate) fn hang(&self) {
        self.set(SILENT);
    }

    /// Is killed: every connection ends.
    pub(crate) fn die(&self) {
        self.set(DEAD);
        let thread = self.thread.lock().expect("the thread").take();
        if let Some(thread) = thread {
            thread.join().expect("the pretended proxy");
            std::fs::remove_file(&self.path).expect("remove the socket");
        }
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }
}

impl Drop for PretendedProxy {
    fn drop(&mut self) {
        self.set(DEAD);
    }
}

fn talk(listener: &UnixListener, mood: &AtomicU8) {
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let mut connections = Vec::new();
    let (mut sequence, mut told) = (0, DEAD);
    loop {
        let now = mood.load(Ordering::SeqCst);
        if now == DEAD {
            return;
        }
        let mut new = false;
        while let Ok((connection, _)) = listener.accept() {
            connections.push(connection);
            new = true;
        }
        // As the real one: at once when something changes, and every 200 ms.
        if now != SILENT && (new || now != told || sequence % 20 == 0) {
            let line = format!(
                "{{\"seq\":{sequence},\"serving\":{},\"draining\":{},\"primary\":false}}\n",
                now == SERVING,
                now == DRAINING
            );
            connections.retain_mut(|connection| connection.write_all(line.as_bytes()).is_ok());
            told = now;
        }
        sequence += 1;
        std::thread::sleep(ms(10)); // the pace of the pretended proxy
    }
}
