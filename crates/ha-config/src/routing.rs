//! `[routing]`: the proxies.

use std::time::Duration;

/// Settings of pg-proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// Port that leads to the primary.
    pub write_port: u16,
    /// Port that leads to the standbys.
    pub read_port: u16,
    /// Port of the status page, metrics and health.
    pub status_port: u16,
    /// Port of the gRPC interface.
    pub grpc_port: u16,
    /// Largest number of client sessions of one proxy.
    pub max_connections: u32,
    /// How long a connection to PostgreSQL may take.
    pub connect_timeout: Duration,
    /// How often a PostgreSQL is probed.
    pub check_interval: Duration,
    /// How reads are spread.
    pub balance: Balance,
}

/// How reads are spread over the standbys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// To the standby with the fewest sessions.
    LeastConnections,
    /// To each in turn.
    RoundRobin,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            write_port: 5000,
            read_port: 5001,
            status_port: 7000,
            grpc_port: 7001,
            max_connections: 10_000,
            connect_timeout: Duration::from_secs(1),
            check_interval: Duration::from_secs(1),
            balance: Balance::LeastConnections,
        }
    }
}
