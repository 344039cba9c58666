//! A reader of TOML that collects problems instead of stopping at the first.
//!
//! A [`Table`] hands out checked values by key; whatever is wrong goes into the [`Report`] and the caller gets `None`,
//! goes on with the default, and finds the next problem.

use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::keys;
use crate::problem::{Problem, Problems};
use crate::units::{parse_duration, parse_size};

/// Where problems of one file are collected.
pub(crate) struct Report<'a> {
    path: &'a Path,
    text: &'a str,
    /// Keys that the file may hold.
    keys: &'static [&'static str],
    /// Values are never repeated in messages.
    secret: bool,
    problems: RefCell<Vec<Problem>>,
}

/// A value with the place where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) line: Option<usize>,
    pub(crate) key: String,
}

impl<'a> Report<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str, keys: &'static [&'static str]) -> Self {
        Self { path, text, keys, secret: false, problems: RefCell::new(Vec::new()) }
    }

    /// For a file whose values must not be shown.
    pub(crate) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(crate) fn push(
        &self,
        line: Option<usize>,
        key: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        self.problems.borrow_mut().push(Problem::new(self.path, line, key, found, expected));
    }

    /// Whether this key, or one inside it, has a problem already. Relations between values are then not checked: the
    /// default that stands in for a refused value would only cause misleading further problems.
    pub(crate) fn refused(&self, key: &str) -> bool {
        self.problems.borrow().iter().any(|problem| {
            problem.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The line of the file in which this key stands, if it does.
    fn line_of(&self, span: Range<usize>) -> usize {
        self.text.as_bytes()[..span.start.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
            + 1
    }

    /// Parses the text. `None` after errors of syntax behind which nothing can be read reliably.
    pub(crate) fn parse(&self) -> Option<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut readable = true;
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let line = Some(self.line_of(span.clone()));
            if error.message() == "duplicate key" {
                let name = self.text.get(span).unwrap_or_default();
                self.push(line, name, "this key a second time", "each key and each [table] once");
            } else {
                readable = false;
                let found = format!("a mistake of TOML syntax ({})", error.message());
                self.push(line, "", found, "valid TOML: key = value, text in double quotes");
            }
        }
        readable.then(|| table.into_inner())
    }

    /// The top of the file.
    pub(crate) fn top<'t>(&'t self, table: &'t DeTable<'a>) -> Table<'t> {
        let top = Table {
            report: self,
            table: Some(table),
            path: String::new(),
            schema: String::new(),
            line: None,
        };
        top.refuse_unknown_keys();
        top
    }

    pub(crate) fn into_problems(self) -> Option<Problems> {
        Problems::from_vec(self.problems.into_inner())
    }

    /// The value as it stands in the file, or only its type when it is secret.
    fn describe(&self, value: &Spanned<DeValue<'_>>) -> String {
        let kind = value.get_ref().type_str();
        if self.secret {
            return format!("a value of type {kind}");
        }
        match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Table(_) => "a table".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            _ => self.text.get(value.span()).unwrap_or(kind).to_owned(),
        }
    }
}

/// One table of the file; an absent table reads as empty.
#[derive(Clone)]
pub(crate) struct Table<'t> {
    pub(crate) report: &'t Report<'t>,
    table: Option<&'t DeTable<'t>>,
    /// As shown in problems: `database[1].tags`.
    path: String,
    /// As in the list of known keys: `database.tags`.
    schema: String,
    pub(crate) line: Option<usize>,
}

impl<'t> Table<'t> {
    /// The full key of `name` in this table, as shown in problems.
    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The line of a key, or of the table's head when the key is absent.
    pub(crate) fn line_of(&self, name: &str) -> Option<usize> {
        self.entry(name).map(|(line, _)| line).or(self.line)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Reports a problem with the key `name` of this table.
    pub(crate) fn refuse(&self, name: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.report.push(self.line_of(name), self.key(name), found, expected);
    }

    fn entry(&self, name: &str) -> Option<(usize, &'t Spanned<DeValue<'t>>)> {
        self.table?
            .iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)
            .map(|(key, value)| (self.report.line_of(key.span()), value))
    }

    fn schema_of(&self, name: &str) -> String {
        if self.schema.is_empty() { name.to_owned() } else { format!("{}.{name}", self.schema) }
    }

