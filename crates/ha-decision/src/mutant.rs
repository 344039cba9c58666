//! Deliberately broken rules. Only with the feature `testing`; `Mutant::None` changes nothing.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mutant {
    /// None is broken.
    #[default]
    None,
    /// One promise suffices, whatever the policy asks for.
    NoCoverageRule,
    /// A restarted agent resumes leadership after reading that it leads, without a compare-and-swap.
    ReacquireByRead,
    /// The list narrows in the store before the remaining members hold everything.
    ShrinkWithoutBarrier,
}
