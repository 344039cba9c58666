//! When something is due, and how long the protocol's intervals are.
