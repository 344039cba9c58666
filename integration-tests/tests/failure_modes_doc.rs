//! `docs/FAILURE-MODES.md` keeps its word: every test, fault and broken rule that it names exists, and its codes are
//! unique.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/FAILURE-MODES.md";
/// The same marks, in a table of another form.
const PROXY_PAGE: &str = "docs/PROXY-CASES.md";
const VRRP_PAGE: &str = "docs/VRRP-CASES.md";
const GUARD_PAGE: &str = "docs/GUARD-CASES.md";
/// Where test functions are looked for.
const SOURCES: [&str; 2] = ["crates", "integration-tests/tests"];

/// One line of a table with a code.
struct Line {
    code: String,
    cells: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `P01`: a letter and two digits.
fn is_code(text: &str) -> bool {
    let mut chars = text.chars();
    text.len() == 3
        && chars.next().is_some_and(|c| c.is_ascii_uppercase())
        && chars.all(|c| c.is_ascii_digit())
}

fn lines(page: &str) -> Vec<Line> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| {
        let cells: Vec<String> =
            row.trim_end().trim_end_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect();
        let code = cells.first().filter(|cell| is_code(cell))?.clone();
        Some(Line { code, cells })
    })
    .collect()
}

/// Everything between backticks.
fn marks(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Names that stand alone on a line as `Name,`, as variants of an enumeration do.
fn variants(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let names = text.lines().filter_map(|line| line.trim().strip_suffix(','));
    names
        .filter(|name| !name.is_empty() && name.chars().all(char::is_alphanumeric))
        .map(str::to_owned)
        .collect()
}

/// First names of the rows of a table: lines that begin with `(Name,`.
fn rows_of(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let rows = text.lines().filter_map(|line| line.trim().strip_prefix('(')?.split_once(','));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// Names of all functions that are marked as tests.
fn test_functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left: Vec<PathBuf> = SOURCES.iter().map(|source| root().join(source)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            left.extend(entries.map(|entry| entry.expect("an entry of a directory").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            collect_tests(&fs::read_to_string(&path).expect("a source file"), &mut found);
        }
    }
    found
}

fn collect_tests(text: &str, found: &mut BTreeSet<String>) {
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if marked {
                found.extend(rest.split('(').next().map(str::to_owned));
            }
            marked = false;
        }
    }
}

/// How often each kind of mark stands on a page, and the marks of what does not exist.
fn look_up(page: &str) -> (BTreeMap<&str, usize>, Vec<&str>) {
    let faults = variants("crates/ha-sim/src/fault.rs");
    let mutants = rows_of("crates/ha-sim/src/mutant.rs");
    let tests = test_functions();
    let failures = read("integration-tests/tests/failures.rs");
    let makefile = read("Makefile");
    let mut missing = Vec::new();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for mark in marks(page) {
        let Some((kind, name)) = mark.split_once(':') else { continue };
        let exists = match kind {
            "lab" => failures.contains(&format!("mod {name};")),
            "sim" => faults.contains(name),
            "mutant" => mutants.contains(name),
            "unit" => tests.contains(name),
            "bench" => makefile.contains(&format!("\n{name}:")),
            _ => continue,
        };
        *shown.entry(kind).or_default() += 1;
        // The line that explains the mark.
        if !exists && !name.eq_ignore_ascii_case("x") {
            missing.push(mark);
        }
    }
    (shown, missing)
}

#[test]
fn everything_that_the_page_names_exists() {
    let page = read(PAGE);
    let (shown, missing) = look_up(&page);
    assert!(missing.is_empty(), "{PAGE} names what does not exist: {missing:#?}");
    for kind in ["lab", "sim", "mutant", "unit"] {
        assert!(
            shown.get(kind).is_some_and(|count| *count > 5),
            "hardly any {kind}: the page is not understood"
        );
    }
}

#[test]
fn each_case_of_a_proxy_is_shown_by_something_that_exists() {
    each_case_is_shown(PROXY_PAGE, 46);
}

#[test]
fn each_case_of_a_floating_address_is_shown_by_something_that_exists() {
    each_case_is_shown(VRRP_PAGE, 47);
}

fn each_case_is_shown(path: &str, cases: usize) {
    let page = read(path);
    let (_, missing) = look_up(&page);
    assert!(missing.is_empty(), "{path} names what does not exist: {missing:#?}");
    let lines = lines(&page);
    let codes: BTreeSet<&str> = lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!((codes.len(), lines.len()), (cases, cases), "{path}: {cases} cases, each once");
    for Line { code, cells } in &lines {
        let by = cells.get(2).map_or("", String::as_str);
        let shown = marks(by).iter().any(|mark| mark.contains(':'));
        assert!(shown, "{path}: {code} is shown by {by:?}");
    }
}

#[test]
fn each_rule_and_case_of_the_guard_is_shown_by_something_that_exists() {
    let page = read(GUARD_PAGE);
    let (_, missing) = look_up(&page);
    assert!(missing.is_empty(), "{GUARD_PAGE} names what does not exist: {missing:#?}");
    let lines = lines(&page);
    let codes: BTreeSet<&str> = lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(codes.len(), lines.len(), "a code stands there twice");
    let all =
        (1..=12).map(|number| format!("I{number:02}")).chain((1..=27).map(|number| format!("W{number:02}")));
    let absent: Vec<String> = all.filter(|code| !codes.contains(code.as_str())).collect();
    assert!(absent.is_empty(), "{GUARD_PAGE} lacks {absent:?}");
    for Line { code, cells } in &lines {
        let shown = cells.get(2).is_some_and(|cell| marks(cell).iter().any(|mark| mark.contains(':')));
        assert!(shown, "{GUARD_PAGE}: {code} is shown by nothing");
    }
}

#[test]
fn codes_are_unique_and_each_line_is_shown_by_something() {
    let page = read(PAGE);
    let mut seen = BTreeSet::new();
    let (mut wrong, mut counted) = (Vec::new(), 0);
    for Line { code, cells } in lines(&page) {
        counted += 1;
        if !seen.insert(code.clone()) {
            wrong.push(format!("{code} stands there twice"));
        }
        if code.starts_with('N') {
            let words = cells.last().map_or(0, |why| why.split_whitespace().count());
            if words < 8 {
                wrong.push(format!("{code} does not say why, or what to do"));
            }
        } else if cells.len() != 6 {
            wrong.push(format!("{code} has {} columns", cells.len()));
        } else if !marks(&cells[5]).iter().any(|mark| mark.contains(':')) {
            wrong.push(format!("{code} is shown by nothing"));
        }
    }
    assert!(wrong.is_empty(), "{PAGE}: {wrong:#?}");
    assert!(counted > 50, "only {counted} lines: the page is not understood");
}

/// A file of the repository that the page points at.
#[test]
fn paths_and_links_lead_somewhere() {
    let page = read(PAGE);
    let paths = marks(&page).into_iter().filter(|mark| {
        mark.contains('/')
            && !mark.contains(':')
            && [".rs", ".md", ".toml"].iter().any(|end| mark.ends_with(end))
    });
    // The file; headings within it are another matter.
    let links = page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let links: Vec<String> = links.map(|link| format!("docs/{link}")).collect();
    let all: Vec<String> =
        paths.filter(|path| !path.ends_with("/x.rs")).map(str::to_owned).chain(links).collect();
    let absent: Vec<&String> = all.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(absent.is_empty(), "{PAGE} points at {absent:?}");
    assert!(all.len() > 5, "hardly any path: the page is not understood");
}
