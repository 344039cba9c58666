//! Which of several upstreams a new session goes to.

/// How upstreams are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// One after the other, each as often as its weight says, evenly mixed.
    RoundRobin,
    /// The one with the fewest sessions for its weight; of equals, the one that was taken longest ago.
    LeastConnections,
    /// Of two that are drawn by their weights, the one with fewer sessions for its weight.
    Random,
}

/// What an upstream is to this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How much it takes compared with others, 1 to 256.
    pub weight: u32,
    /// Whether it is in the same zone. Others get sessions only when all that are near are full to [`CROWDED_PERCENT`].
    pub near: bool,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, near: true }
    }
}

/// From this part of their limits on, upstreams that are near share with those that are not.
pub const CROWDED_PERCENT: u32 = 80;

/// How busy one candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which upstream.
    pub upstream: usize,
    /// Sessions that it has.
    pub sessions: u32,
    /// Largest number that it may have.
    pub limit: u32,
    /// What it is to this proxy.
    pub share: Share,
}

impl Candidate {
    fn is_free(&self) -> bool {
        self.sessions < self.limit
    }

    fn is_crowded(&self) -> bool {
        u64::from(self.sessions) * 100 >= u64::from(self.limit) * u64::from(CROWDED_PERCENT)
    }

    fn weight(&self) -> u64 {
        u64::from(self.share.weight.max(1))
    }

    /// Whether it would have more sessions for its weight than another one if it took this one too.
    fn would_have(&self, other: &Self) -> std::cmp::Ordering {
        let scaled = |one: &Self, by: &Self| (u64::from(one.sessions) + 1) * by.weight();
        scaled(self, other).cmp(&scaled(other, self))
    }
}

/// What came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This upstream.
    Take(usize),
    /// There are candidates, and all are full.
    Full,
    /// There are none.
    Empty,
}

/// Whose turn it is at one port.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    upstreams: Vec<Turn>,
    /// Sessions that were led somewhere.
    taken: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// Round robin: grows by the weight with each session, and pays for all when it is taken.
    credit: i64,
    /// Which session it took last.
    last: u64,
}

impl Turns {
    /// Nobody was taken yet.
    pub fn new(upstreams: usize) -> Self {
        Self { upstreams: vec![Turn::default(); upstreams], taken: 0 }
    }

    /// Chooses, and counts the one taken. `dice` is any number, a new one each time. Candidates are upstreams that
    /// [`Self::new`] was told of; others are passed over.
    pub fn choose(&mut self, balance: Balance, dice: u64, candidates: &[Candidate]) -> Choice {
        let known = |candidate: &&Candidate| candidate.upstream < self.upstreams.len();
        let free: Vec<Candidate> = candidates.iter().filter(known).filter(|c| c.is_free()).copied().collect();
        let near: Vec<Candidate> = free.iter().filter(|c| c.share.near).copied().collect();
        let eligible = if near.iter().all(Candidate::is_crowded) { free } else { near };
        let taken = match balance {
            Balance::RoundRobin => self.in_turn(&eligible),
            Balance::LeastConnections => self.least(&eligible),
            Balance::Random => self.less_of_two(dice, &eligible),
        };
        match taken {
            Some(upstream) => {
                self.taken += 1;
                self.upstreams[upstream].last = self.taken;
                Choice::Take(upstream)
            }
            None if candidates.is_empty() => Choice::Empty,
            None => Choice::Full,
        }
    }

    /// Smooth weighted round robin: weights 5, 1, 1 give a a b a c a a, not five times a.
    fn in_turn(&mut self, eligible: &[Candidate]) -> Option<usize> {
        let mut all = 0;
        for candidate in eligible {
            let weight = candidate.weight().cast_signed();
            self.upstreams[candidate.upstream].credit += weight;
            all += weight;
        }
        let credit = |c: &&Candidate| (self.upstreams[c.upstream].credit, std::cmp::Reverse(c.upstream));
        let upstream = eligible.iter().max_by_key(credit)?.upstream;
        self.upstreams[upstream].credit -= all;
        // Whoever was away comes back with what it had, and must not make up for more than one round.
        for candidate in eligible {
            let credit = &mut self.upstreams[candidate.upstream].credit;
            *credit = (*credit).clamp(-all, all);
        }
        Some(upstream)
    }

    fn least(&self, eligible: &[Candidate]) -> Option<usize> {
        let last = |c: &Candidate| self.upstreams[c.upstream].last;
        let least = eligible.iter().min_by(|a, b| a.would_have(b).then(last(a).cmp(&last(b))));
        least.map(|c| c.upstream)
    }

    fn less_of_two(&self, dice: u64, eligible: &[Candidate]) -> Option<usize> {
        let first = drawn(dice & 0xffff_ffff, eligible)?;
        let second = drawn(dice >> 32, eligible)?;
        self.least(&[first, second])
    }
}

