//! Traffic of the last two minutes as a drawing: no script, nothing loaded, and in the colours of the page.

use maud::{Markup, html};

use super::words::{bytes, count};
use crate::snapshot::Rate;

/// Of the drawing, in its own units; the page stretches it.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 60.0;
/// Seconds from the left edge to the right.
const SECONDS: usize = 120;

pub(super) fn graph(rates: &[Rate]) -> Markup {
    let highest = rates.iter().map(|r| r.bytes_to_clients.max(r.bytes_to_upstreams)).max().unwrap_or(0);
    let last = rates.last().copied().unwrap_or_default();
    html! {
        figure.graph {
            figcaption {
                span.down { "↓ " (bytes(last.bytes_to_clients)) "/s to clients" }
                span.up { "↑ " (bytes(last.bytes_to_upstreams)) "/s from clients" }
                span { (count(last.sessions)) " new sessions/s" }
                span.fine { "the last two minutes, at most " (bytes(highest)) "/s" }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img"
                aria-label="Bytes per second in the last two minutes" {
                line.base x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                polyline.down points=(points(rates, highest, |rate| rate.bytes_to_clients)) {}
                polyline.up points=(points(rates, highest, |rate| rate.bytes_to_upstreams)) {}
            }
        }
    }
}

/// The newest second is at the right edge.
fn points(rates: &[Rate], highest: u64, of: impl Fn(&Rate) -> u64) -> String {
    let first = SECONDS.saturating_sub(rates.len());
    let point = |(place, rate): (usize, &Rate)| {
        let x = WIDTH * (first + place) as f64 / (SECONDS - 1) as f64;
        let y = HEIGHT * (1.0 - of(rate) as f64 / highest.max(1) as f64);
        format!("{x:.1},{y:.1}")
    };
    rates.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_second_is_right_and_the_highest_is_on_top() {
        let rate = |bytes| Rate { bytes_to_clients: bytes, ..Rate::default() };
        let rates = [rate(0), rate(200), rate(50)];
        let drawn = points(&rates, 200, |rate| rate.bytes_to_clients);
        assert_eq!(drawn, "471.9,60.0 476.0,0.0 480.0,45.0");
        let text = graph(&rates).into_string();
        assert!(text.contains("↓ 50 B/s") && text.contains("at most 200 B/s"), "{text}");
        assert!(!text.contains("style="), "the page's policy lets no style in");
    }

    #[test]
    fn without_traffic_there_is_a_flat_line_or_none() {
        assert_eq!(points(&[], 0, |rate| rate.sessions), "");
        assert_eq!(points(&[Rate::default()], 0, |rate| rate.sessions), "480.0,60.0");
    }
}
