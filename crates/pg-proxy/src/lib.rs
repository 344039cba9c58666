//! Leads sessions to the right PostgreSQL.

pub mod data_path;
