//! The agent's work on PostgreSQL, with real servers.

// `cfg(test)` tells the lints that everything here is a test.
#[cfg(test)]
mod crashing;
#[cfg(test)]
mod database_facts;
#[cfg(test)]
mod rejoin;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod takeover;
