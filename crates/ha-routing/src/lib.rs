//! Where a new session goes, decided without a clock, a socket or a file.
#![forbid(unsafe_code)]
