//! Faults at random, as a pure function of a seed: the same seed is the same schedule, on every machine, for ever.
//!
//! A schedule is a list of *episodes*. In each a few faults overlap; then all of them end, and the cluster must come back
//! before the next begins: without that, a run would soon test nothing but a cluster that cannot do anything.

mod dice;
mod fault;
mod runner;
mod schedule;

pub(crate) use dice::Dice;
pub use fault::{Fault, Place};
pub(crate) use runner::Nemesis;
pub use schedule::{Episode, Schedule, TimedFault};
