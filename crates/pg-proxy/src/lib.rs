//! Leads sessions to the right PostgreSQL.
