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
