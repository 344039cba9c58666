use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::World;

/// A watching hactl; ended when the test ends.
struct Watching(Child);

impl Watching {
    fn start(world: &World, arguments: &[&str]) -> Self {
        Self(world.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_watch_repeats_itself_and_ends_well_by_ctrl_c() {
    let world = World::new(25).serve(&["pg1", "pg2"]);
    let mut watching = Watching::start(&world, &["list", "--watch", "0.1", "--format", "yaml"]);
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let separator = |line: &String| line == "---";
    let second = lines.by_ref().map(Result::unwrap).find(separator);
    assert!(second.is_some(), "no second document");
    *world.play.leader.lock().unwrap() = (4, "pg2".to_owned());
    // Each document names pg1 first: now as what it became.
    let changed = lines.by_ref().map(Result::unwrap).find(|line| line.contains("Sync Standby"));
    assert!(changed.is_some());
    kill(Pid::from_raw(watching.0.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(watching.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_watch_goes_on_while_nobody_answers_and_ends_when_nobody_reads() {
    let world = World::new(26);
    let mut watching = Watching::start(&world, &["history", "-w", "0.1"]);
    let mut out = BufReader::new(watching.0.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        while line.trim() != "No leadership yet" {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended");
        }
    }
    drop(out);
    assert_eq!(watching.0.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    watching.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("hactl: no agent tells the history"), "{said}");
}
