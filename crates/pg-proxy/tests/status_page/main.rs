//! The status page of a real pg-proxy as people see it: in Chromium.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends by a panic and says what it measured"
)]

mod browser;
#[path = "../fakes/mod.rs"]
mod fakes;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use ha_rpc::proto::RoleClaim;
use serde_json::Value;

use browser::Browser;
use fakes::agent::{FakeAgent, leader, standby};
use fakes::client::session;
use fakes::postgres::FakePostgres;
use fakes::wait_for;
use fakes::world::{SOON, World};

/// A proxy that knows a leader and a standby, and a browser that looks at it.
struct Looked {
    browser: Browser,
    agents: [FakeAgent; 2],
    _servers: Vec<FakePostgres>,
    world: World,
}

impl Looked {
    fn at(network: u8) -> Option<Self> {
        let program = Browser::program()?;
        let mut world = World::new(network, "");
        let servers = world.servers();
        let agents = [world.agent("pg1"), world.agent("pg2")];
        world.start_proxy();
        agents[0].claim(RoleClaim { timeline: 7, ..leader(3) });
        agents[1].claim(RoleClaim { timeline: 7, synchronous: true, ..standby(3) });
        world.wait_until("/writes/members/0", "pg1", SOON);
        world.wait_until("/reads/members/0", "pg2", SOON);
        let browser = Browser::start(program, world.dir());
        Some(Self { browser, agents, _servers: servers, world })
    }

    fn open(&mut self) -> String {
        let url = format!("http://{}/", self.world.page());
        self.browser.open(&url);
        url
    }

    fn text_of(&mut self, selector: &str) -> String {
        let all = format!("[...document.querySelectorAll({selector:?})].map(e => e.innerText).join(' | ')");
        let text = self.browser.evaluate(&all);
        text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Waits until what is chosen has all of these words.
    fn shows(&mut self, selector: &str, words: &[&str]) {
        let mut last = String::new();
        let mut all_there = || {
            last = self.text_of(selector);
            words.iter().all(|word| last.contains(word)).then_some(())
        };
        let met = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for("the words", SOON, &mut all_there);
        }));
        assert!(met.is_ok(), "{words:?} in {last:?}");
    }
}

#[test]
fn the_page_shows_the_cluster_and_follows_a_change_of_the_leader_by_itself() {
    let Some(mut looked) = Looked::at(91) else { return };
    let mut writer = session(looked.world.writes());
    let url = looked.open();
    looked.shows(".route", &["Writes port 5000 go to pg1", "pg1 leads epoch 3", "Reads port 5001 go to pg2"]);
    looked.shows("tbody.leader", &["pg1", "Leader", "writes", "its agent, just now", "3", "7", "1 of 200"]);
    looked.shows("tbody.standby", &["pg2", "Standby", "confirms", "reads", "4.00 KiB", "0 of 200"]);
    looked.shows(".tiles", &["Sessions 1 of 2"]);
    looked.shows(".decisions", &["pg1 leads epoch 3"]);
    looked.shows("table.statistics", &["writes 1, most 1 of 2", "writes at pg1 1, most 1 of 200", "UP for"]);
    looked.shows("#freshness", &["Live"]);
    assert!(writer.is_alive());

    looked.browser.evaluate("window.loadedOnce = true");
    looked.agents[0].claim(RoleClaim { timeline: 8, ..standby(4) });
    looked.agents[1].claim(RoleClaim { timeline: 8, ..leader(4) });
    looked.shows(".route", &["Writes port 5000 go to pg2", "pg2 leads epoch 4", "Reads port 5001 go to pg1"]);
    looked.shows("tbody.leader", &["pg2", "4", "8"]);
    looked.shows(".decisions", &["pg2 leads epoch 4", "pg1 leads epoch 3"]);
    looked.shows(".tiles", &["Sessions 0 of 2"]);
    assert_eq!(looked.browser.evaluate("document.title"), "pg2 · demo · ha1");
    assert_eq!(looked.browser.evaluate("window.loadedOnce"), true, "the page was not loaded again");
    only_itself(&mut looked.browser, &url);
}

