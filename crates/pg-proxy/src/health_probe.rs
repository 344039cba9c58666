//! Asks the REST interface of a member what it is: `OPTIONS /primary` and `OPTIONS /replica`, as load balancers have
//! always asked Patroni. Used where no agent pushes its role.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ha_core::MemberName;
use ha_routing::Check;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Why a path gave no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("connect to {address}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("ask {address} for {path}")]
    Http { address: SocketAddr, path: &'static str, source: hyper::Error },
}

/// Asks, one member at a time at most once.
#[derive(Debug)]
pub struct HealthProbe {
    targets: BTreeMap<MemberName, SocketAddr>,
    limit: Duration,
    answers: mpsc::UnboundedSender<(MemberName, Check)>,
    asking: BTreeSet<MemberName>,
}

impl HealthProbe {
    /// A probe of these REST interfaces; one question takes `limit` at most. The receiver gives the answers; it holds
    /// at most one for each member, as nobody is asked twice at a time.
    pub fn new(
        targets: impl IntoIterator<Item = (MemberName, SocketAddr)>,
        limit: Duration,
    ) -> (Self, mpsc::UnboundedReceiver<(MemberName, Check)>) {
        let (answers, receiver) = mpsc::unbounded_channel();
        let targets = targets.into_iter().collect();
        (Self { targets, limit, answers, asking: BTreeSet::new() }, receiver)
    }

    /// From the next question on one may take `limit`.
    pub fn change_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Begins to ask, unless this member is being asked already. Must be called in a runtime.
    pub fn check(&mut self, member: &MemberName) {
        if self.asking.insert(member.clone()) {
            self.begin(member);
        }
    }

    /// The answer of this member has been taken from the receiver.
    pub fn answered(&mut self, member: &MemberName) {
        self.asking.remove(member);
    }

    fn begin(&self, member: &MemberName) {
        let Some(address) = self.targets.get(member).copied() else {
            tracing::warn!(%member, "a check of a member that is not in the file");
            return;
        };
        let (member, limit, answers) = (member.clone(), self.limit, self.answers.clone());
        tokio::spawn(async move {
            let check = match tokio::time::timeout(limit, ask_both(address)).await {
                Ok(check) => check,
                Err(_) => {
                    Check::NoAnswer { why: format!("{address}: no answer within {} ms", limit.as_millis()) }
                }
            };
            tracing::trace!(%member, ?check, "health check");
            // Nobody waits for it when the proxy ends.
            drop(answers.send((member, check)));
        });
    }
}

/// Both questions at the same time, each on a connection of its own: Patroni's server may close after one answer.
async fn ask_both(address: SocketAddr) -> Check {
    let (primary, replica) = tokio::join!(ask(address, "/primary"), ask(address, "/replica"));
    judge(primary, replica)
}

fn judge(primary: Result<StatusCode, AskError>, replica: Result<StatusCode, AskError>) -> Check {
    match (primary, replica) {
        (Ok(StatusCode::OK), _) => Check::Primary,
        (_, Ok(StatusCode::OK)) => Check::Standby,
        // "No primary" is definite without the second answer, and must close writes at once.
        (Ok(_), _) => Check::Neither,
        (Err(error), _) => Check::NoAnswer { why: crate::causes::brief(&error) },
    }
}

async fn ask(address: SocketAddr, path: &'static str) -> Result<StatusCode, AskError> {
    let stream = TcpStream::connect(address).await.map_err(|source| AskError::Connect { address, source })?;
    let failed = |source| AskError::Http { address, path, source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let host = address.to_string();
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri(path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a constant path and an address make a request");
    let response = async { sender.send_request(request).await };
    tokio::pin!(response, connection);
    // The connection does the reading and writing; the answer may come before or with its end.
    tokio::select! {
        answered = &mut response => answered.map(|answer| answer.status()).map_err(failed),
        _ = &mut connection => response.await.map(|answer| answer.status()).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers `answers` times: 200 to `good`, 503 to everything else, and closes each connection, as an old server of
    /// HTTP/1.0 does.
    async fn serve(good: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 4096];
                let length = stream.read(&mut bytes).await.unwrap();
                let asked = String::from_utf8_lossy(&bytes[..length]).into_owned();
                assert!(asked.starts_with("OPTIONS /"), "{asked}");
                let code = if asked.starts_with(&format!("OPTIONS {good} ")) { 200 } else { 503 };
                let answer = format!("HTTP/1.0 {code} X\r\nServer: x\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    async fn checked(address: SocketAddr) -> Check {
        let member: MemberName = "pg1".parse().unwrap();
        let (mut probe, mut answers) =
            HealthProbe::new([(member.clone(), address)], Duration::from_millis(300));
        probe.check(&member);
        probe.check(&member);
        let (of, check) = answers.recv().await.unwrap();
        assert_eq!(of, member);
        probe.answered(&member);
        assert!(answers.try_recv().is_err(), "asked twice");
        probe.check(&member);
        assert_eq!(answers.recv().await.unwrap().1, check);
        check
    }

    #[tokio::test]
    async fn codes_become_roles() {
        assert_eq!(checked(serve("/primary").await).await, Check::Primary);
        assert_eq!(checked(serve("/replica").await).await, Check::Standby);
        assert_eq!(checked(serve("/nothing").await).await, Check::Neither);
    }

    #[test]
    fn half_an_answer_counts_for_what_it_says() {
        let broken = || AskError::Connect {
            address: "127.0.0.1:1".parse().unwrap(),
            source: std::io::ErrorKind::ConnectionReset.into(),
        };
        let no = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(judge(Ok(no), Err(broken())), Check::Neither);
        assert_eq!(judge(Err(broken()), Ok(StatusCode::OK)), Check::Standby);
        assert!(matches!(judge(Err(broken()), Ok(no)), Check::NoAnswer { .. }));
    }

    #[tokio::test]
    async fn silence_and_refusal_are_no_answer() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let Check::NoAnswer { why } = checked(address).await else { panic!("it said nothing") };
        assert!(why.contains("no answer within 300 ms"), "{why}");
        drop(silent);
        let Check::NoAnswer { why } = checked(address).await else { panic!("nobody was there") };
        assert!(why.contains("connect to 127.0.0.1") && why.contains("refused"), "{why}");
    }
}
