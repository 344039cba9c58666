//! One run, in numbers and words.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::action::Action;
use crate::model::Failover;
use crate::scope::Scope;

/// What one exploration found.
#[derive(Debug)]
pub struct Report {
    /// What was explored.
    pub scope: Scope,
    /// Different states.
    pub states: usize,
    /// Steps taken, those into known states among them.
    pub steps: usize,
    /// Length of the longest shortest path.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether everything within the bounds was explored: nothing was broken and no limit cut the run short.
    pub complete: bool,
    /// What is broken, with the steps that lead there.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// What had to be reached and was not.
    pub missed: Vec<&'static str>,
    /// What had to be reached, and in how many steps it is.
    pub reached: Vec<(&'static str, usize)>,
}

impl Report {
    /// Explores the scope breadth first, until something is broken, everything is seen or the time is over. One thread
    /// finds shortest examples; a time limit needs two, because `stateright` looks at the clock only when it shares work.
    pub fn of(scope: Scope, threads: NonZeroUsize, limit: Option<Duration>) -> Self {
        let began = Instant::now();
        let threads = if limit.is_some() { threads.get().max(2) } else { threads.get() };
        let mut builder =
            Failover::new(scope).checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
        if let Some(limit) = limit {
            builder = builder.timeout(limit);
        }
        let checker = builder.spawn_bfs().join();
        let took = began.elapsed();
        let found = checker.discoveries();
        let mut report = Self {
            scope,
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            took,
            complete: limit.is_none_or(|limit| took < limit),
            broken: Vec::new(),
            missed: Vec::new(),
            reached: Vec::new(),
        };
        for property in checker.model().properties() {
            let path = found.get(property.name).map(|path| path.clone().into_actions());
            match (property.expectation, path) {
                (Expectation::Always | Expectation::Eventually, Some(path)) => {
                    report.broken.push((property.name, path));
                }
                (Expectation::Always | Expectation::Eventually, None) => {}
                (Expectation::Sometimes, Some(path)) => report.reached.push((property.name, path.len())),
                (Expectation::Sometimes, None) => report.missed.push(property.name),
            }
        }
        report.complete &= report.broken.is_empty();
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} states, {} steps, depth {}, {:.1} s{}",
            self.scope.name,
            self.states,
            self.steps,
            self.depth,
            self.took.as_secs_f64(),
            if self.complete { ", complete" } else { "" }
        )?;
        for (name, steps) in &self.reached {
            writeln!(f, "  reached in {steps:2} steps: {name}")?;
        }
        for name in &self.missed {
            writeln!(f, "  NOT reached: {name}")?;
        }
        for (name, path) in &self.broken {
            writeln!(f, "  BROKEN after {} steps: {name}", path.len())?;
            for (at, action) in path.iter().enumerate() {
                writeln!(f, "    {:2} {action:?}", at + 1)?;
            }
        }
        Ok(())
    }
}
