//! Leads a cancel request to the server whose session it means.

use std::io;
use std::time::Duration;

use ha_routing::cancel_request::CancelRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::sockets;
use super::worker::Shared;

/// How long a cancel request may take; the client waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// Sends the request to the server that gave out the key. A key that is not known here, because the session is
/// encrypted or belongs to another proxy, goes to all: only the process id together with the secret matches, so a
/// wrong server ignores it. Limits and holds do not apply: this is how people get out of trouble.
pub(super) async fn deliver(shared: &Shared, request: &CancelRequest) {
    let Some(packet) = request.to_bytes() else { return };
    let upstreams = shared.options.upstreams.len();
    let mut targets = shared.cancel_keys.find(upstreams, request.pid, &request.key);
    if targets.is_empty() {
        targets = (0..upstreams).collect();
    }
    let all = futures_util::future::join_all(targets.iter().map(|&upstream| send(shared, upstream, &packet)));
    // Whoever did not answer in time: the client may try again.
    drop(tokio::time::timeout(DEADLINE, all).await);
}

async fn send(shared: &Shared, upstream: usize, packet: &[u8]) {
    let talk = async {
        let mut server = sockets::connect(shared.address(upstream), DEADLINE).await?;
        server.write_all(packet).await?;
        // The server closes when it has sent the signal; the client takes our close for that.
        while server.read(&mut [0; 64]).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    if let Err(error) = talk.await {
        tracing::debug!(%error, upstream = %shared.member(upstream), "cannot deliver a cancel request");
    }
}