    fn refuse_unknown_keys(&self) {
        let known = keys::children(self.report.keys, &self.schema);
        if known == ["*"] {
            return;
        }
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                self.refuse(name, "an unknown key", keys::suggestion(self.report.keys, &self.schema, name));
            }
        }
    }

    /// Reads `name` with `parse`; when that gives `None` the problem says what was `expected`.
    pub(crate) fn read<T>(
        &self,
        name: &str,
        expected: impl Into<String>,
        parse: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        debug_assert!(
            keys::children(self.report.keys, &self.schema).contains(&name),
            "{name} is missing in the list of known keys of [{}]",
            self.schema
        );
        let (line, value) = self.entry(name)?;
        let parsed = parse(value.get_ref());
        if parsed.is_none() {
            self.refuse(name, self.report.describe(value), expected);
        }
        Some(At { value: parsed?, line: Some(line), key: self.key(name) })
    }

    /// Like [`Table::read`], and its absence is a problem.
    pub(crate) fn required<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&DeValue<'t>) -> Option<T>,
    ) -> Option<At<T>> {
        if !self.has(name) {
            self.refuse(name, "nothing", expected);
            return None;
        }
        self.read(name, expected, parse)
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        self.read(name, "true or false", DeValue::as_bool).map(|at| at.value)
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, expected, |value| integer(value).filter(|number| range.contains(number)))
            .map(|at| at.value)
    }

    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.read(name, "a port from 1 to 65535", |value| {
            integer(value).and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0)
        })
        .map(|at| at.value)
    }

    pub(crate) fn duration(&self, name: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        use crate::units::show_duration as show;
        let expected = format!(
            "a duration from {} to {}, written like \"500ms\", \"5s\" or \"1h\"",
            show(*range.start()),
            show(*range.end())
        );
        self.read(name, expected, |value| {
            value.as_str().and_then(parse_duration).filter(|duration| range.contains(duration))
        })
        .map(|at| at.value)
    }

    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.read(name, "a size such as \"512kB\", \"16MB\" or \"1GB\"", |value| {
            value.as_str().and_then(parse_size)
        })
        .map(|at| at.value)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.read(name, "an absolute path in double quotes", |value| {
            value.as_str().map(PathBuf::from).filter(|path| path.is_absolute())
        })
        .map(|at| at.value)
    }

    pub(crate) fn address(&self, name: &str) -> Option<At<IpAddr>> {
        self.required(name, "the host's own address, such as \"10.0.1.11\"", |value| {
            value
                .as_str()
                .and_then(|text| IpAddr::from_str(text).ok())
                .filter(|address| !address.is_unspecified() && !address.is_multicast())
                .filter(|address| *address != IpAddr::from([255, 255, 255, 255]))
        })
    }

    /// A list of texts; each bad entry is a problem of its own and is left out.
    pub(crate) fn list(&self, name: &str, expected: &str) -> Option<Vec<At<String>>> {
        let expected_list = format!("a list: [\"...\", ...] of {expected}");
        let line = self.line_of(name);
        let entries = self.read(name, expected_list, |value| {
            let array = value.as_array()?;
            let entries = array.iter().enumerate().map(|(index, entry)| {
                let text = nonempty(entry.get_ref());
                (index, self.report.line_of(entry.span()), text, self.report.describe(entry))
            });
            Some(entries.collect::<Vec<_>>())
        })?;
        let mut list = Vec::new();
        for (index, entry_line, text, found) in entries.value {
            let key = format!("{}[{index}]", entries.key);
            match text {
                Some(value) => list.push(At { value, line: Some(entry_line), key }),
                None => self.report.push(Some(entry_line).or(line), key, found, expected),
            }
        }
        Some(list)
    }

    /// A table inside this one.
    pub(crate) fn table(&self, name: &str) -> Self {
        let entry = self.entry(name);
        let table = entry.and_then(|(_, value)| value.get_ref().as_table());
        if let (Some((_, value)), None) = (entry, table) {
            self.refuse(name, self.report.describe(value), format!("a table: [{}]", self.schema_of(name)));
        }
        let inner = Self {
            report: self.report,
            table,
            path: self.key(name),
            schema: self.schema_of(name),
            line: entry.map(|(line, _)| line),
        };
        inner.refuse_unknown_keys();
        inner
    }

    /// A list of tables, `[[name]]`.
    pub(crate) fn tables(&self, name: &str) -> Vec<Self> {
        let Some((line, value)) = self.entry(name) else { return Vec::new() };
        let expected = format!("[[{name}]] with two brackets, once per entry");
        let Some(array) = value.get_ref().as_array() else {
            self.refuse(name, self.report.describe(value), expected);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, entry) in array.iter().enumerate() {
            let Some(table) = entry.get_ref().as_table() else {
                let key = format!("{}[{index}]", self.key(name));
                self.report.push(Some(line), key, self.report.describe(entry), expected.clone());
                continue;
            };
            let inner = Self {
                report: self.report,
                table: Some(table),
                path: format!("{}[{index}]", self.key(name)),
                schema: self.schema_of(name),
                line: Some(self.report.line_of(entry.span())),
            };
            inner.refuse_unknown_keys();
            tables.push(inner);
        }
        tables
    }

    /// All entries of a table with free names, as text; `a.b = 1` and `[x.a] b = 1` both give the name `a.b`.
    pub(crate) fn free_entries(&self) -> Vec<(String, At<String>)> {
        let mut entries = Vec::new();
        if let Some(table) = self.table {
            self.collect(table, "", &mut entries);
        }
        entries
    }

    fn collect(&self, table: &'t DeTable<'t>, prefix: &str, entries: &mut Vec<(String, At<String>)>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            let line = Some(self.report.line_of(key.span()));
            let text = match value.get_ref() {
                DeValue::Table(inner) => {
                    self.collect(inner, &format!("{name}."), entries);
                    continue;
                }
                DeValue::String(text) => text.to_string(),
                DeValue::Boolean(true) => "on".to_owned(),
                DeValue::Boolean(false) => "off".to_owned(),
                DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
                DeValue::Float(number) => number.as_str().to_owned(),
                _ => {
                    let expected = "text in double quotes, a number, true or false";
                    self.report.push(line, self.key(&name), self.report.describe(value), expected);
                    continue;
                }
            };
            let key = self.key(&name);
            entries.push((name, At { value: text, line, key }));
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<u32> {
    let number = value.as_integer()?;
    u32::from_str_radix(number.as_str(), number.radix()).ok()
}

fn nonempty(value: &DeValue<'_>) -> Option<String> {
    value.as_str().filter(|text| !text.trim().is_empty() && !text.contains(['\n', '\0'])).map(str::to_owned)
}
