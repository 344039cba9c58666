use super::*;

fn cluster() -> ClusterName {
    "pg-cluster".parse().unwrap()
}

fn install(root: &Path, bin_dir: &str) {
    let bin_dir = below(root, bin_dir);
    std::fs::create_dir_all(&bin_dir).unwrap();
    std::fs::write(bin_dir.join("postgres"), "").unwrap();
}

#[test]
fn the_newest_installed_version_is_taken_with_its_distributions_directories() {
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "/usr/lib/postgresql/15/bin");
    install(root.path(), "/usr/pgsql-17/bin");
    let paths = Postgres::default().resolve_below(root.path(), &cluster()).unwrap();
    assert_eq!(paths.major, 17);
    assert_eq!(paths.bin_dir, root.path().join("usr/pgsql-17/bin"));
    assert_eq!(paths.data_dir, root.path().join("var/lib/pgsql/17/pg-cluster"));
    assert_eq!(paths.log_file, root.path().join("var/log/postgresql/matriarch-pg-cluster.log"));

    let fifteen = Postgres { version: Some(15), ..Postgres::default() };
    let paths = fifteen.resolve_below(root.path(), &cluster()).unwrap();
    assert_eq!(paths.data_dir, root.path().join("var/lib/postgresql/15/pg-cluster"));
}

#[test]
fn a_bin_dir_tells_its_version_by_its_path() {
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "/usr/pgsql-16/bin");
    let given = Postgres { bin_dir: Some(root.path().join("usr/pgsql-16/bin")), ..Postgres::default() };
    let paths = given.resolve_below(root.path(), &cluster()).unwrap();
    assert_eq!((paths.major, paths.data_dir), (16, root.path().join("var/lib/pgsql/16/pg-cluster")));
}

#[test]
fn a_missing_installation_says_where_it_was_looked_for() {
    let root = tempfile::tempdir().unwrap();
    let message = Postgres::default().resolve_below(root.path(), &cluster()).unwrap_err().to_string();
    assert!(message.contains("/usr/lib/postgresql/<version>/bin"), "{message}");
    let absent = Postgres { bin_dir: Some("/nowhere".into()), version: Some(15), ..Postgres::default() };
    assert!(absent.resolve_below(root.path(), &cluster()).is_err());
}
