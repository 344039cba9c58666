//! What vrrpd sees of a pg-proxy: a unix socket and lines of JSON.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
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
    primary: Arc<AtomicBool>,
    maintenance: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PretendedProxy {
    pub(crate) fn new(path: PathBuf) -> Self {
        let (mood, primary) = (Arc::new(AtomicU8::new(DEAD)), Arc::new(AtomicBool::new(true)));
        Self { path, mood, primary, maintenance: Arc::default(), thread: Mutex::new(None) }
    }

    /// Serves, also after it has died.
    pub(crate) fn serve(&self) {
        self.set(SERVING);
        let mut thread = self.thread.lock().expect("the thread");
        if thread.is_none() {
            let listener = UnixListener::bind(&self.path).expect("listen");
            let (mood, primary) = (Arc::clone(&self.mood), Arc::clone(&self.primary));
            let maintenance = Arc::clone(&self.maintenance);
            *thread = Some(std::thread::spawn(move || talk(&listener, &mood, &primary, &maintenance)));
        }
    }

    /// Has a primary, or none.
    pub(crate) fn has_primary(&self, has: bool) {
        self.primary.store(has, Ordering::SeqCst);
    }

    /// Knows that the cluster is in maintenance mode, or is not.
    pub(crate) fn in_maintenance(&self, on: bool) {
        self.maintenance.store(on, Ordering::SeqCst);
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

fn talk(listener: &UnixListener, mood: &AtomicU8, primary: &AtomicBool, maintenance: &AtomicBool) {
    listener.set_nonblocking(true).expect("a listener that does not wait");
    let mut connections = Vec::new();
    let (mut sequence, mut told) = (0, (DEAD, true, false));
    loop {
        let now = mood.load(Ordering::SeqCst);
        let (primary, maintenance) = (primary.load(Ordering::SeqCst), maintenance.load(Ordering::SeqCst));
        if now == DEAD {
            return;
        }
        let mut new = false;
        while let Ok((connection, _)) = listener.accept() {
            connections.push(connection);
            new = true;
        }
        // As the real one: at once when something changes, and every 200 ms.
        if now != SILENT && (new || (now, primary, maintenance) != told || sequence % 20 == 0) {
            let line = format!(
                "{{\"seq\":{sequence},\"serving\":{},\"draining\":{},\"primary\":{primary},\"epoch\":3,\"maintenance\":{maintenance}}}\n",
                now == SERVING,
                now == DRAINING
            );
            connections.retain_mut(|connection| connection.write_all(line.as_bytes()).is_ok());
            told = (now, primary, maintenance);
        }
        sequence += 1;
        std::thread::sleep(ms(10)); // the pace of the pretended proxy
    }
}
