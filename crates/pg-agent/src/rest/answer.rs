//! From a request to an answer, without a server: everything here can be tested by calling it.

use std::collections::BTreeMap;

use ha_core::MonoTime;
use serde_json::{Map, Value};

use super::facts::Facts;
use super::{health, pages};
use crate::metrics;
use crate::snapshot::AgentSnapshot;

const JSON: &str = "application/json";
/// <https://prometheus.io/docs/instrumenting/exposition_formats/>
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// HTTP method.
    pub(super) method: &'a str,
    /// Path.
    pub(super) path: &'a str,
    /// Query without `?`.
    pub(super) query: &'a str,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status code.
    pub(super) code: u16,
    /// Type of the body.
    pub(super) content_type: &'static str,
    /// The body; none = status line only.
    pub(super) body: Option<String>,
}

impl Answer {
    fn bare(code: u16) -> Self {
        Self { code, content_type: JSON, body: None }
    }

    fn json(code: u16, body: &Value) -> Self {
        Self { code, content_type: JSON, body: Some(body.to_string()) }
    }

    fn ok_or_unavailable(good: bool) -> u16 {
        if good { 200 } else { 503 }
    }
}

/// The answer. Before the first picture everything is unavailable.
pub(super) fn answer(asked: &Asked<'_>, picture: Option<&AgentSnapshot>, now: MonoTime) -> Answer {
    let with_body = match asked.method {
        "GET" => true,
        "HEAD" | "OPTIONS" => false,
        _ => return Answer::bare(501),
    };
    let Some(picture) = picture else {
        return if with_body { Answer::json(503, &pages::unknown_status()) } else { Answer::bare(503) };
    };
    let facts = Facts::new(picture, now);
    let parameters = Parameters::read(asked.query);
    if with_body && let Some(answer) = page(asked.path, &facts, &parameters) {
        return answer;
    }
    let good = health::passes(health::check_of(asked.path), &facts, &parameters);
    let code = Answer::ok_or_unavailable(good);
    if with_body { Answer::json(code, &pages::status(&facts)) } else { Answer::bare(code) }
}

/// Paths with an answer of their own; only for GET.
fn page(path: &str, facts: &Facts<'_>, parameters: &Parameters) -> Option<Answer> {
    Some(match path {
        "/liveness" => Answer::bare(Answer::ok_or_unavailable(health::is_live(facts))),
        "/readiness" => Answer::bare(Answer::ok_or_unavailable(health::is_ready(facts, parameters))),
        "/patroni" => Answer::json(200, &pages::status(facts)),
        "/cluster" => Answer::json(200, &pages::cluster(facts)),
        "/history" => Answer::json(200, &pages::history(facts)),
        "/config" => match pages::config(facts) {
            Some(config) => Answer::json(200, &config),
            None => Answer::bare(502),
        },
        "/metrics" => Answer { code: 200, content_type: METRICS, body: Some(metrics::text(facts)) },
        _ => return None,
    })
}

/// What the query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Largest distance behind in bytes.
    pub(super) lag: Option<u64>,
    /// Compare the received instead of the replayed position.
    pub(super) mode_write: bool,
    /// Tags that must be there with these values.
    tags: BTreeMap<String, String>,
}

impl Parameters {
    fn read(query: &str) -> Self {
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key), decode(value));
            match key.as_str() {
                "lag" => parameters.lag = bytes(&value),
                "mode" => parameters.mode_write = value == "write",
                other => {
                    if let Some(tag) = other.strip_prefix("tag_") {
                        parameters.tags.insert(tag.to_owned(), value);
                    }
                }
            }
        }
        parameters
    }

    /// Whether every asked tag is there and equal. Values that are no strings are compared as text.
    pub(super) fn tags_match(&self, tags: &Map<String, Value>) -> bool {
        self.tags.iter().all(|(name, wanted)| match tags.get(name) {
            Some(Value::String(value)) => value == wanted,
            Some(other) => other.to_string().as_str() == wanted.to_lowercase(),
            None => false,
        })
    }
}

/// A size with PostgreSQL's units, such as `16MB`; none when it is not understood, which means no limit.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].trim() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// Percent-decoding; a `%` that begins no code stays.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_have_postgres_units() {
        assert_eq!(bytes("100"), Some(100));
        assert_eq!(bytes("16 MB"), Some(16 << 20));
        assert_eq!(bytes("1kB"), Some(1024));
        assert_eq!(bytes("1 parsec"), None);
        assert_eq!(bytes(""), None);
    }

    #[test]
    fn queries_are_decoded() {
        let parameters = Parameters::read("lag=1%20MB&tag_az=eu%2Dwest&tag_nosync=True&x");
        assert_eq!(parameters.lag, Some(1 << 20));
        let tags = json!({"az": "eu-west", "nosync": true});
        assert!(parameters.tags_match(tags.as_object().unwrap()));
        assert!(!parameters.tags_match(json!({"az": "eu-west"}).as_object().unwrap()));
    }
}
