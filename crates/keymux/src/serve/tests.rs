use super::line::Came;
use super::watch::Watch;
use super::*;
use crate::alarm::Alarm;
use crate::body::{Pauses, collect};
use crate::http1::script::{Does, Script, chunked};
use crate::http1::stream::Stream;
use crate::reply::Reply;
use crate::upstream::{Connection, Connector, Pool, client_config};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use std::pin::pin;
use std::sync::LazyLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HEAD_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 1 << 20;

/// Reading the machine's root certificates takes longer than a test.
static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Connector::new(client_config(None).unwrap())
});
static GATEWAY: LazyLock<Arc<Gateway>> = LazyLock::new(gateway);

fn gateway() -> Arc<Gateway> {
    let text = "[server]\ndata_dir = \"unused\"\n[[provider]]\nname = \"lab\"\ndialect = \"openai\"\n\
        base_url = \"http://127.0.0.1:1/v1\"\nkeys = [{ name = \"k\", auth = \"none\" }]\n";
    let world = keymux_config::World {
        env: &|_| None,
        env_names: &[],
        read: &|_| Err(std::io::ErrorKind::NotFound.into()),
        run: &|_| Err(String::new()),
    };
    let config = keymux_config::from_toml("test", text, &world);
    Gateway::new(config.map_err(|p| p.render("test", text, false)).unwrap(), 9, 1, (Clock::start(), None))
        .unwrap()
}

/// A worker whose only provider is the other side of connections that a test puts into its pool.
fn worker() -> Arc<Worker> {
    let gateway = gateway();
    let dialer = Dialer { pool: Pool::default(), connector: CONNECTOR.clone(), clock: gateway.clock.clone() };
    Worker::new(gateway, dialer, 1)
}

fn run<F: Future>(future: F) -> F::Output {
    crate::rt::single().unwrap().block_on(future)
}

fn line(script: Script) -> (Line, Alarm) {
    let gateway = GATEWAY.clone();
    let alarm = Alarm::new(gateway.clock.clone());
    (Line::new(Stream::Other(Box::new(script)), Arc::new(Watch::new(gateway))), alarm)
}

/// A request: method, path, query, fields, body.
type Asked = (String, String, Option<String>, Vec<(String, Vec<u8>)>, Vec<u8>);

/// What was read of a connection: the requests, and why it ended ("" where the client just left).
type Read = (Vec<Asked>, String);

/// Reads requests as the gateway does and answers each with "ok".
async fn read_all(script: Script) -> Read {
    let (mut line, mut alarm) = line(script);
    let mut asked = Vec::new();
    loop {
        let head = match line.head(HEAD_BYTES_MAX).await {
            Came::Request(head) => head,
            Came::Unreadable(unreadable) => return (asked, unreadable.problem.message),
            Came::Nothing => return (asked, String::new()),
        };
        let pauses = Pauses { alarm: &mut alarm, idle_ns: u64::MAX / 4, until_ns: u64::MAX / 4 };
        let body = match line.take_whole() {
            Some(body) => Ok(body),
            None => collect(&mut line, BODY_BYTES_MAX, pauses).await,
        };
        let body = match body {
            Ok(body) => body,
            Err(crate::body::Stopped::Broken(detail)) => return (asked, detail),
            Err(_) => return (asked, "stopped".to_owned()),
        };
        let fields =
            head.fields.iter().map(|(n, v)| (String::from_utf8(n.to_vec()).unwrap(), v.to_vec())).collect();
        let (path, query) = (head.path().to_owned(), head.query().map(str::to_owned));
        asked.push((head.method.to_string(), path, query, fields, body.to_vec()));
        match line.send(Reply::whole(StatusCode::OK, "text/plain", "ok"), &mut alarm).await {
            Ok(true) => {}
            Ok(false) => return (asked, "closed".to_owned()),
            Err(Gone) => return (asked, "gone".to_owned()),
        }
    }
}

