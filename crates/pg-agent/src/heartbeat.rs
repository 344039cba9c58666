//! Heartbeats to and from the other agents, on a thread of their own: it neither waits for the runtime nor for any disk,
//! so that a busy agent is not taken for a dead one, and a late look not for silence.
//!
//! The thread says what [`HeartbeatLink::say`] was told last, and notes when it heard whom. What that means is for the
//! decider to say.

mod table;
mod thread;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ha_config::{Cluster, DatabaseHost, HEARTBEAT_PORT, Secret};
use ha_core::heartbeat::Heartbeats;
use ha_core::{Epoch, MemberName};
use ring::hmac;

pub use table::HeartbeatFigures;
use table::Table;

/// Whom to send heartbeats to, and how they are authenticated.
#[derive(Debug)]
pub struct HeartbeatOptions {
    /// This member.
    pub me: MemberName,
    /// Where it sends from and listens.
    pub address: SocketAddr,
    /// The other members and where they listen.
    pub others: Vec<(MemberName, SocketAddr)>,
    /// The cluster's key.
    pub key: Secret,
}

impl HeartbeatOptions {
    /// For all other members of the file; none when there is no key.
    pub fn new(cluster: &Cluster, host: &DatabaseHost, key: Option<&Secret>) -> Option<Self> {
        let at = |host: &DatabaseHost| SocketAddr::new(host.address, HEARTBEAT_PORT);
        let others = cluster.databases.iter().filter(|other| other.name != host.name);
        Some(Self {
            me: host.name.clone(),
            address: at(host),
            others: others.map(|other| (other.name.clone(), at(other))).collect(),
            key: key?.clone(),
        })
    }
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct HeartbeatLink {
    table: Arc<Table>,
    thread: Option<JoinHandle<()>>,
}

impl HeartbeatLink {
    /// Begins to send and to listen.
    ///
    /// # Errors
    /// The address cannot be bound, or no thread can be started.
    pub fn start(options: HeartbeatOptions) -> io::Result<Self> {
        let socket = UdpSocket::bind(options.address)?;
        socket.set_nonblocking(true)?;
        let table = Arc::new(Table::new(options.others.iter().map(|(name, _)| name.clone())));
        // A later life of an agent counts for more than an earlier one, whose datagrams may still be on their way.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let session = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let key = hmac::Key::new(hmac::HMAC_SHA256, options.key.expose().as_bytes());
        let beating = thread::Beating::new(socket, &options, session, key, Arc::clone(&table));
        let thread =
            std::thread::Builder::new().name("heartbeats".to_owned()).spawn(move || beating.run())?;
        Ok(Self { table, thread: Some(thread) })
    }

    /// Without heartbeats: nothing is said and nothing heard.
    pub fn off() -> Self {
        Self { table: Arc::new(Table::new(std::iter::empty())), thread: None }
    }

    /// What is to be said from now on.
    pub fn say(&self, leads: Option<Epoch>, detection: Duration) {
        self.table.say(leads, detection);
    }

    /// What is heard.
    pub fn heard(&self) -> Heartbeats {
        self.table.heard()
    }

    /// Numbers for metrics, by member.
    pub fn figures(&self) -> Vec<HeartbeatFigures> {
        self.table.figures()
    }
}

impl Drop for HeartbeatLink {
    fn drop(&mut self) {
        self.table.end();
        if let Some(thread) = self.thread.take() {
            // It wakes up within one interval. A panic of it has been told already.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests;
