//! Typed refusals as gRPC statuses. A status that carries no refusal word came from the transport, or from a server that
//! stopped in between: then the outcome is not known.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata key of the refusal's word.
const KEY: &str = "matriarch-refusal";

/// How a request ended without being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed, and asking again changes nothing.
    Refused,
    /// Nothing was changed, and it may pass by itself (busy, no store).
    NotNow,
    /// It was begun and called off.
    CalledOff,
    /// It was begun and failed.
    Failed,
}

const TABLE: [(Outcome, Code, &str); 4] = [
    (Outcome::Refused, Code::FailedPrecondition, "refused"),
    (Outcome::NotNow, Code::Unavailable, "not-now"),
    (Outcome::CalledOff, Code::Aborted, "called-off"),
    (Outcome::Failed, Code::Internal, "failed"),
];

impl Outcome {
    /// The status that tells a caller so, with the sentence for people.
    pub fn status(self, message: impl Into<String>) -> Status {
        let (code, word) = TABLE
            .iter()
            .find(|(outcome, ..)| *outcome == self)
            .map_or((Code::Unknown, "failed"), |(_, code, word)| (*code, *word));
        let mut status = Status::new(code, message);
        status.metadata_mut().insert(KEY, MetadataValue::from_static(word));
        status
    }

    /// What a status says; none when it says nothing typed, so that the outcome is not known.
    pub fn of(status: &Status) -> Option<Self> {
        let word = status.metadata().get(KEY)?.to_str().ok()?;
        TABLE.iter().find(|(.., own)| *own == word).map(|(outcome, ..)| *outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_wire_and_transport_errors_have_none() {
        for (outcome, code, _) in TABLE {
            let sent = outcome.status("pg2 lags: \u{fc}");
            let http: tonic::codegen::http::Response<tonic::body::Body> = sent.into_http();
            let received = Status::from_header_map(http.headers()).unwrap();
            assert_eq!(Outcome::of(&received), Some(outcome));
            assert_eq!(received.code(), code);
            assert_eq!(received.message(), "pg2 lags: \u{fc}");
        }
        assert_eq!(Outcome::of(&Status::unavailable("connection reset")), None);
    }
}