fn read(text: &[u8], sizes: &[usize]) -> Read {
    run(read_all(Script::pieces(text, sizes)))
}

/// What the gateway itself writes for these bytes, the client leaving after them.
fn answered(text: &[u8], sizes: &[usize]) -> String {
    let script = Script::pieces(text, sizes);
    let taken = script.taken.clone();
    run(on_stream(worker(), script));
    let taken = taken.lock().unwrap();
    String::from_utf8(taken.clone()).unwrap()
}

fn statuses(written: &str) -> Vec<&str> {
    written
        .match_indices("HTTP/1.1 ")
        .map(|(at, mark)| &written[at + mark.len()..at + mark.len() + 3])
        .collect()
}

const LENGTH: &str =
    "POST /v1/embeddings?a=b%20c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nX-A: 1 \r\n\r\nhello";
const CHUNKS: &str = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n\
    3\r\nhel\r\n2 ;x=\"y\"\r\nlo\r\n0\r\nTrailer: t\r\n\r\n";

#[test]
fn requests_one_after_the_other_are_read_however_they_are_cut() {
    let text = format!("\r\n{LENGTH}{CHUNKS}GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (asked, end) = read(text.as_bytes(), &[text.len()]);
    let told: Vec<_> = asked.iter().map(|(m, p, q, _, b)| (&**m, &**p, q.as_deref(), &**b)).collect();
    let path = "/v1/embeddings";
    let hello = b"hello".as_slice();
    let wanted =
        [("POST", path, Some("a=b%20c"), hello), ("POST", path, None, hello), ("GET", "/", None, b"")];
    assert_eq!((told.as_slice(), end.as_str()), (&wanted[..], ""));
    assert_eq!(asked[0].3[2], ("x-a".to_owned(), b"1".to_vec()));
    for size in 1..=text.len() {
        assert_eq!(read(text.as_bytes(), &[size]), (asked.clone(), end.clone()), "pieces of {size}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_answered_once_in_the_dialect_of_its_path_and_ends_the_connection() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (fields, says) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "both"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "both"),
        ("Content-Length: 5\r\nContent-Length: 6", "more than one Content-Length"),
        ("Content-Length: 5\r\ncontent-length: 5", "more than one Content-Length"),
        ("Content-Length: 5, 5", "not a length"),
        ("Content-Length: +5", "not a length"),
        ("Content-Length: 0x5", "not a length"),
        ("Content-Length:", "not a length"),
        ("Content-Length: 18446744073709551616", "not a length"),
        ("Transfer-Encoding: gzip", "Transfer-Encoding"),
        ("Transfer-Encoding: gzip, chunked", "Transfer-Encoding"),
        ("Transfer-Encoding: chunked, gzip", "Transfer-Encoding"),
        ("Transfer-Encoding: xchunked", "Transfer-Encoding"),
        ("Transfer-Encoding:", "Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding"),
        ("Host: localhost", "more than one Host"),
        ("A: b\n folded: c", "header"),
        ("A: b\nContent-Length: 5", "carriage return"),
        ("A: b\r\n folded", "header"),
        ("A : b", "header"),
        (": b", "header"),
        ("A\0: b", "header"),
        ("A: b\rc", "header"),
    ] {
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
        let text = format!("{head}{body}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for size in [text.len(), 1, 7] {
            let written = answered(text.as_bytes(), &[size]);
            assert_eq!(statuses(&written), ["400"], "{fields:?}: {written}");
            assert!(written.contains("connection: close\r\n"), "{fields:?}: {written}");
            assert!(written.contains(r#"{"type":"error","error":{"#), "{fields:?}: {written}");
            assert!(written.contains(says), "{fields:?}: {written}");
        }
    }
}

#[test]
fn a_first_line_is_one_of_http_1_and_names_one_host() {
    for line in [
        "POST /v1/messages HTTP/2.0",
        "POST /v1/messages HTTP/1.2",
        "POST /v1/messages",
        "POST  /v1/messages HTTP/1.1",
        "PO(ST /v1/messages HTTP/1.1",
        "POST /v1/messages#part HTTP/1.1",
        "POST /v1/mess\u{e4}ges HTTP/1.1",
        "POST v1/messages HTTP/1.1",
        "POST ftp://localhost/v1/messages HTTP/1.1",
        "POST http://elsewhere/v1/messages HTTP/1.1",
        "POST * HTTP/1.1",
        "CONNECT localhost:80 HTTP/1.1",
    ] {
        let written = answered(format!("{line}\r\nHost: localhost\r\n\r\n").as_bytes(), &[500]);
        assert_eq!(statuses(&written), ["400"], "{line}: {written}");
        assert!(written.contains("connection: close\r\n"), "{line}: {written}");
    }
    let written = answered(b"GET /healthz HTTP/1.1\r\n\r\n", &[500]);
    assert!(written.contains("no Host"), "{written}");
    for (line, path, query) in [
        ("GET http://localhost/a/b?c=http://d HTTP/1.1", "/a/b", Some("c=http://d")),
        ("GET HTTP://LOCALHOST HTTP/1.1", "/", None),
        ("GET http://localhost?c HTTP/1.1", "/", Some("c")),
        ("OPTIONS * HTTP/1.1", "*", None),
        ("GET /a?b?c HTTP/1.1", "/a", Some("b?c")),
        ("GET /? HTTP/1.1", "/", Some("")),
    ] {
        let (asked, _) = read(format!("{line}\r\nHost: localhost\r\n\r\n").as_bytes(), &[500]);
        assert_eq!((&*asked[0].1, asked[0].2.as_deref()), (path, query), "{line}");
    }
}

#[test]
fn heads_are_bounded_and_the_answer_says_so_in_the_dialect_of_the_path() {
    let long = format!("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nA: {}", "x".repeat(40 << 10));
    let many = format!("POST /api/v1/responses HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100));
    let endless = format!("POST /v1/messages/{}", "x".repeat(40 << 10));
    let within = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(99));
    assert_eq!(statuses(&answered(within.as_bytes(), &[within.len()])), ["200"]);
    for (text, envelope) in [(long, r#"{"type":"error""#), (many, r#""metadata""#), (endless, r#"{"error""#)]
    {
        for size in [text.len(), 1_000] {
            let (asked, end) = read(text.as_bytes(), &[size]);
            assert!(asked.is_empty() && end.contains("over"), "{end}");
        }
        // The worker's own limit is 64 KB.
        let text = if text.contains("A: b") { text } else { format!("{text}{}", "x".repeat(64 << 10)) };
        let written = answered(text.as_bytes(), &[text.len()]);
        assert_eq!(statuses(&written), ["431"]);
        assert!(written.contains(envelope) && written.contains("connection: close\r\n"), "{written}");
    }
}

#[test]
fn a_connection_stays_or_goes_as_was_agreed() {
    for (head, stays, said) in [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", true, None),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: x, Close\r\n", false, Some("close")),
        ("GET /healthz HTTP/1.0\r\n", false, Some("close")),
        ("GET /healthz HTTP/1.0\r\nConnection: Keep-Alive\r\n", true, Some("keep-alive")),
        ("GET /healthz HTTP/1.0\r\nConnection: keep-alive, close\r\n", false, Some("close")),
        // What is left of a body that nobody wanted would be read as a request.
        ("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n", false, Some("close")),
    ] {
        let next = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let written = answered(format!("{head}\r\n{next}").as_bytes(), &[500]);
        assert_eq!(statuses(&written).len(), 1 + usize::from(stays), "{head}: {written}");
        let first = &written[..written.find("\r\n\r\n").unwrap()];
        let connection = first.lines().find_map(|line| line.strip_prefix("connection: "));
        assert_eq!(connection, said, "{head}");
    }
    // But if it has come, it is passed over.
    let body =
        format!("{}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", LENGTH.replace("v1/emb", "v2/emb"));
    for size in [1, 500] {
        assert_eq!(
            statuses(&answered(body.as_bytes(), &[size])).last(),
            Some(&"200").filter(|_| size > 1).or(Some(&"404"))
        );
    }
}

#[test]
fn who_waits_to_be_told_is_told_before_its_body_is_read_and_nobody_else() {
    let head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n";
    let script = Script::new([Does::Says(head.into()), Does::Pauses, Does::Says(b"{}".to_vec())]);
    let taken = script.taken.clone();
    run(read_all(script));
    assert!(taken.lock().unwrap().starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    // It may send the body all the same: what comes next is not known.
    let unwanted = head.replace("/v1/", "/v2/");
    let script = Script::new([Does::Says(unwanted.into()), Does::Pauses, Does::Says(b"{}".to_vec())]);
    let taken = script.taken.clone();
    run(on_stream(worker(), script));
    let written = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    assert!(statuses(&written) == ["404"] && written.contains("connection: close\r\n"), "{written}");
    for text in [format!("{head}{{}}"), LENGTH.to_owned()] {
        let script = Script::pieces(text.as_bytes(), &[500]);
        let taken = script.taken.clone();
        run(read_all(script));
        assert!(taken.lock().unwrap().starts_with(b"HTTP/1.1 200 OK\r\n"), "its body has come already");
    }
}

#[test]
fn an_answer_to_head_has_its_length_and_no_body() {
    let both =
        "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let written = answered(both.as_bytes(), &[500]);
    let (head, rest) = written.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 3") && head.contains("date: "), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("\r\n\r\nok\n"), "{rest}");
}

#[test]
fn a_head_that_does_not_come_is_told_so_and_a_silent_connection_just_ends() {
    let late = |text: &[u8]| {
        run(async {
            let mut script = Script::pieces(text, &[500]);
            script.stays = true;
            let (mut line, _) = line(script);
            let watch = line.watch.clone();
            let mut head = pin!(line.head(HEAD_BYTES_MAX));
            // Everything that comes has come.
            let idle = std::future::poll_fn(|cx| std::task::Poll::Ready(head.as_mut().poll(cx).is_pending()));
            assert!(idle.await);
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            let idle = std::future::poll_fn(|cx| std::task::Poll::Ready(head.as_mut().poll(cx).is_pending()));
            assert!(idle.await);
            watch.end(watch.since_ns());
            head.await
        })
    };
    assert!(matches!(late(b""), Came::Nothing));
    let Came::Unreadable(told) = late(b"POST /v1/messages?a HTTP/1.1\r\nHost: lo") else {
        panic!("not told")
    };
    assert_eq!((told.problem.kind, &*told.path), (crate::errors::Kind::HeadTimeout, "/v1/messages"));
}

#[test]
fn a_client_that_leaves_ends_the_wait_and_one_that_asks_on_does_not() {
    let waits = |script: Script| {
        run(async {
            let (mut line, _) = line(script);
            assert!(matches!(line.head(HEAD_BYTES_MAX).await, Came::Request(_)));
            let mut times = 0;
            let answer = pin!(std::future::poll_fn(move |cx| {
                times += 1;
                cx.waker().wake_by_ref();
                if times > 9 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            }));
            line.unless_gone(answer).await.is_ok()
        })
    };
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let says = || Does::Says(get.clone());
    assert!(!waits(Script::new([says()])), "closed");
    assert!(!waits(Script::new([says(), Does::Pauses, Does::Breaks])));
    assert!(!waits(Script::new([says(), Does::Pauses, says(), Does::Pauses])), "asked on, then closed");
    assert!(!waits(Script::new([Does::Says([&get[..], b"\r\n"].concat())])), "an empty line, then closed");
    for behind in [Does::Pauses, says(), Does::Says(vec![b'x'; 200 << 10])] {
        let mut stays = Script::new([says(), Does::Pauses, behind]);
        stays.stays = true;
        assert!(waits(stays));
    }
}

#[test]
fn a_time_that_ran_out_ends_only_the_state_whose_time_it_was() {
    use super::watch::{BUSY, HEAD, IDLE, STALLED};
    run(std::future::poll_fn(|cx| {
        let watch = Watch::new(GATEWAY.clone());
        watch.is_in(IDLE);
        let since_ns = watch.since_ns();
        assert!(!watch.is_over(cx));
        // The sweep found it idle for too long in the instant in which a request came.
        watch.is_in(HEAD);
        watch.is_in(BUSY);
        watch.end(since_ns);
        watch.is_in(STALLED);
        assert!(!watch.is_over(cx));
        watch.end(watch.since_ns());
        assert!(watch.is_over(cx));
        std::task::Poll::Ready(())
    }));
}

#[test]
fn an_empty_line_behind_a_body_begins_no_request() {
    run(async {
        let mut script =
            Script::new([Does::Says(b"\r\n\r".to_vec()), Does::Pauses, Does::Says(b"\n".to_vec())]);
        script.stays = true;
        let (mut line, _) = line(script);
        line.is_free();
        let watch = line.watch.clone();
        let mut head = pin!(line.head(HEAD_BYTES_MAX));
        for _ in 0..3 {
            let idle = std::future::poll_fn(|cx| std::task::Poll::Ready(head.as_mut().poll(cx).is_pending()));
            assert!(idle.await);
            tokio::task::yield_now().await;
        }
        watch.end(watch.since_ns());
        assert!(matches!(head.await, Came::Nothing), "told of a head that never began");
    });
}

/// A stream of events as a provider sends it, then what its connection does.
fn provider(worker: &Worker, head: &str, body: Vec<Does>) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{head}\r\n");
    let mut does = vec![Does::Pauses, Does::Says(head.into())];
    does.extend(body);
    worker.dialer.pool.put(0, Connection::over(Script::new(does)), worker.gateway.clock.mono_ns());
}

/// What a client gets that is relayed such a stream and takes so many bytes at once.
fn streamed(version: &str, takes: usize, head: &str, body: Vec<Does>) -> String {
    let worker = worker();
    provider(&worker, head, body);
    let ask = r#"{"model":"lab:m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    let ask = format!(
        "POST /v1/chat/completions HTTP/{version}\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{ask}",
        ask.len()
    );
    let mut does = vec![Does::Says(ask.into())];
    // It stays for as long as it takes, then leaves.
    does.extend(std::iter::repeat_n(Does::Pauses, 3_000));
    let mut script = Script::new(does);
    script.takes = takes;
    let taken = script.taken.clone();
    run(on_stream(worker, script));
    let taken = taken.lock().unwrap();
    String::from_utf8(taken.clone()).unwrap()
}

fn events(sizes: &[usize]) -> Vec<String> {
    let event = |size: &usize| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "x".repeat(*size)
        )
    };
    let mut events: Vec<_> = sizes.iter().map(event).collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// The data of chunks, which must end properly.
fn unchunked(framed: &str) -> String {
    let mut decoder = crate::http1::chunked::Decoder::new();
    let mut data = Vec::new();
    let taken = decoder
        .read(framed.as_bytes(), &mut |piece| data.extend_from_slice(&framed.as_bytes()[piece]))
        .unwrap();
    assert!(decoder.is_over() && taken == framed.len(), "{framed}");
    String::from_utf8(data).unwrap()
}

#[test]
fn a_stream_is_chunked_whole_however_it_comes_and_is_taken() {
    for sizes in [vec![1, 2, 3], vec![3_000; 4], vec![5_000, 9, 20_000, 70_000, 1]] {
        let events = events(&sizes);
        for takes in [701, 4_096, usize::MAX] {
            for apart in [true, false] {
                let mut does = Vec::new();
                for event in &events {
                    does.push(Does::Says(event.clone().into()));
                    does.extend(apart.then_some(Does::Pauses));
                }
                let whole = events.concat();
                let written = streamed("1.1", takes, &format!("content-length: {}\r\n", whole.len()), does);
                let (head, body) = written.split_once("\r\n\r\n").unwrap();
                assert!(
                    head.contains("transfer-encoding: chunked") && !head.contains("content-length"),
                    "{head}"
                );
                assert!(unchunked(body) == whole, "{sizes:?}, {takes} bytes at once");
            }
        }
    }
}

#[test]
fn http_1_0_gets_no_chunks_and_a_cut_answer_no_end() {
    let events = events(&[3, 6_000]);
    let does = || vec![Does::Says(events.concat().into_bytes())];
    let written = streamed("1.0", 1_000, "", does());
    let (head, body) = written.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("connection: close") && !head.contains("chunked"), "{head}");
    assert_eq!(body, events.concat());
    // An event that never ends leaves no room for one that says so.
    let huge = format!("{}data: {}", events[0], "x".repeat(2 << 20));
    let written = streamed("1.1", usize::MAX, "", vec![Does::Says(huge.into_bytes()), Does::Breaks]);
    assert!(written.len() > 2 << 20 && !written.ends_with("0\r\n\r\n"));
}

/// The same requests as hyper's server reads them.
async fn by_hyper(text: Vec<u8>) -> Vec<Asked> {
    let (mut ours, theirs) = tokio::io::duplex(text.len() + 64);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            let fields = parts.headers.iter().map(|(n, v)| (n.to_string(), v.as_bytes().to_vec())).collect();
            let query = parts.uri.query().map(str::to_owned);
            let asked = (parts.method.to_string(), parts.uri.path().to_owned(), query, fields, body);
            seen.lock().unwrap().push(asked);
            Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from_static(b"ok"))))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(theirs), service);
    let asks = async move {
        ours.write_all(&text).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut scrap = Vec::new();
        let _ = ours.read_to_end(&mut scrap).await;
    };
    let _ = tokio::join!(served, asks);
    let asked = asked.lock().unwrap();
    asked.clone()
}

