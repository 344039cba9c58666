//! Health checks of one member, counted: so many answers in a row to be used, so many missing to be dropped.

use ha_core::MonoTime;

use crate::event::Check;

/// What checks have established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing: not enough answers yet, or too many missing.
    Unknown,
    /// It answers as primary.
    Primary,
    /// It answers as a standby that takes reads.
    Standby,
    /// It answers that it is neither.
    Neither,
}

/// The counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    standing: Standing,
    /// Equal positive answers in a row.
    streak: Option<(Standing, u32)>,
    /// Missing answers in a row.
    missed: u32,
    denies_lead: bool,
    answered_at: Option<MonoTime>,
    why: String,
}

impl Health {
    /// Knows nothing.
    pub(crate) fn unknown() -> Self {
        Self {
            standing: Standing::Unknown,
            streak: None,
            missed: 0,
            denies_lead: false,
            answered_at: None,
            why: String::new(),
        }
    }

    /// Takes over from claims that ended. One answer that agrees with the last claim is enough to go on with it: it is
    /// not a new primary. A standby goes on being used until answers are missing.
    pub(crate) fn after_claims(last: Standing, rise: u32) -> Self {
        let standing = if last == Standing::Standby { last } else { Standing::Unknown };
        let streak = (last == Standing::Primary).then(|| (last, rise.saturating_sub(1)));
        Self { standing, streak, ..Self::unknown() }
    }

    /// Counts one check.
    pub(crate) fn record(&mut self, now: MonoTime, check: Check, rise: u32, fall: u32) {
        let found = match check {
            Check::NoAnswer { why } => {
                self.why = why;
                self.streak = None;
                self.missed = self.missed.saturating_add(1);
                if self.missed >= fall {
                    self.standing = Standing::Unknown;
                }
                return;
            }
            Check::Primary => Standing::Primary,
            Check::Standby => Standing::Standby,
            Check::Neither => Standing::Neither,
        };
        self.missed = 0;
        self.answered_at = Some(now);
        self.denies_lead = found != Standing::Primary;
        let before = self.streak.filter(|&(same, _)| same == found).map_or(0, |(_, count)| count);
        let count = before.saturating_add(1);
        self.streak = Some((found, count));
        // A negative needs no proof. A positive of another kind than before ends what was, and has to rise itself.
        if found == Standing::Neither || count >= rise {
            self.standing = found;
        } else if self.standing != found {
            self.standing = Standing::Unknown;
        }
    }

    /// What is established.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether its newest answer says that it does not lead.
    pub(crate) fn denies_lead(&self) -> bool {
        self.denies_lead
    }

    /// Whether so many answers are missing that it counts as silent.
    pub(crate) fn is_silent(&self, fall: u32) -> bool {
        self.missed >= fall
    }

    /// When it answered last, whatever it was.
    pub(crate) fn answered_at(&self) -> Option<MonoTime> {
        self.answered_at
    }

    /// Why the last answer is missing; empty if none is.
    pub(crate) fn why_silent(&self) -> &str {
        if self.missed > 0 { &self.why } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RISE: u32 = 2;
    const FALL: u32 = 3;

    fn missing() -> Check {
        Check::NoAnswer { why: "timed out".to_owned() }
    }

    fn after(health: &mut Health, checks: impl IntoIterator<Item = Check>) -> Vec<Standing> {
        let record = |(i, check)| {
            health.record(MonoTime(i as u64), check, RISE, FALL);
            health.standing()
        };
        checks.into_iter().enumerate().map(record).collect()
    }

    #[test]
    fn nothing_is_used_before_it_has_risen() {
        let mut health = Health::unknown();
        let seen = after(&mut health, [Check::Primary, missing(), Check::Primary, Check::Primary]);
        assert_eq!(seen, [Standing::Unknown, Standing::Unknown, Standing::Unknown, Standing::Primary]);
    }

    #[test]
    fn missing_answers_must_be_in_a_row_to_count() {
        let mut health = Health::unknown();
        after(&mut health, [Check::Standby, Check::Standby]);
        let seen =
            after(&mut health, [missing(), missing(), Check::Standby, missing(), missing(), missing()]);
        assert_eq!(seen[..5], [Standing::Standby; 5]);
        assert_eq!(seen[5], Standing::Unknown);
        assert!(health.is_silent(FALL));
        assert_eq!(health.why_silent(), "timed out");
    }

    #[test]
    fn a_negative_answer_counts_at_once_and_another_role_ends_the_old_one() {
        let mut health = Health::unknown();
        after(&mut health, [Check::Primary, Check::Primary]);
        assert_eq!(after(&mut health, [Check::Neither]), [Standing::Neither]);
        assert!(health.denies_lead());
        after(&mut health, [Check::Primary, Check::Primary]);
        assert!(!health.denies_lead());
        assert_eq!(
            after(&mut health, [Check::Standby, Check::Standby]),
            [Standing::Unknown, Standing::Standby]
        );
        assert!(health.denies_lead());
    }

    #[test]
    fn after_claims_one_answer_that_agrees_is_enough() {
        let mut leader = Health::after_claims(Standing::Primary, RISE);
        assert_eq!(leader.standing(), Standing::Unknown);
        assert_eq!(after(&mut leader, [Check::Primary]), [Standing::Primary]);
        let standby = Health::after_claims(Standing::Standby, RISE);
        assert_eq!(standby.standing(), Standing::Standby);
    }
}