/// One of them, by weight; `dice` below 2^32.
fn drawn(dice: u64, eligible: &[Candidate]) -> Option<Candidate> {
    let all: u64 = eligible.iter().map(Candidate::weight).sum();
    let mut place = (dice * all) >> 32;
    eligible.iter().copied().find(|candidate| {
        let here = place < candidate.weight();
        place = place.saturating_sub(candidate.weight());
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(sessions: &[u32]) -> Vec<Candidate> {
        let candidate =
            |(upstream, &sessions)| Candidate { upstream, sessions, limit: 10, share: Share::default() };
        sessions.iter().enumerate().map(candidate).collect()
    }

    fn weighted(weights: &[u32]) -> Vec<Candidate> {
        let candidate = |(upstream, &weight)| {
            let share = Share { weight, near: true };
            Candidate { upstream, sessions: 0, limit: u32::MAX, share }
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    /// Leads so many sessions and lets them stay; returns how many each has.
    fn spread(balance: Balance, mut candidates: Vec<Candidate>, count: u64) -> Vec<u32> {
        let mut turns = Turns::new(candidates.len());
        for session in 0..count {
            // Any sequence that covers the range evenly will do.
            let dice = session.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match turns.choose(balance, dice, &candidates) {
                Choice::Take(upstream) => candidates[upstream].sessions += 1,
                other => panic!("{other:?}"),
            }
        }
        candidates.iter().map(|candidate| candidate.sessions).collect()
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_the_full() {
        let taken = |sessions: &[u32]| -> Vec<Choice> {
            let mut turns = Turns::new(3);
            (0..6).map(|dice| turns.choose(Balance::RoundRobin, dice, &candidates(sessions))).collect()
        };
        let [a, b, c] = [Choice::Take(0), Choice::Take(1), Choice::Take(2)];
        assert_eq!(taken(&[3, 0, 9]), [a, b, c, a, b, c]);
        assert_eq!(taken(&[0, 10, 0]), [a, c, a, c, a, c]);
        assert_eq!(taken(&[10, 11]), [Choice::Full; 6]);
        assert_eq!(taken(&[]), [Choice::Empty; 6]);
    }

    #[test]
    fn weights_are_kept_and_mixed_evenly() {
        let mut turns = Turns::new(3);
        let taken: Vec<usize> = (0..7)
            .map(|dice| match turns.choose(Balance::RoundRobin, dice, &weighted(&[5, 1, 1])) {
                Choice::Take(upstream) => upstream,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(taken, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(spread(Balance::RoundRobin, weighted(&[3, 1, 0]), 500), [300, 100, 100]);
        assert_eq!(spread(Balance::LeastConnections, weighted(&[3, 1, 1]), 500), [300, 100, 100]);
    }

    #[test]
    fn who_comes_back_gets_no_more_than_its_share() {
        let mut turns = Turns::new(2);
        let all = weighted(&[1, 1]);
        for dice in 0..1000 {
            turns.choose(Balance::RoundRobin, dice, &all[..1]);
        }
        let back = (0..10).filter(|&dice| turns.choose(Balance::RoundRobin, dice, &all) == Choice::Take(1));
        assert!((4..=6).contains(&back.count()));
    }

    #[test]
    fn the_least_connected_is_taken_and_equals_take_turns() {
        let mut turns = Turns::new(3);
        let mut taken = |sessions: &[u32]| turns.choose(Balance::LeastConnections, 0, &candidates(sessions));
        assert_eq!(taken(&[3, 1, 2]), Choice::Take(1));
        assert_eq!(taken(&[1, 1, 1]), Choice::Take(0));
        assert_eq!(taken(&[1, 1, 1]), Choice::Take(2));
        assert_eq!(taken(&[1, 1, 1]), Choice::Take(1));
        assert_eq!(taken(&[10, 10]), Choice::Full);
    }

    #[test]
    fn random_draws_by_weight_and_prefers_the_less_busy() {
        let even = spread(Balance::Random, weighted(&[1, 1, 1]), 3000);
        assert!(even.iter().all(|count| (980..=1020).contains(count)), "{even:?}");
        let uneven = spread(Balance::Random, weighted(&[2, 1, 1]), 4000);
        assert!((1900..=2100).contains(&uneven[0]), "{uneven:?}");
        let mut busy = candidates(&[9, 0]);
        busy[0].limit = 100;
        let mut turns = Turns::new(2);
        // One is drawn twice in a quarter of all cases; only then may the busy one be taken.
        let dices = (0..400_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let taken = dices.filter(|&dice| turns.choose(Balance::Random, dice, &busy) == Choice::Take(0));
        assert!((70..=130).contains(&taken.count()));
    }

    #[test]
    fn a_limit_of_nothing_takes_nothing() {
        let none = [Candidate { upstream: 0, sessions: 0, limit: 0, share: Share::default() }];
        assert_eq!(Turns::new(1).choose(Balance::RoundRobin, 0, &none), Choice::Full);
    }

    #[test]
    fn those_near_come_first_until_they_are_crowded() {
        for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::Random] {
            let mut both = candidates(&[0, 0]);
            both[0].share.near = false;
            let mut turns = Turns::new(2);
            for dice in 0..8 {
                assert_eq!(turns.choose(balance, dice, &both), Choice::Take(1), "{balance:?}");
                both[1].sessions += 1;
            }
            // At eight of ten it is crowded: from here on both get sessions.
            let far = (0..10_u64).any(|n| {
                turns.choose(balance, n.wrapping_mul(0x9e37_79b9_7f4a_7c15), &both) == Choice::Take(0)
            });
            assert!(far, "{balance:?}");
            both[1].sessions = 10;
            assert_eq!(turns.choose(balance, 0, &both), Choice::Take(0), "{balance:?}");
        }
    }

    #[test]
    fn over_many_sessions_the_distribution_is_even() {
        let spread = spread(Balance::RoundRobin, weighted(&[1, 1, 1]), 10_000);
        assert!(spread.iter().all(|count| (3_333..=3_334).contains(count)), "{spread:?}");
    }
}
