//! Requests through the whole data path in memory: client ↔ keymux ↔ provider over pipes, on one single-threaded
//! runtime. Run under `valgrind --tool=callgrind` with N and 2N requests, the difference is the cost of N requests in
//! instructions, which no noise of the machine can change.
//!
//! `instructions <keys> <requests> [client keys]`

#![expect(clippy::expect_used, reason = "a measurement that cannot run must stop")]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use keymux::attempt::Dialer;
use keymux::serve::{Gateway, Worker, on_stream};
use keymux::upstream::{Connection, Connector, Pool, client_config};
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const PIPE: usize = 256 << 10;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>().expect("a number"));
    let keys = arguments.next().unwrap_or(3);
    let requests = arguments.next().unwrap_or(1_000);
    let clients = arguments.next().unwrap_or(0);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = keymux::rt::single().expect("a runtime");
    runtime.block_on(drive(keys, requests, clients));
}

/// The key of the n-th client.
fn client_key(n: usize) -> String {
    format!("km-test-{n}")
}

/// Makes client keys known, as if they had been read from a ledger.
fn admit(gateway: &Gateway, clients: usize) {
    let client = |n: usize| keymux_store::Client {
        id: format!("ck-{n}"),
        digest: keymux_store::Digest::of(&client_key(n)),
        previous: None,
        name: format!("client {n}"),
        team: String::new(),
        terms: keymux_store::Terms {
            requests_a_minute: Some(1_000_000_000),
            ..keymux_store::Terms::default()
        },
        disabled: false,
        created_unix_ms: 0,
        expires_unix_ms: None,
        revoked_unix_ms: None,
        version: 1,
    };
    let changes =
        keymux_store::Changes { clients: (0..clients).map(client).collect(), teams: Vec::new(), version: 1 };
    gateway.directory.take_in(changes, &gateway.live.load_full(), |dues| gateway.turnstile.set(dues));
}

/// One provider, every key an account of its own with room to spare.
fn configuration(keys: usize) -> keymux_config::Config {
    let mut text = String::from(
        "[server]\ndata_dir = \"unused\"\n[log]\nrequests = false\n[[provider]]\nname = \"sim\"\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nkeys = [\n",
    );
    for key in 0..keys {
        let _ = writeln!(text, "  {{ name = \"k{key}\", secret = \"literal:sk-test-{key}\" }},");
    }
    text.push_str("]\n");
    let world = keymux_config::World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(io::ErrorKind::NotFound.into()),
        run: &|_| Err("no".to_owned()),
    };
    let read = keymux_config::from_toml("memory", &text, &world);
    read.map_err(|problems| problems.render("memory", &text, false)).expect("a configuration")
}

async fn drive(keys: usize, requests: usize, clients: usize) {
    let gateway =
        Gateway::new(configuration(keys), 100, 1, (keymux::clock::Clock::start(), None)).expect("a gateway");
    if clients > 0 {
        admit(&gateway, clients);
    }
    let connector = Connector::new(client_config(None).expect("TLS"));
    let dialer = Dialer { pool: Pool::default(), connector, clock: gateway.clock.clone() };
    let worker = Worker::new(gateway, dialer, 1);
    let (ours, theirs) = tokio::io::duplex(PIPE);
    drop(keymux::rt::spawn(provider(theirs)));
    worker.dialer.pool.put(0, Connection::over(ours), worker.gateway.clock.mono_ns());
    let (client, server) = tokio::io::duplex(PIPE);
    drop(keymux::rt::spawn(on_stream(worker.clone(), server)));
    let presented = if clients > 0 { client_key(clients / 2) } else { "unused".to_owned() };
    call(client, requests, &presented).await;
}

/// Answers every request with the same 700 bytes.
async fn provider(stream: DuplexStream) {
    let content = "lorem ipsum ".repeat(36);
    let answer = Bytes::from(format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":600,"completion_tokens":120,"total_tokens":720}}}}"#
    ));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let _ = http_body_util::BodyExt::collect(request.into_body()).await;
            let mut response = Response::new(Full::new(answer));
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// Sends the same 2.6 KB request again and again on one connection.
async fn call(mut stream: DuplexStream, requests: usize, key: &str) {
    let content = "All happy families are alike. ".repeat(84);
    let body =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{content}"}}],"max_tokens":100}}"#);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nuser-agent: instructions\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let mut answer = Vec::with_capacity(4 << 10);
    for _ in 0..requests {
        stream.write_all(&request).await.expect("written");
        answer.clear();
        loop {
            stream.read_buf(&mut answer).await.expect("read");
            if whole(&answer) {
                break;
            }
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Whether the head and as many bytes as it states have come.
fn whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").trim().parse().expect("a number");
    answer.len() >= end + 4 + length
}
