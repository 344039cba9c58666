//! Asks the same of many daemons at once. One that does not answer is part of the result and delays nobody else.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ha_core::MemberName;
use ha_rpc::{TlsFiles, channel};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// Daemons answer from memory; one that needs longer is as good as silent.
const LIMIT: Duration = Duration::from_secs(2);

/// What came of asking one host.
#[derive(Debug, Clone)]
pub(crate) struct Asked<R> {
    pub(crate) name: MemberName,
    pub(crate) address: IpAddr,
    /// The answer, or why there is none.
    pub(crate) answer: Result<R, String>,
}

impl<R> Asked<R> {
    /// The answer, if there is one.
    pub(crate) fn reply(&self) -> Option<&R> {
        self.answer.as_ref().ok()
    }

    /// Why there is none.
    pub(crate) fn silence(&self) -> Option<&str> {
        self.answer.as_ref().err().map(String::as_str)
    }
}

/// Asks the program of this name on every host, all at once; the answers in the order of the hosts.
pub(crate) async fn each<T, R, F>(
    program: &'static str,
    hosts: impl Iterator<Item = (MemberName, SocketAddr)>,
    tls: &TlsFiles,
    message: T,
    call: impl Fn(Channel, Request<T>) -> F + Copy + Send + 'static,
) -> Vec<Asked<R>>
where
    T: Clone + Send + 'static,
    R: Send + 'static,
    F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
{
    let ask = |(name, address): (MemberName, SocketAddr)| {
        let (tls, message, own_name) = (tls.clone(), message.clone(), name.clone());
        let answer = async move {
            let answer = one(program, &own_name, address, &tls, message, call).await;
            answer.map_err(|error| said_once(&error))
        };
        (name, address.ip(), tokio::spawn(answer))
    };
    let asked: Vec<_> = hosts.map(ask).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for (name, address, task) in asked {
        let answer = task.await.unwrap_or_else(|error| Err(format!("asking {program} failed: {error}")));
        answers.push(Asked { name, address, answer });
    }
    answers
}

/// The error and its causes; adapters between libraries repeat what is below them.
fn said_once(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if parts.last() != Some(&cause) && cause != "transport error" {
            parts.push(cause);
        }
    }
    parts.join(": ")
}

async fn one<T, R, F>(
    program: &str,
    name: &MemberName,
    address: SocketAddr,
    tls: &TlsFiles,
    message: T,
    call: impl FnOnce(Channel, Request<T>) -> F,
) -> anyhow::Result<R>
where
    F: Future<Output = Result<Response<R>, Status>>,
{
    let channel = channel::connect(name.as_str(), address, tls).await?;
    match tokio::time::timeout(LIMIT, call(channel, channel::with_deadline(message, LIMIT))).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            anyhow::bail!("{program} does not know this request; is it older than this hactl?")
        }
        Ok(Err(status)) if status.message().is_empty() => anyhow::bail!("{program}: {}", status.code()),
        Ok(Err(status)) => anyhow::bail!("{}", status.message()),
        Err(_) => anyhow::bail!("{program} did not answer within {} s", LIMIT.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let refused: anyhow::Result<()> = Err(anyhow::anyhow!("connection refused"));
        let error =
            refused.context("tcp connect error").context("tcp connect error").context("transport error");
        let error = error.context("connect to ha1 at 10.0.1.21:7001").unwrap_err();
        assert_eq!(
            said_once(&error),
            "connect to ha1 at 10.0.1.21:7001: tcp connect error: connection refused"
        );
    }
}
