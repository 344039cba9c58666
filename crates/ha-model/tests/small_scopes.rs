//! The small scopes, each to its end: nothing is broken, and what must be reached is reached.

#![allow(clippy::print_stdout)]

use std::num::NonZeroUsize;

use ha_model::{Report, Scope};

fn explore(scopes: &[Scope]) {
    for scope in scopes {
        let report = Report::of(*scope, NonZeroUsize::MIN, None);
        println!("{report}");
        assert!(report.broken.is_empty(), "{report}");
        assert!(report.missed.is_empty(), "{report}");
        assert!(report.complete, "{report}");
    }
}

#[test]
fn takeovers() {
    explore(Scope::SMALL_TAKEOVERS);
}

#[test]
fn crashes() {
    explore(Scope::SMALL_CRASHES);
}

#[test]
fn changes_of_the_list() {
    explore(Scope::SMALL_LISTS);
}
