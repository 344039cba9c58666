//! This member's PostgreSQL: observing it, and everything that is done to it.
//!
//! ```text
//!   observe()                one view: control data, processes, one statement       observe, query, control_data
//!   start / stop             through the starter (guard); signals through a pidfd   start, stop, process
//!   configure                agent-owned files, reload                              config_file, access_file, pass_file
//!   initialize clone rewind  a new life of the directory                            initdb, base_backup, rewind
//!   revoke promote           the two halves of a takeover                           revoke, promote
//!   prove_blocked mark_*     small records in the log                               barrier
//!   keep_slots               slots for the other members                            slot
//! ```

mod access_file;
mod barrier;
mod base_backup;
mod config_file;
mod configure;
mod control_data;
mod database_facts;
mod direct_start;
mod durable_file;
mod error;
mod final_position;
mod initdb;
mod observe;
mod pass_file;
mod place;
mod process;
mod program;
mod promote;
mod query;
mod revoke;
mod rewind;
mod session;
mod shut_out;
mod slot;
mod start;
mod starter;
mod stop;
mod timeline_history;

pub use config_file::UserSettings;
pub use database_facts::{ChangedCollation, DatabaseFacts, EndangeredSlot};
pub use direct_start::DirectStarter;
pub use error::Error;
pub use observe::{SenderDetails, ServerDetails};
pub use place::Place;
pub use starter::Starter;

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ha_decision::ServerSettings;

use control_data::ControlDataReader;
use observe::Reserved;
use process::{EndWatch, Postmaster};

/// Reading a small file and `/proc`.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// One short statement on the reserved connection.
const RESERVED_LIMIT: Duration = Duration::from_secs(2);

/// This member's PostgreSQL. Clones share everything.
#[derive(Debug, Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

/// What the clones share.
#[derive(Debug)]
pub struct Shared {
    place: Place,
    starter: Arc<dyn Starter>,
    control: ControlDataReader,
    user: Mutex<UserSettings>,
    applied: Mutex<Option<Applied>>,
    writes: configure::Writes,
    details: Mutex<ServerDetails>,
    reserved: tokio::sync::Mutex<Option<Reserved>>,
    end_watch: EndWatch,
    /// Where the server's log ended when the server was last seen running, or when the agent started.
    log_seen: Mutex<u64>,
}

/// The settings that were written last.
#[derive(Debug, Clone)]
struct Applied {
    settings: ServerSettings,
}

impl Deref for Postgres {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Postgres {
    /// The server at `place`. Touches nothing.
    pub fn new(place: Place, user: UserSettings, starter: Arc<dyn Starter>) -> Self {
        let shared = Shared {
            place,
            starter,
            control: ControlDataReader::default(),
            user: Mutex::new(user),
            applied: Mutex::new(None),
            writes: configure::Writes::default(),
            details: Mutex::new(ServerDetails::default()),
            reserved: tokio::sync::Mutex::new(None),
            end_watch: EndWatch::default(),
            log_seen: Mutex::new(0),
        };
        let this = Self { shared: Arc::new(shared) };
        *locked(&this.log_seen) = this.log_position();
        this
    }

    /// Where it lives.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Takes over new parameters and access lines of the cluster's users. They are written with the next settings; until
    /// then they show as drifted.
    pub fn set_user_settings(&self, user: UserSettings) {
        *locked(&self.user) = user;
    }

    /// Asks on the reserved connection; connects when there is none.
    async fn reserved_value(&self, operation: &'static str, sql: &str) -> Result<Option<String>, Error> {
        let mut guard = self.reserved.lock().await;
        let reserved = match guard.take().filter(|reserved| !reserved.is_closed()) {
            Some(reserved) => guard.insert(reserved),
            None => guard.insert(Reserved::connect(&self.place).await.map_err(|e| e.into_error())?),
        };
        reserved.session().value(operation, sql, RESERVED_LIMIT).await
    }

    /// The postmaster, when one runs.
    async fn postmaster(&self) -> Result<Option<Postmaster>, Error> {
        let find = |postgres: &Self| Postmaster::find(&postgres.place.paths.data_dir);
        self.blocking("looking for the postmaster", LOOK_LIMIT, find).await
    }

    /// Whether any process of PostgreSQL works in the directory.
    async fn any_alive(&self) -> Result<bool, Error> {
        let look = |postgres: &Self| process::any_alive(&postgres.place.paths.data_dir);
        self.blocking("looking for processes", LOOK_LIMIT, look).await
    }

    /// Where the server's log ends now; for [`Self::log_speaks_of_storage`].
    pub fn log_position(&self) -> u64 {
        self.log_length()
    }

    /// Whether the server has logged since then that its storage failed or is full.
    pub fn log_speaks_of_storage(&self, since: u64) -> bool {
        let text = self.log_since(since);
        (text.contains("PANIC:") || text.contains("FATAL:")) && error::says_storage(&text)
    }

    /// Runs file work off the runtime's threads and bounds how long is waited for it: a hung disk must not stop the
    /// agent. The work itself cannot be cancelled.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        limit: Duration,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        match tokio::time::timeout(limit, tokio::task::spawn_blocking(move || work(&this))).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panicked)) => Err(Error::State(format!("{operation}: {panicked}"))),
            Err(_) => Err(Error::Timeout { operation, limit }),
        }
    }
}

/// Locks what is held only for moments; a panic while it was held leaves whole values behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
