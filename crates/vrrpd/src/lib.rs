//! Moves the floating address.