/// It asked nobody but its own proxy, and nothing went wrong on it.
fn only_itself(browser: &mut Browser, url: &str) {
    // What happened before this answer is heard before it.
    browser.evaluate("0");
    let of = |method: &str| -> Vec<&Value> {
        browser
            .events
            .iter()
            .filter(|event| event["method"] == method)
            .map(|event| &event["params"])
            .collect()
    };
    let requests = of("Network.requestWillBeSent");
    assert!(requests.len() >= 3, "page, style and script: {requests:?}");
    for request in requests {
        let asked = request["request"]["url"].as_str().unwrap();
        assert!(asked.starts_with(url) || asked.starts_with("data:,"), "{asked}");
    }
    assert_eq!(of("Runtime.exceptionThrown"), [&Value::Null; 0]);
    assert_eq!(of("Log.entryAdded"), [&Value::Null; 0]);
    assert_eq!(of("Runtime.consoleAPICalled"), [&Value::Null; 0]);
    assert_eq!(of("Network.loadingFailed"), [&Value::Null; 0]);
}

/// How much wider the page is than the window, and elements whose right edge is cut off, but for those inside of something
/// that scrolls by itself or that is there for screen readers alone.
const BEYOND_THE_EDGE: &str = "(() => {
    const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
        || getComputedStyle(e).clipPath !== 'none' || scrolls(e.parentElement));
    const width = document.documentElement.clientWidth;
    const beyond = [...document.querySelectorAll('body *')].filter(e => {
        const box = e.getBoundingClientRect();
        return box.width > 1 && box.right > width + 0.5 && !scrolls(e.parentElement);
    });
    return [document.documentElement.scrollWidth - width, beyond.map(e => e.outerHTML.slice(0, 100))];
})()";

#[test]
fn nothing_is_cut_off_on_a_phone_and_dark_and_light_are_told_apart() {
    let Some(mut looked) = Looked::at(92) else { return };
    let long =
        "a reason with-a-very-long-word-that-no-screen-of-a-telephone-has-room-for-in-one-line-of-text";
    looked.agents[1].claim(RoleClaim { reason: long.to_owned(), ..standby(3) });
    looked.browser.resize(375);
    let url = looked.open();
    looked.shows("tbody.standby", &["pg2", "of 200"]);
    for width in [375, 320, 768, 1280] {
        looked.browser.resize(width);
        let beyond = looked.browser.evaluate(BEYOND_THE_EDGE);
        assert_eq!(beyond, serde_json::json!([0, []]), "at {width} pixels");
    }
    let colours = ["dark", "light"].map(|scheme| {
        looked.browser.prefer(scheme);
        let of_body = "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))";
        let colours = looked.browser.evaluate(of_body);
        [brightness(&colours[0]), brightness(&colours[1])]
    });
    let [[dark_ground, dark_text], [light_ground, light_text]] = colours;
    assert!(dark_ground + 100 < dark_text && light_text + 100 < light_ground, "{colours:?}");
    only_itself(&mut looked.browser, &url);
}

/// Sum of red, green and blue of `rgb(r, g, b)`, divided by three.
fn brightness(colour: &Value) -> u32 {
    let numbers = colour.as_str().unwrap().trim_start_matches("rgb(").trim_end_matches(')');
    numbers.split(", ").map(|number| number.parse::<u32>().unwrap()).sum::<u32>() / 3
}

#[test]
fn without_a_certificate_it_is_there_to_be_read_and_nothing_else() {
    let Some(mut looked) = Looked::at(93) else { return };
    looked.open();
    let controls = "document.querySelectorAll('form, button, input, select, textarea, [onclick]').length";
    assert_eq!(looked.browser.evaluate(controls), 0);
    for path in ["/", "/status.json", "/metrics", "/health"] {
        for method in ["POST", "PUT", "DELETE"] {
            let mut stream = TcpStream::connect(looked.world.page()).unwrap();
            write!(stream, "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.0 405 "), "{method} {path}: {answer}");
        }
    }
}

#[test]
fn a_page_whose_proxy_is_gone_says_so() {
    let Some(mut looked) = Looked::at(94) else { return };
    looked.open();
    looked.shows("#freshness", &["Live"]);
    looked.world.signal(nix::sys::signal::Signal::SIGKILL);
    looked.world.ended();
    looked.shows("#freshness", &["No answer from this proxy for", "what you see is old"]);
}
