//! What the server says of itself once a minute.

use crate::servers::{Servers, run};

#[test]
fn settings_that_opt_out_of_the_guarantee_are_found() {
    run("database_facts::settings_that_opt_out_of_the_guarantee_are_found", || async {
        let servers = Servers::new(2);
        servers.bring_up().await;
        let [a, b] = &servers.members[..] else { unreachable!() };
        let quiet = a.postgres.database_facts().await.unwrap();
        assert_eq!(quiet.version, a.instance().await.version);
        assert!(quiet.weak_commits.is_empty() && quiet.endangered_slots.is_empty(), "{quiet:?}");
        assert!(quiet.changed_collations.is_empty() && quiet.old_prepared == 0, "{quiet:?}");

        a.sql("ALTER DATABASE postgres SET synchronous_commit = remote_write");
        a.sql("ALTER ROLE rewind_user IN DATABASE postgres SET synchronous_commit = off");
        a.sql("ALTER ROLE replicator SET synchronous_commit = remote_apply");
        // As another host's library would look.
        a.sql("SET allow_system_table_mods = on; UPDATE pg_collation SET collversion = '0.1' WHERE collname = 'und-x-icu'");
        let loud = a.postgres.database_facts().await.unwrap();
        assert_eq!(loud.weak_commits, ["database postgres", "role rewind_user in database postgres"]);
        assert_eq!(loud.changed_collations.len(), 1, "{loud:?}");
        assert_eq!(
            (loud.changed_collations[0].provider.as_str(), loud.changed_collations[0].recorded.as_str()),
            ("ICU", "0.1")
        );
        // A standby answers, too: its own host's libraries are what counts there.
        b.postgres.database_facts().await.unwrap();
    });
}
