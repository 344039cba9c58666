//! Metrics for Prometheus, and a health check, on port 7003: made from the snapshot at each scrape, nothing is counted
//! here.

use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State as Shared_;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ha_daemon::boottime;
use tokio::net::TcpListener;
use vrrp::{ProxyHealth, State};

use crate::snapshot::{RouterView, Shared, Snapshot};

/// The driver publishes ten times a second; a snapshot this old means that it hangs.
const HUNG_AFTER: Duration = Duration::from_secs(3);

/// Serves until it fails.
///
/// # Errors
/// When it cannot listen.
pub(crate) async fn serve(address: SocketAddr, shared: Shared) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("metrics: listen on {address}"))?;
    let router =
        Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(shared);
    axum::serve(listener, router).await.context("metrics: serve")
}

async fn metrics(Shared_(shared): Shared_<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&shared.load()))
}

/// 200 as long as the driver's thread goes round; what it decides is no matter of health.
async fn health(Shared_(shared): Shared_<Shared>) -> impl IntoResponse {
    let age = boottime().since(shared.load().taken);
    if age < HUNG_AFTER {
        return (StatusCode::OK, "running\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("nothing moved for {} ms\n", age.as_millis()))
}

/// The value of a sample.
type Value = fn(&RouterView) -> u64;

/// Name, kind, help and value of what there is of each virtual router.
const SAMPLES: &[(&str, &str, &str, Value)] = &[
    ("active", "gauge", "Whether this host is the Active.", |router| in_state(router, State::Active)),
    ("backup", "gauge", "Whether this host is a Backup.", |router| in_state(router, State::Backup)),
    ("fault", "gauge", "Whether this host cannot take part.", |router| in_state(router, State::Fault)),
    ("holds_address", "gauge", "Whether the address is on this host.", |router| router.holds.into()),
    ("priority", "gauge", "Effective priority.", |router| router.status.priority.into()),
    ("alarms", "gauge", "What a human should look at.", |router| router.status.alarms.len() as u64),
    ("transitions_total", "counter", "Changes of state.", |router| router.status.counters.transitions),
    ("became_active_total", "counter", "Times it became the Active.", |router| {
        router.status.counters.became_active
    }),
    ("advertisements_sent_total", "counter", "Advertisements sent.", |router| router.status.counters.sent),
    ("advertisements_received_total", "counter", "Valid advertisements received.", |router| {
        router.status.counters.received
    }),
    ("advertisements_discarded_total", "counter", "Packets that were not used.", |router| {
        router.status.counters.discarded
    }),
    ("discarded_checksum_total", "counter", "Of those, with a wrong checksum.", |router| {
        router.status.counters.discarded_checksum
    }),
    ("discarded_password_total", "counter", "Of those, with a wrong password.", |router| {
        router.status.counters.discarded_password
    }),
    ("discarded_signature_total", "counter", "Of those, without a right signature.", |router| {
        router.status.counters.discarded_signature
    }),
    ("discarded_interval_total", "counter", "Of those, with another interval.", |router| {
        router.status.counters.discarded_interval
    }),
    ("epoch", "gauge", "Number of the newest holding that is known.", |router| router.status.epoch),
    ("moves", "gauge", "Changes of the holder within ten minutes.", |router| router.status.moves as u64),
    ("late_ticks_total", "counter", "Times that this process ran late.", |router| {
        router.status.counters.late_ticks
    }),
    ("latest_tick_milliseconds", "gauge", "How late it was at most.", |router| {
        u64::try_from(router.status.latest_tick.as_millis()).unwrap_or(u64::MAX)
    }),
    ("address_restored_total", "counter", "Times the address was put back.", |router| {
        router.status.counters.address_restored
    }),
];

fn in_state(router: &RouterView, state: State) -> u64 {
    (router.status.state == state).into()
}

fn text(snapshot: &Snapshot) -> String {
    let mut page = String::new();
    let mut whole = |name: &str, help: &str, value: &dyn Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "# HELP matriarch_vrrp_{name} {help}\n# TYPE matriarch_vrrp_{name} gauge\nmatriarch_vrrp_{name} {value}"
        );
    };
    let proxy = u8::from(snapshot.proxy == ProxyHealth::Serving);
    whole("proxy_serving", "Whether the local proxy serves.", &proxy);
    whole("proxy_has_primary", "Whether the local proxy has a primary.", &u8::from(snapshot.said.primary));
    whole(
        "drained",
        "Whether an operator keeps floating addresses off this host.",
        &u8::from(snapshot.drained),
    );
    whole(
        "maintenance",
        "Whether the cluster is in maintenance mode: addresses move only when their holder fails.",
        &u8::from(snapshot.maintenance),
    );
    whole("degraded", "What this process had to do without.", &snapshot.degraded.len());
    let uptime = boottime().since(snapshot.began).as_secs_f64();
    whole("uptime_seconds", "Since the start.", &format!("{uptime:.3}"));
    for (name, kind, help, value) in SAMPLES {
        let _ = writeln!(page, "# HELP matriarch_vrrp_{name} {help}\n# TYPE matriarch_vrrp_{name} {kind}");
        for router in &snapshot.routers {
            let RouterView { address, vrid, .. } = router;
            let value = value(router);
            let _ = writeln!(page, "matriarch_vrrp_{name}{{address=\"{address}\",vrid=\"{vrid}\"}} {value}");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::one_active;

    #[test]
    fn every_sample_has_help_and_type_and_names_its_router() {
        let page = text(&one_active());
        let labels = "{address=\"10.0.1.10\",vrid=\"10\"}";
        for line in [
            "matriarch_vrrp_proxy_serving 1".to_owned(),
            "matriarch_vrrp_degraded 1".to_owned(),
            format!("matriarch_vrrp_active{labels} 1"),
            format!("matriarch_vrrp_backup{labels} 0"),
            format!("matriarch_vrrp_holds_address{labels} 1"),
            format!("matriarch_vrrp_priority{labels} 150"),
            format!("matriarch_vrrp_advertisements_sent_total{labels} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
        let count = |start: &str| page.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("# HELP "), count("# TYPE ")), (SAMPLES.len() + 6, SAMPLES.len() + 6));
        assert_eq!(count("matriarch_vrrp_"), SAMPLES.len() + 6);
    }
}
