//! Reading etcd's answers, above all: does this error prove that nothing was, or will be, done?

use std::error::Error;
use std::time::Duration;

use etcd_client as etcd;
use ha_core::Revision;
use tonic::{Code, ConnectError, Status};

use crate::store::{Compare, Entry, LeaseId, MemberStatus, Refusal, Snapshot, TxnOutcome};

/// Why a request got no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It never reached a server that would act on it: another endpoint may be tried.
    NotSent(String),
    /// The server answered and did nothing.
    Refused(Refusal),
    /// Not done, done, or done later.
    Unclear {
        /// What is known.
        reason: String,
        /// Whether the connection is to blame, not the server.
        broken: bool,
    },
}

impl Failure {
    pub(super) fn of(error: etcd::Error) -> Self {
        match error {
            etcd::Error::GRpcStatus(status) => Self::of_status(&status),
            other => Self::Unclear { reason: chain(&other), broken: true },
        }
    }

    fn of_status(status: &Status) -> Self {
        if was_never_connected(status) {
            return Self::NotSent(chain(status));
        }
        // Only a status with etcd's own words comes from etcd; the HTTP/2 library makes up statuses too, with the same
        // codes (a connection closed for too many pings is "resource exhausted", like a full disk).
        let Some(words) = status.message().strip_prefix("etcdserver: ") else {
            return Self::Unclear { reason: chain(status), broken: true };
        };
        if status.source().is_some() {
            return Self::Unclear { reason: chain(status), broken: true };
        }
        let text = || words.to_owned();
        match status.code() {
            Code::NotFound if words == "requested lease not found" => Self::Refused(Refusal::LeaseNotFound),
            // Said by the gate in front of every call that demands a leader, before the call begins.
            Code::Unavailable if words == "no leader" => Self::NotSent(text()),
            Code::ResourceExhausted if words.contains("database space exceeded") => {
                Self::Refused(Refusal::NoSpace)
            }
            Code::ResourceExhausted if words == "too many requests" => {
                Self::Refused(Refusal::Overloaded(text()))
            }
            Code::Unauthenticated => Self::Refused(Refusal::Unauthenticated(text())),
            Code::InvalidArgument if words == "user name is empty" => {
                Self::Refused(Refusal::Unauthenticated(text()))
            }
            Code::PermissionDenied => Self::Refused(Refusal::PermissionDenied(text())),
            Code::InvalidArgument => Self::Refused(Refusal::Invalid(text())),
            _ => Self::Unclear { reason: text(), broken: false },
        }
    }
}

/// The request waited for a connection that could not be made.
fn was_never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// An error with everything it is caused by, on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn headerless<T>() -> Result<T, Failure> {
    Err(Failure::Unclear { reason: "an answer of etcd has no header".to_owned(), broken: false })
}

pub(super) fn compare(compare: &Compare) -> etcd::Compare {
    let revision = i64::try_from(compare.mod_revision.0).unwrap_or(i64::MAX);
    etcd::Compare::mod_revision(compare.key.as_str(), etcd::CompareOp::Equal, revision)
}

/// etcd's numbers are signed; none that we read is ever negative.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

pub(super) fn seconds(number: i64) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

pub(super) fn entry(pair: &etcd::KeyValue) -> Entry {
    Entry {
        key: String::from_utf8_lossy(pair.key()).into_owned(),
        value: pair.value().to_vec(),
        mod_revision: revision(pair.mod_revision()),
        create_revision: revision(pair.create_revision()),
        lease: LeaseId(pair.lease()),
    }
}

pub(super) fn snapshot(read: &etcd::GetResponse) -> Result<Snapshot, Failure> {
    let Some(header) = read.header() else { return headerless() };
    Ok(entries(header, read))
}

fn entries(header: &etcd::ResponseHeader, read: &etcd::GetResponse) -> Snapshot {
    let entries = read.kvs().iter().map(entry).map(|entry| (entry.key.clone(), entry)).collect();
    Snapshot { cluster_id: header.cluster_id(), revision: revision(header.revision()), entries }
}

pub(super) fn outcome(response: &etcd::TxnResponse) -> TxnOutcome {
    let unknown = |reason: &str| TxnOutcome::Unknown { reason: reason.to_owned() };
    let Some(header) = response.header() else {
        return unknown("the answer to the transaction has no header");
    };
    if response.succeeded() {
        return TxnOutcome::Won { revision: revision(header.revision()) };
    }
    // The parts of a transaction have no cluster id of their own, the whole has.
    match response.op_responses().first() {
        Some(etcd::TxnOpResponse::Get(read)) => TxnOutcome::Lost { snapshot: entries(header, read) },
        _ => unknown("the answer to the lost transaction does not show the present state"),
    }
}

pub(super) fn member_status(endpoint: String, status: Result<etcd::StatusResponse, String>) -> MemberStatus {
    match status {
        Ok(status) => MemberStatus {
            endpoint,
            version: status.version().to_owned(),
            member_id: status.header().map_or(0, etcd::ResponseHeader::member_id),
            leader_id: status.leader(),
            db_size_bytes: u64::try_from(status.db_size()).unwrap_or(0),
            problems: status.errors().to_vec(),
        },
        Err(problem) => MemberStatus {
            endpoint,
            version: String::new(),
            member_id: 0,
            leader_id: 0,
            db_size_bytes: 0,
            problems: vec![problem],
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn failure(status: Status) -> Failure {
        Failure::of(etcd::Error::GRpcStatus(status))
    }

    #[test]
    fn only_etcds_own_words_prove_that_nothing_was_done() {
        let full = "etcdserver: mvcc: database space exceeded";
        assert_eq!(failure(Status::resource_exhausted(full)), Failure::Refused(Refusal::NoSpace));
        let pings = failure(Status::resource_exhausted("h2 protocol error: too_many_pings"));
        assert!(matches!(pings, Failure::Unclear { broken: true, .. }), "{pings:?}");

        let gone = failure(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(gone, Failure::Refused(Refusal::LeaseNotFound));
        let twice = failure(Status::invalid_argument("etcdserver: duplicate key given in txn request"));
        assert!(matches!(twice, Failure::Refused(Refusal::Invalid(_))), "{twice:?}");
    }

    #[test]
    fn what_may_still_happen_is_unclear() {
        for status in [
            Status::unavailable("etcdserver: request timed out"),
            Status::unavailable("etcdserver: leader changed"),
            Status::deadline_exceeded("context deadline exceeded"),
            Status::cancelled("operation was canceled"),
            Status::unknown("transport error"),
        ] {
            let failure = failure(status);
            assert!(matches!(failure, Failure::Unclear { .. }), "{failure:?}");
        }
    }

    #[test]
    fn a_request_without_connection_or_leader_was_not_sent() {
        let mut refused = Status::unavailable("tcp connect error");
        refused.set_source(Arc::new(ConnectError("connection refused".into())));
        assert!(matches!(failure(refused), Failure::NotSent(_)));
        assert!(matches!(failure(Status::unavailable("etcdserver: no leader")), Failure::NotSent(_)));
    }

    #[test]
    fn trouble_with_credentials_is_no_partition() {
        let token = failure(Status::unauthenticated("etcdserver: invalid auth token"));
        assert!(matches!(token, Failure::Refused(Refusal::Unauthenticated(_))), "{token:?}");
        let denied = failure(Status::permission_denied("etcdserver: permission denied"));
        assert!(matches!(denied, Failure::Refused(Refusal::PermissionDenied(_))), "{denied:?}");
    }
}
