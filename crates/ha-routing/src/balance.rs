//! Which of several upstreams a new session goes to.

/// How upstreams are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest sessions; of equals, one after the other.
    LeastConnections,
}

/// How busy one candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sessions that it has.
    pub sessions: u32,
    /// Largest number that it may have.
    pub limit: u32,
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This one, by its place in the list.
    Take(usize),
    /// There are candidates, and all are full.
    Full,
    /// There are none.
    Empty,
}

/// Chooses. `cursor` is a number that the caller raises by one with each session of the port.
pub fn choose(balance: Balance, cursor: u64, candidates: &[Load]) -> Choice {
    let Ok(count) = u64::try_from(candidates.len()) else { return Choice::Empty };
    if count == 0 {
        return Choice::Empty;
    }
    let first = usize::try_from(cursor % count).unwrap_or(0);
    let in_turn = (first..candidates.len()).chain(0..first);
    let free = in_turn.filter(|&place| candidates[place].sessions < candidates[place].limit);
    let mut free = free.peekable();
    let taken = match balance {
        Balance::RoundRobin => free.peek().copied(),
        // min_by_key gives the first of equals, and the first is the one whose turn it is.
        Balance::LeastConnections => free.min_by_key(|&place| candidates[place].sessions),
    };
    taken.map_or(Choice::Full, Choice::Take)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(sessions: &[u32]) -> Vec<Load> {
        sessions.iter().map(|&sessions| Load { sessions, limit: 10 }).collect()
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_the_full() {
        let taken = |loads: &[Load]| -> Vec<Choice> {
            (0..6).map(|cursor| choose(Balance::RoundRobin, cursor, loads)).collect()
        };
        let [a, b, c] = [Choice::Take(0), Choice::Take(1), Choice::Take(2)];
        assert_eq!(taken(&loads(&[3, 0, 9])), [a, b, c, a, b, c]);
        assert_eq!(taken(&loads(&[0, 10, 0])), [a, c, c, a, c, c]);
        assert_eq!(taken(&loads(&[10, 11])), [Choice::Full; 6]);
        assert_eq!(taken(&[]), [Choice::Empty; 6]);
    }

    #[test]
    fn the_least_connected_is_taken_and_equals_take_turns() {
        let taken = |cursor, sessions: &[u32]| choose(Balance::LeastConnections, cursor, &loads(sessions));
        assert_eq!(taken(0, &[3, 1, 2]), Choice::Take(1));
        assert_eq!(taken(2, &[1, 1, 1]), Choice::Take(2));
        assert_eq!(taken(u64::MAX, &[1, 5, 1]), Choice::Take(0));
        assert_eq!(taken(0, &[10, 10]), Choice::Full);
    }

    #[test]
    fn a_limit_of_nothing_takes_nothing() {
        assert_eq!(choose(Balance::RoundRobin, 0, &[Load { sessions: 0, limit: 0 }]), Choice::Full);
    }

    #[test]
    fn over_many_sessions_the_distribution_is_even() {
        let mut loads: Vec<Load> = (0..3).map(|_| Load { sessions: 0, limit: u32::MAX }).collect();
        for cursor in 0..10_000 {
            match choose(Balance::RoundRobin, cursor, &loads) {
                Choice::Take(place) => loads[place].sessions += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(loads.iter().all(|load| (3_333..=3_334).contains(&load.sessions)), "{loads:?}");
    }
}
