//! `[routing]`: the proxies.

use std::time::Duration;

use crate::reader::Table;

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

impl Routing {
    pub(crate) fn read(table: &Table<'_>) -> Self {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let default = Self::default();
        let balance = table.read("balance", "\"least-connections\" or \"round-robin\"", |value| match value
            .as_str()?
        {
            "least-connections" => Some(Balance::LeastConnections),
            "round-robin" => Some(Balance::RoundRobin),
            _ => None,
        });
        Self {
            write_port: table.port("write_port").unwrap_or(default.write_port),
            read_port: table.port("read_port").unwrap_or(default.read_port),
            status_port: table.port("status_port").unwrap_or(default.status_port),
            grpc_port: table.port("grpc_port").unwrap_or(default.grpc_port),
            max_connections: table
                .number("max_connections", 1..=1_000_000)
                .unwrap_or(default.max_connections),
            connect_timeout: table
                .duration("connect_timeout", MS(50)..=MS(60_000))
                .unwrap_or(default.connect_timeout),
            check_interval: table
                .duration("check_interval", MS(50)..=MS(60_000))
                .unwrap_or(default.check_interval),
            balance: balance.map_or(default.balance, |at| at.value),
        }
    }

    /// The ports that a proxy listens on, with their keys.
    pub(crate) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("write_port", self.write_port),
            ("read_port", self.read_port),
            ("status_port", self.status_port),
            ("grpc_port", self.grpc_port),
        ]
    }
}
