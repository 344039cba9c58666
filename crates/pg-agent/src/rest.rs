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

pub(crate) use pages::store_last_seen;

#[cfg(test)]
mod fixture;

use std::net::SocketAddr;
use std::sync::Arc;

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

/// Serves until it fails.
///
/// # Errors
/// When it cannot listen.
pub async fn serve(listen: SocketAddr, snapshot: Pictures) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    let router = Router::new().fallback(respond).with_state(snapshot);
    axum::serve(listener, router).await.context("serving REST")
}

async fn respond(State(snapshot): State<Pictures>, method: Method, uri: Uri) -> Response {
    let picture = snapshot.borrow().clone();
    let asked = Asked { method: method.as_str(), path: uri.path(), query: uri.query().unwrap_or_default() };
    let answered = answer(&asked, picture.as_deref(), ha_daemon::boottime());
    let code = StatusCode::from_u16(answered.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answered.body {
        Some(body) => (code, [(header::CONTENT_TYPE, answered.content_type)], body).into_response(),
        None => code.into_response(),
    }
}

#[cfg(test)]
mod tests;
