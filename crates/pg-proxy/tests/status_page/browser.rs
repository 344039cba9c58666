//! Chromium without a window, spoken to over its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>)
//! by a pipe: JSON that ends with a zero byte, on its descriptors 3 and 4.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Nothing here may take longer, its start on a busy machine included.
const LIMIT: Duration = Duration::from_secs(60);
/// The program itself, in front of the distribution's wrapper, which reads the settings of a desktop.
const PROGRAMS: [&str; 3] = ["/usr/lib/chromium/chromium", "/usr/bin/chromium", "/usr/bin/google-chrome"];

/// One page in a browser, which ends when this is dropped.
pub(crate) struct Browser {
    process: Child,
    orders: Option<ChildStdin>,
    heard: Receiver<Value>,
    page: Option<String>,
    asked: u64,
    /// Everything that happened on the page, in its order.
    pub(crate) events: Vec<Value>,
}

impl Browser {
    /// Which program that is; `None` where the distribution has none: Ubuntu's Chromium is a snap, which runs neither
    /// everywhere nor with files of its caller.
    pub(crate) fn program() -> Option<&'static str> {
        let found = PROGRAMS.into_iter().find(|program| Path::new(program).exists());
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        if found.is_none() && release.lines().any(|line| line == "ID=ubuntu") {
            eprintln!("skipped: there is none of {PROGRAMS:?}, and no package of Ubuntu has one");
            return None;
        }
        assert!(found.is_some(), "chromium is missing: `deploy/setup.sh test` installs it");
        found
    }

    /// Starts it with an empty page; what it writes goes below `dir`.
    pub(crate) fn start(program: &str, dir: &Path) -> Self {
        let mut process = Command::new("/bin/sh")
            // The shell gives it the two descriptors, which this process could not do without unsafe code.
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>\"$0\""])
            .arg(dir.join("chromium.log"))
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", dir.join("chromium").display()))
            .env("HOME", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take();
        let heard = listen(process.stdout.take().unwrap());
        let mut browser = Self { process, orders, heard, page: None, asked: 0, events: Vec::new() };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attach);
        browser.page = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens an address and waits until everything that it names is loaded.
    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.ask("Page.navigate", json!({"url": url}));
        assert_eq!(opened["errorText"], Value::Null, "{url}");
        self.happens("Page.loadEventFired");
    }

    /// The value of an expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let mut answer =
            self.ask("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// Makes the page so wide, in its own pixels.
    pub(crate) fn resize(&mut self, width: u32) {
        let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size);
    }

    /// What the person in front of it likes: `dark` or `light`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.ask("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Waits for an event.
    fn happens(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let heard = self.hear();
            self.events.push(heard);
        }
    }

    fn hear(&self) -> Value {
        self.heard.recv_timeout(LIMIT).expect("chromium says nothing any more")
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut order = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(page) = &self.page {
            order["sessionId"] = json!(page);
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.orders.as_mut().unwrap().write_all(&bytes).unwrap();
        loop {
            let mut heard = self.hear();
            if heard["id"] == self.asked {
                assert_eq!(heard["error"], Value::Null, "{method}");
                return heard["result"].take();
            }
            self.events.push(heard);
        }
    }
}

/// What it says, as it comes: a pipe has no time-out.
fn listen(stream: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        loop {
            let mut bytes = Vec::new();
            // Its end is the end of what can be heard.
            if stream.read_until(0, &mut bytes).unwrap_or(0) == 0 || bytes.pop() != Some(0) {
                return;
            }
            if sender.send(serde_json::from_slice(&bytes).unwrap()).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with the pipe, and takes its other processes with it.
        drop(self.orders.take());
        for _ in 0..400 {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
