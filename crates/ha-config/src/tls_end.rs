//! `routing.tls` and what belongs to it: who ends the TLS of clients.

use std::path::PathBuf;

use crate::reader::Table;

/// Where a client's TLS ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsEnd {
    /// At PostgreSQL: the proxy passes on what it cannot read.
    PassThrough,
    /// At the proxy, which shows this certificate; what it says to PostgreSQL is not encrypted.
    Terminate {
        /// The certificate and those between it and its authority (PEM).
        certificate: PathBuf,
        /// Its key (PEM).
        key: PathBuf,
    },
}

const FILES: [&str; 2] = ["tls_certificate", "tls_key"];

impl TlsEnd {
    /// Reads the keys of `[routing]`.
    pub(crate) fn read(table: &Table<'_>) -> Self {
        let terminate =
            table.read("tls", "\"pass-through\" or \"terminate\"", |value| match value.as_str()? {
                "pass-through" => Some(false),
                "terminate" => Some(true),
                _ => None,
            });
        let refused = table.has("tls") && terminate.is_none();
        let terminate = terminate.is_some_and(|at| at.value);
        let files = FILES.map(|name| table.path(name));
        // What a refused value should have been is not known.
        if !refused {
            for (name, other) in FILES.iter().zip([FILES[1], FILES[0]]) {
                match (terminate, table.has(name)) {
                    (true, false) => table.refuse(
                        name,
                        "nothing",
                        format!("the path of a PEM file, beside {other}: with tls = \"terminate\" the proxy shows it to clients"),
                    ),
                    (false, true) => table.refuse(
                        name,
                        "a path, but tls = \"pass-through\"",
                        "tls = \"terminate\" with it: a proxy that passes TLS through shows no certificate",
                    ),
                    _ => {}
                }
            }
        }
        match files {
            [Some(certificate), Some(key)] if terminate => Self::Terminate { certificate, key },
            _ => Self::PassThrough,
        }
    }
}
