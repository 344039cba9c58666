//! A cluster in which nothing breaks does nothing: no change of leader, no write to the store.

#[test]
fn a_quiet_minute_has_no_takeover_and_no_write_to_the_store() {
    for seed in 1..=40 {
        for size in [3, 5] {
            let (until_whole, quiet) = ha_sim::calm(seed, size);
            assert_eq!(
                until_whole.takeovers, 0,
                "seed {seed} with {size} members changed its leader while it came up"
            );
            assert_eq!(
                quiet.takeovers + quiet.promises,
                0,
                "seed {seed} with {size} members suspects somebody"
            );
            assert_eq!(
                until_whole.histories_completed, 1,
                "seed {seed} with {size} members does not tell how it was founded"
            );
            assert_eq!(quiet.transactions, 0, "seed {seed} with {size} members writes to the store");
            assert_eq!(quiet.jobs, 0, "seed {seed} with {size} members is not done with its PostgreSQL");
            assert!(quiet.confirmed_to_clients > 60, "seed {seed} with {size} members hardly takes commits");
        }
    }
}
