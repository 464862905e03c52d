//! A client of sockets and bytes, and small worlds to talk to.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use keymux_testkit::{Handle, Options, Server};
use serde_json::{Value, json};

/// Longer than anything here takes; shorter than a test runner's patience.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One provider `p` with key `k` (secret `s`).
pub(crate) fn server(more: &Value) -> Handle {
    let mut provider = json!({
        "name": "p",
        "latency": { "ttft_ms": 2, "ttft_sigma": 0, "per_token_ms": 0.1, "refusal_ms": 0 },
        "account": [{ "name": "a", "key": [{ "name": "k", "secret": "s" }] }],
    });
    for (name, value) in more.as_object().unwrap() {
        provider[name] = value.clone();
    }
    let spec = serde_json::from_value(json!({ "provider": [provider] })).unwrap();
    Server::start(spec, &Options::default()).unwrap()
}

/// A chat request whose prompt steers its answer.
pub(crate) fn chat(stream: bool, steer: &Value) -> String {
    let prompt = format!("sim: {steer}");
    json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": prompt }] }).to_string()
}

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Reset,
    Silence,
}

pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) fn to(server: &Handle) -> Wire {
        let socket = TcpStream::connect(server.addr()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire(socket)
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer s\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.0.write_all(format!("{head}{body}").as_bytes()).unwrap();
    }

    pub(crate) fn chat(&mut self, stream: bool, steer: &Value) {
        self.ask("POST", "/p/v1/chat/completions", &chat(stream, steer));
    }

    /// Reads until the connection ends, or is silent for so long.
    pub(crate) fn rest(&mut self, silence: Duration) -> (String, Ending) {
        self.0.set_read_timeout(Some(silence)).unwrap();
        let (mut all, mut piece) = (Vec::new(), [0; 8192]);
        let ending = loop {
            match self.0.read(&mut piece) {
                Ok(0) => break Ending::Closed,
                Ok(n) => all.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => break Ending::Reset,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break Ending::Silence;
                }
                Err(e) => panic!("{e}"),
            }
        };
        (String::from_utf8_lossy(&all).into_owned(), ending)
    }

    /// Reads until these words have come.
    pub(crate) fn until(&mut self, words: &str) -> String {
        let (mut all, mut piece) = (Vec::new(), [0; 8192]);
        while !String::from_utf8_lossy(&all).contains(words) {
            let n = self.0.read(&mut piece).unwrap();
            assert!(n > 0, "ended without {words:?}: {}", String::from_utf8_lossy(&all));
            all.extend_from_slice(&piece[..n]);
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Reads one answer with a content-length: head and body.
    pub(crate) fn answer(&mut self) -> (String, String) {
        let mut all = self.until("\r\n\r\n");
        let at = all.find("\r\n\r\n").unwrap() + 4;
        let mut body = all.split_off(at).into_bytes();
        let length = all.to_lowercase();
        let length = length.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.unwrap_or_else(|| panic!("no length: {all}")).parse().unwrap();
        let mut rest = vec![0; length - body.len()];
        self.0.read_exact(&mut rest).unwrap();
        body.extend(rest);
        (all, String::from_utf8(body).unwrap())
    }

    /// A control request and its JSON answer.
    pub(crate) fn control(server: &Handle, method: &str, path: &str, body: &Value) -> (String, Value) {
        let mut wire = Wire::to(server);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        wire.ask(method, &format!("/_sim/{path}"), &body);
        let (head, body) = wire.answer();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(&body).unwrap())
    }
}
