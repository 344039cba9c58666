//! Ends a client's connection so that the last words arrive.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client_stream::ClientStream;

/// How long the client may take to read the last words and to close.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes `words`, closes the sending side, then reads until the client closes too: closing with unread bytes would
/// make the kernel send a reset, which may overtake and destroy the words.
pub(super) async fn farewell(mut client: ClientStream, words: &[u8]) {
    let mut said = false;
    let talk = async {
        client.write_all(words).await?;
        client.shutdown().await?;
        said = true;
        let mut ignored = [0; 512];
        while client.read(&mut ignored).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let closed = tokio::time::timeout(PATIENCE, talk).await;
    if !said {
        // What was written may end inside a message: that must not look like a clean end.
        client.reset_on_close();
    }
    if let Ok(Err(error)) = closed {
        tracing::debug!(%error, "a client left before its last words");
    }
}