/// Valid requests, pipelined.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "DELETE", "PURGE"]);
    let target = prop::sample::select(vec!["/", "/a/b%20c", "/v1/models?x=y&z=/?", "http://h/p?q", "/?"]);
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..4);
    let one = (method, target, 0..3_u8, chunks, 0..4_usize).prop_map(
        |(method, target, framing, chunks, fields)| {
            let field = "X-Field:  v\u{fc}lue \r\n".repeat(fields);
            let (line, body) = match framing {
                0 => (String::new(), Vec::new()),
                1 => (format!("Content-Length: {}\r\n", chunks.concat().len()), chunks.concat()),
                _ => ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&chunks)),
            };
            let head = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{field}{line}\r\n");
            [head.as_bytes(), &body].concat()
        },
    );
    prop::collection::vec(one, 1..4).prop_map(|requests| requests.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn valid_requests_are_read_as_hyper_reads_them(text in valid(), sizes in prop::collection::vec(1..500_usize, 1..5)) {
        let (ours, end) = read(&text, &sizes);
        prop_assert_eq!(end, "");
        prop_assert_eq!(ours, run(by_hyper(text)));
    }

    #[test]
    fn no_bytes_make_it_panic_or_loop(
        start in prop::sample::select(vec!["", "POST / HTTP/1.1\r\nHost: a\r\n", &CHUNKS[..CHUNKS.len() - 40], LENGTH]),
        noise in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b':'), any::<u8>()], 0..300),
        sizes in prop::collection::vec(1..90_usize, 1..5),
    ) {
        let text = [start.as_bytes(), &noise].concat();
        let (cut, _) = read(&text, &sizes);
        // How it was cut changes nothing.
        let (whole, _) = read(&text, &[text.len().max(1)]);
        prop_assert_eq!(cut, whole);
    }
}
