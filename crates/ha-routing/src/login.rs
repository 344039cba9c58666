//! The server's side of a login, watched while it passes by.
//!
//! Nothing is held back or changed: the watcher sees each byte once, keeps the few that matter, and says when the
//! session may be relayed without looking any further.

/// Longest BackendKeyData and ErrorResponse body that is kept, in bytes. A longer one is passed on unread.
const LONGEST_KEPT: usize = 8_192;
/// Longest single message that a server sends before the first ReadyForQuery; more is not PostgreSQL.
const LONGEST_MESSAGE: u32 = 1 << 20;

/// How far the login is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginStage {
    /// The server has not said yes.
    Authenticating,
    /// It has; the session is being prepared.
    Preparing,
    /// ReadyForQuery passed: relay without looking.
    Ready,
    /// The server refused with this SQLSTATE (empty if it named none that could be one).
    Refused {
        /// Five characters, such as `57P03` while PostgreSQL starts.
        sqlstate: String,
        /// Whether it had said yes before (an unknown database, a role's limit).
        authenticated: bool,
    },
    /// Not the PostgreSQL protocol, or a message longer than any of a login: relay without looking.
    Unreadable,
}

/// What a server gave for cancelling.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id of the backend.
    pub pid: u32,
    /// Its secret, 4 to 256 bytes.
    pub key: Vec<u8>,
}

// The key lets whoever knows it end statements: it does not belong into a log.
impl std::fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackendKey").field("pid", &self.pid).field("key", &"***").finish()
    }
}

/// Watches one login.
#[derive(Debug)]
pub struct LoginWatcher {
    stage: LoginStage,
    header: [u8; 5],
    header_bytes: usize,
    /// Bytes of the current body that are still to come.
    body_left: usize,
    /// Whether the current body is kept: decided once, so that never a mere end of it is taken for the whole.
    keeps_body: bool,
    /// The body so far, if it is kept.
    body: Vec<u8>,
    key: Option<BackendKey>,
}

impl Default for LoginWatcher {
    fn default() -> Self {
        Self::new()
    }
}

impl LoginWatcher {
    /// Begins with the first byte that the server sends after the startup packet. An answer to a request for
    /// encryption must not be shown to it.
    pub fn new() -> Self {
        Self {
            stage: LoginStage::Authenticating,
            header: [0; 5],
            header_bytes: 0,
            body_left: 0,
            keeps_body: false,
            body: Vec::new(),
            key: None,
        }
    }

    /// Looks at bytes from the server; says how many belong to the login (the rest comes after its end).
    pub fn watch(&mut self, bytes: &[u8]) -> usize {
        let mut seen = 0;
        while seen < bytes.len() && !self.is_done() {
            if self.header_bytes < self.header.len() {
                self.header[self.header_bytes] = bytes[seen];
                self.header_bytes += 1;
                seen += 1;
                if self.header_bytes < self.header.len() || !self.begin_body() {
                    continue;
                }
            } else {
                let taken = self.body_left.min(bytes.len() - seen);
                if self.keeps_body {
                    self.body.extend_from_slice(&bytes[seen..seen + taken]);
                }
                self.body_left -= taken;
                seen += taken;
            }
            if self.body_left == 0 {
                self.end_message();
            }
        }
        seen
    }

    /// How far it is.
    pub fn stage(&self) -> &LoginStage {
        &self.stage
    }

    /// Whether there is nothing more to watch.
    pub fn is_done(&self) -> bool {
        !matches!(self.stage, LoginStage::Authenticating | LoginStage::Preparing)
    }

    /// What the server gave for cancelling, once it did.
    pub fn key(&self) -> Option<&BackendKey> {
        self.key.as_ref()
    }

    fn begin_body(&mut self) -> bool {
        let [kind, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        if !kind.is_ascii_alphabetic() || !(4..=LONGEST_MESSAGE).contains(&length) {
            self.stage = LoginStage::Unreadable;
            self.body = Vec::new();
            return false;
        }
        self.body_left = usize::try_from(length - 4).unwrap_or(usize::MAX);
        self.keeps_body = matches!(kind, b'R' | b'K' | b'E') && self.body_left <= LONGEST_KEPT;
        self.body.clear();
        true
    }

    fn end_message(&mut self) {
        self.header_bytes = 0;
        match self.header[0] {
            b'R' if self.body.get(..4) == Some(&[0; 4]) => self.stage = LoginStage::Preparing,
            b'K' => self.key = read_key(&self.body),
            b'Z' => self.stage = LoginStage::Ready,
            b'E' => {
                let authenticated = self.stage == LoginStage::Preparing;
                self.stage = LoginStage::Refused { sqlstate: read_sqlstate(&self.body), authenticated };
            }
            _ => {}
        }
        if self.is_done() {
            self.body = Vec::new();
        }
    }
}

fn read_key(body: &[u8]) -> Option<BackendKey> {
    let (pid, key) = body.split_at_checked(4)?;
    let pid = u32::from_be_bytes(pid.try_into().ok()?);
    crate::cancel_request::KEY_LENGTHS.contains(&key.len()).then(|| BackendKey { pid, key: key.to_vec() })
}

/// Five digits and capitals, as all of PostgreSQL's are; else nothing, because it is kept and goes into the log.
fn read_sqlstate(body: &[u8]) -> String {
    let code = body.split(|&byte| byte == 0).find_map(|field| field.strip_prefix(b"C"));
    let code = code.filter(|code| {
        code.len() == 5 && code.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
    });
    code.map(|code| String::from_utf8_lossy(code).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_of_a_login_that_cannot_be_read() {
        let mut watcher = LoginWatcher::new();
        let long = [&b"R\0\0\x08\0"[..], &[1; 0x7FC], b"Z\0\0\0\x03"].concat();
        assert_eq!(watcher.watch(&long), long.len());
        assert_eq!((watcher.stage(), watcher.body.capacity()), (&LoginStage::Unreadable, 0));
    }

    #[test]
    fn the_end_of_a_body_that_is_too_long_is_not_taken_for_the_whole() {
        let key = [&b"K\0\0\x23\x28"[..], &[7; 8_996]].concat();
        let error = [&b"E\0\0\x23\x28M"[..], &[b'x'; 8_987], b"\0C57P03\0"].concat();
        for piece in [1, 100, 8_900, 9_001] {
            let mut watcher = LoginWatcher::new();
            for bytes in key.chunks(piece).chain(error.chunks(piece)) {
                watcher.watch(bytes);
            }
            assert_eq!(watcher.key(), None, "pieces of {piece}");
            let unread = LoginStage::Refused { sqlstate: String::new(), authenticated: false };
            assert_eq!(watcher.stage(), &unread, "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_sqlstate_is_not_kept_as_one() {
        for (code, kept) in
            [(&b"57P03"[..], "57P03"), (b"57p03", ""), (b"\xFF7P03", ""), (b"57P030", ""), (b"", "")]
        {
            assert_eq!(read_sqlstate(&[b"SFATAL\0C", code, b"\0\0"].concat()), kept);
        }
    }
}
