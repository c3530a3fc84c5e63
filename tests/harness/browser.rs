//! A headless Chromium that does on a page what a person would: type, choose a file, click, look.
//!
//! Lives here: the browser and its remote control. Does not live here: which browser `warren browse`
//! starts, and what it sends (`whole/browse.rs`).
//!
//! The control is Chromium's own protocol over two pipes: JSON objects, each ended by a zero byte. Pages'
//! scripts are off.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{binary::finish, runner::wait_for, scratch::Scratch};

/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_mins(1);
/// The program, as Debian calls it.
const PROGRAM: &str = "chromium";

/// Starts the browser with pipes for its descriptors 3 and 4.
const START: &str = r#"commands=$1 answers=$2; shift 2; exec "$@" 3<"$commands" 4>"$answers""#;

/// Whether there is a Chromium here.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file())
}

/// A browser with one page. It ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    /// The page's session; none while there is no page.
    session: Option<String>,
    last: u64,
    /// Profile, pipes and what was saved.
    scratch: Scratch,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Browser {
    /// Starts it, with an empty page.
    pub fn start() -> Self {
        let scratch = Scratch::new("browser");
        let pipes = ["commands", "answers"].map(|name| scratch.join(name));
        finish(Command::new("mkfifo").args(&pipes)).success();
        let child = Command::new("sh")
            .args(["-c", START, "browser"])
            .args(&pipes)
            .args([PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--remote-debugging-pipe"])
            .args(["--window-size=1000,1400", "about:blank"])
            .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
            .env("HOME", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(&pipes[0]).unwrap();
        let pieces = BufReader::new(File::open(&pipes[1]).unwrap()).split(0);
        let (to, answers) = mpsc::channel();
        thread::spawn(move || {
            for piece in pieces.map_while(Result::ok) {
                let _ = to.send(serde_json::from_slice(&piece).unwrap());
            }
        });
        let mut this = Self { child, commands, answers, session: None, last: 0, scratch };
        let page = this.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let wish = json!({ "targetId": page["targetId"], "flatten": true });
        let page = this.ask("Target.attachToTarget", &wish);
        let saved = this.scratch.join("saved").display().to_string();
        let wish = json!({ "behavior": "allow", "downloadPath": saved });
        this.ask("Browser.setDownloadBehavior", &wish);
        this.session = Some(page["sessionId"].as_str().unwrap().to_owned());
        this.ask("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
        this
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) {
        let said = self.ask("Page.navigate", &json!({ "url": url }));
        assert!(said["errorText"].is_null(), "{url}: {said}");
    }

    /// What the page is made of now; empty while it changes.
    pub fn html(&mut self) -> String {
        let Some(root) = self.node(None) else { return String::new() };
        let said = self.try_ask("DOM.getOuterHTML", &json!({ "nodeId": root }));
        said.map_or(String::new(), |said| said["outerHTML"].as_str().unwrap().to_owned())
    }

    /// Waits until the page contains `text`, and gives it.
    pub fn wait_for(&mut self, text: &str) -> String {
        wait_for(PATIENCE, text, || Some(self.html()).filter(|html| html.contains(text)))
    }

    /// Replaces what is in a field.
    pub fn fill(&mut self, field: &str, text: &str) {
        self.ready(field, |browser, node| {
            browser.try_ask("DOM.focus", &json!({ "nodeId": node }))?;
            let all = json!({ "type": "keyDown", "commands": ["selectAll"] });
            browser.try_ask("Input.dispatchKeyEvent", &all)?;
            browser.try_ask("Input.insertText", &json!({ "text": text }))
        });
    }

    /// Chooses a file of this machine.
    pub fn choose(&mut self, field: &str, file: &Path) {
        self.ready(field, |browser, node| {
            let wish = json!({ "nodeId": node, "files": [file.display().to_string()] });
            browser.try_ask("DOM.setFileInputFiles", &wish)
        });
    }

    /// Clicks in the middle of something.
    pub fn click(&mut self, what: &str) {
        self.ready(what, |browser, node| {
            let node = json!({ "nodeId": node });
            browser.try_ask("DOM.scrollIntoViewIfNeeded", &node)?;
            let model = browser.try_ask("DOM.getBoxModel", &node)?;
            let corner = |n: usize| model["model"]["content"][n].as_f64().unwrap();
            let (x, y) = (f64::midpoint(corner(0), corner(4)), f64::midpoint(corner(1), corner(5)));
            for kind in ["mousePressed", "mouseReleased"] {
                let wish =
                    json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
                browser.try_ask("Input.dispatchMouseEvent", &wish)?;
            }
            Some(Value::Null)
        });
    }

    /// Waits until a file is saved whole, and gives what is in it.
    pub fn saved(&self, name: &str) -> Vec<u8> {
        let path = self.scratch.join("saved").join(name);
        // Until then it has another name.
        wait_for(PATIENCE, name, || std::fs::read(&path).ok())
    }

    /// A picture of the window, as PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let said = self.ask("Page.captureScreenshot", &json!({}));
        BASE64.decode(said["data"].as_str().unwrap().as_bytes()).unwrap()
    }

    /// Does `act` on what `selector` finds as soon as it is there: a page may load itself anew at any
    /// time.
    fn ready(&mut self, selector: &str, act: impl Fn(&mut Self, &Value) -> Option<Value>) {
        wait_for(PATIENCE, selector, || {
            let node = self.node(Some(selector))?;
            act(self, &node)
        });
    }

    /// What `selector` finds first, or the whole page.
    fn node(&mut self, selector: Option<&str>) -> Option<Value> {
        let root = self.try_ask("DOM.getDocument", &json!({ "depth": 0 }))?;
        let root = root["root"]["nodeId"].clone();
        let Some(selector) = selector else { return Some(root) };
        let wish = json!({ "nodeId": root, "selector": selector });
        let found = self.try_ask("DOM.querySelector", &wish)?["nodeId"].clone();
        (found != 0).then_some(found)
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.try_ask(method, params).unwrap_or_else(|| panic!("{method} was refused"))
    }

    /// None when it cannot be done: what it is about may be gone.
    fn try_ask(&mut self, method: &str, params: &Value) -> Option<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut said = self.answers.recv_timeout(left).unwrap_or_else(|_| panic!("{method}"));
            if said["id"] == self.last {
                return said["error"].is_null().then(|| said["result"].take());
            }
        }
    }
}
