//! REST on port 8008, compatible with Patroni's, so that existing load balancers and monitoring keep working: health
//! checks answer by status code, read endpoints by JSON. Everything that changes state is refused here; hactl does that.
//!
//! ```text
//!   answer     method, path, query, picture -> status and body (pure)
//!   health     which code a health check gets
//!   facts      role, state, lag, tags as Patroni's users know them
//!   pages      JSON of /patroni, /cluster, /history, /config
//! ```

mod answer;
pub(crate) mod facts;
mod health;
mod pages;

pub(crate) use facts::Facts;
pub(crate) use health::takes_reads;
pub(crate) use pages::store_last_seen;

#[cfg(test)]
pub(crate) mod fixture;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::snapshot::AgentSnapshot;
use answer::{Asked, answer};

type Pictures = watch::Receiver<Option<Arc<AgentSnapshot>>>;

/// How long a health check waits for an agent that has just started and cannot know yet: less than load balancers do. An
/// answer that it does not lead would cut off the clients of a primary that works.
const UNDECIDED_LIMIT: Duration = Duration::from_secs(3);

/// Serves until it fails.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(listen: SocketAddr, snapshot: Pictures) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let router = Router::new().fallback(respond).with_state(snapshot);
    axum::serve(listener, router).await.context("serving REST")
}

async fn respond(State(mut snapshot): State<Pictures>, method: Method, uri: Uri) -> Response {
    if health::is_check(uri.path()) {
        let decided = snapshot.wait_for(|p| p.as_ref().is_some_and(|p| !p.status.undecided));
        // What is known after the limit is answered, whatever it is.
        drop(tokio::time::timeout(UNDECIDED_LIMIT, decided).await);
    }
    let picture = snapshot.borrow().clone();
    let asked = Asked { method: method.as_str(), path: uri.path(), query: uri.query().unwrap_or_default() };
    let answered = answer(&asked, picture.as_deref(), ha_daemon::boottime());
    let code = StatusCode::from_u16(answered.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answered.body {
        Some(body) => (code, [(header::CONTENT_TYPE, answered.content_type)], body).into_response(),
        None => code.into_response(),
    }
}

/// Whether `OPTIONS /primary` and `OPTIONS /replica` are answered with yes, for the tests of what else says so.
#[cfg(test)]
pub(crate) fn rest_answers(picture: &AgentSnapshot, now: ha_core::MonoTime) -> (bool, bool) {
    let yes = |path| answer(&Asked { method: "OPTIONS", path, query: "" }, Some(picture), now).code == 200;
    (yes("/primary"), yes("/replica"))
}

#[cfg(test)]
mod tests;
