//! Port 7000: the status page for people, the same as JSON, metrics, and health for load balancers. Everything here only
//! reads.

mod csv;
mod graph;
mod html;
mod statistics;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::metrics;
use crate::phase::{self, Phase};
use crate::snapshot::{Snapshot, SnapshotSource};

const STYLE: &str = include_str!("status_page/page.css");
const SCRIPT: &str = include_str!("status_page/page.js");

/// The page runs no script and loads nothing but its own two files; nobody may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page, listening and not yet serving.
#[derive(Debug)]
pub struct StatusPage {
    listener: TcpListener,
    router: Router,
    source: Arc<SnapshotSource>,
}

impl StatusPage {
    /// On this socket, which does not block. Must be called in a runtime.
    ///
    /// # Errors
    /// When the socket cannot be watched.
    pub fn on(listener: std::net::TcpListener, source: Arc<SnapshotSource>) -> anyhow::Result<Self> {
        let listener = TcpListener::from_std(listener).context("status page")?;
        let router = Router::new()
            .route("/", get(page))
            .route("/page.css", get(|| async { typed("text/css; charset=utf-8", STYLE) }))
            .route("/page.js", get(|| async { typed("text/javascript; charset=utf-8", SCRIPT) }))
            .route("/status.json", get(json))
            .route("/metrics", get(metrics_text))
            .route("/health", get(health))
            // Where collectors of HAProxy's statistics look for them.
            .route("/;csv", get(csv_text))
            .route("/;csv;norefresh", get(csv_text))
            .route("/stats;csv", get(csv_text))
            .route("/stats;csv;norefresh", get(csv_text))
            .with_state(Arc::clone(&source));
        Ok(Self { listener, router, source })
    }

    /// Serves until a successor does, and whoever was let in before is answered.
    ///
    /// # Errors
    /// When listening ends.
    pub async fn serve(self, phase: watch::Receiver<Phase>) -> anyhow::Result<()> {
        let Self { listener, router, source } = self;
        let door = Door { listener, phase: phase.clone() };
        tokio::select! {
            served = axum::serve(door, router).with_graceful_shutdown(phase::last_questions(phase)) => {
                served.context("status page")
            }
            () = count(&source) => Ok(()),
        }
    }
}

/// Lets people in until a successor does. Without it they would come here as long as one of them keeps a connection, and
/// look at a process that has less and less to do.
struct Door {
    listener: TcpListener,
    phase: watch::Receiver<Phase>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        tokio::select! {
            biased;
            () = phase::handed_over(self.phase.clone()) => std::future::pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Looks each second at what has passed, for the graph.
async fn count(source: &SnapshotSource) {
    let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        source.count();
    }
}

type Source = State<Arc<SnapshotSource>>;

async fn page(State(source): Source) -> Response {
    typed("text/html; charset=utf-8", html::page(&source.snapshot()).into_string())
}

async fn json(State(source): Source) -> Response {
    (with_headers(), Json(source.snapshot())).into_response()
}

async fn metrics_text(State(source): Source) -> Response {
    typed("text/plain; version=0.0.4; charset=utf-8", metrics::text(&source.snapshot()))
}

async fn csv_text(State(source): Source) -> Response {
    typed("text/plain; charset=utf-8", csv::csv(&source.snapshot()))
}

async fn health(State(source): Source) -> Response {
    let (code, text) = judge(&source.snapshot());
    (code, typed("text/plain; charset=utf-8", text)).into_response()
}

/// Whether new sessions should come to this proxy. Not whether there is a leader: another proxy would not find one
/// either, and clients are held here meanwhile.
fn judge(shown: &Snapshot) -> (StatusCode, String) {
    let bad = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if shown.draining {
        return bad("draining: no new sessions are taken");
    }
    if !shown.workers_alive {
        return bad("a thread that serves sessions does not answer");
    }
    if shown.sessions >= shown.session_limit {
        return bad(&format!("full: {} sessions", shown.sessions));
    }
    let writes = shown.writes.reason.replace(['\r', '\n'], " ");
    (StatusCode::OK, format!("serving; writes: {writes}\n"))
}

fn with_headers() -> [(HeaderName, HeaderValue); 4] {
    [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]
}

fn typed(content_type: &'static str, body: impl IntoResponse) -> Response {
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
    (with_headers(), content_type, body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::judge;
    use crate::snapshot::fixture::snapshot;

    #[test]
    fn health_is_about_the_proxy_and_says_why() {
        let mut shown = snapshot();
        assert_eq!(judge(&shown), (StatusCode::OK, "serving; writes: pg1 leads epoch 5\n".to_owned()));
        shown.writes.state = ha_routing::RouteState::Holding;
        assert_eq!(judge(&shown).0, StatusCode::OK, "no leader is no illness of the proxy");
        shown.sessions = shown.session_limit;
        assert!(judge(&shown).1.starts_with("full: 2000"));
        shown.workers_alive = false;
        assert!(judge(&shown).1.starts_with("a thread"));
        shown.draining = true;
        assert_eq!(judge(&shown).0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(judge(&shown).1.starts_with("draining"));
    }
}
