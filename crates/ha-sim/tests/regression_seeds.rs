//! Seeds that once broke something, and what. A seed means the same history only while the models stay as they are, so
//! this list is no proof that the faults are gone (the mutants are); but it costs nothing and has caught returns.

use ha_sim::{Mutant, run, run_with_reads};

const SEEDS: &[(u64, usize, &str)] = &[
    (35, 3, "a restart that was asked for as a standby and granted as the leader went on for ever"),
    (31, 3, "after a fence nobody took the epoch up again"),
    (65, 3, "the record of the post-recovery barrier was taken for that of an old list change"),
    (410, 3, "the member that held most was about to restart, so another took over without the last commit"),
    (410, 3, "initdb ran twice and the cluster was founded with the first one's identifier"),
    (1668, 3, "a founding transaction was applied after its data was gone"),
    (
        272,
        3,
        "an unestablished leader never checkpointed, and the others waited for that before they followed",
    ),
    (978, 3, "a start that failed late left the settings of the life before as known"),
    (292, 3, "a leaving member was listed once more, confirmed, and was cloned anew"),
    (130, 5, "a member marked for a clone was started and listed once more"),
    (4324, 3, "with strict_k neither the old life of a member could leave nor the new one join"),
    (
        2068,
        3,
        "a walsender kept the list of an attempt that was given up, and confirmed for a member not listed",
    ),
    (1370, 3, "two walsenders of one member counted as two confirmations"),
    (
        86,
        3,
        "a restored store with another cluster id was compared by epoch alone, and an older list was acted on",
    ),
    (142, 3, "the same, and a member took over without an acknowledged commit"),
    (
        1232,
        3,
        "a member that had not seen the newest epoch took over on a store that went back, though another knew better",
    ),
    (
        12816,
        3,
        "views of a store arrived after it had been put back, and a void promise was called forgotten",
    ),
    (
        83962,
        3,
        "an answer to a beat from before a reboot put the deadline so far ahead that the guard refused it",
    ),
    (37794, 3, "the same, and the guard took it when the clock had come near enough"),
    (94185, 3, "a late transaction of a human who had accepted a loss was reported as nobody's"),
    (58388, 3, "a store was put back although a member had missed a change of the list"),
    (
        60912,
        3,
        "the postmaster reloaded after a walsender had been forked with the old list, and never signalled it",
    ),
    (
        12999,
        3,
        "a pinned primary opened after a crash while the list that it had asked for was in force unknown to it",
    ),
    (
        23772,
        3,
        "a late transaction listed a member that was being cloned anew (nothing broke: nobody could promise for it)",
    ),
    (185, 2, "a promise of a member whose PostgreSQL was down could not be carried out"),
];

#[test]
fn what_once_broke_holds() {
    for &(seed, size, what) in SEEDS {
        let violation = run(seed, size, Mutant::None).violation;
        assert!(violation.is_none(), "seed {seed} with {size} members ({what}): {violation:?}");
    }
}

/// The same in runs with readers.
const READS: &[(u64, usize, &str)] = &[
    (
        993,
        3,
        "a restarted member, before the store had answered, gave a leader a lease that it had helped to replace",
    ),
    (478, 5, "the same"),
    (
        5944,
        4,
        "who was asked to lead with accepted loss gave its promises to a better candidate (nothing broke: the human did not wait)",
    ),
];

#[test]
fn what_was_once_read_stale_is_not() {
    for &(seed, size, what) in READS {
        let violation = run_with_reads(seed, size, Mutant::None).violation;
        assert!(violation.is_none(), "seed {seed} with {size} members ({what}): {violation:?}");
    }
}
