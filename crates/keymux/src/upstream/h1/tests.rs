use super::*;
use crate::http1::script::{Does, Script, chunked};
use crate::upstream::pool::Pool;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request() -> Outgoing {
    Outgoing::new(b"POST / HTTP/1.1\r\n\r\n".to_vec(), Bytes::from_static(b"body"))
}

/// What came of an exchange: status, body, whether the connection may be used again; or why nothing.
type Came = Result<(u16, Vec<u8>, bool), String>;

async fn data(exchange: &mut Exchange) -> Option<Result<Bytes, Fault>> {
    poll_fn(|cx| exchange.poll_data(cx)).await
}

async fn exchanged(script: Script) -> Came {
    let mut exchange = Exchange::new(Connection::over(script), request());
    let head = exchange.head().await.map_err(|e| e.to_string())?;
    let mut body = Vec::new();
    while let Some(piece) = data(&mut exchange).await {
        body.extend_from_slice(&piece.map_err(|e| e.to_string())?);
    }
    assert!(exchange.is_over());
    Ok((head.status.as_u16(), body, exchange.into_connection().is_some()))
}

/// Drives a future that never waits for anything but its script.
fn run<F: Future>(future: F) -> F::Output {
    crate::rt::single().unwrap().block_on(future)
}

fn came(text: &[u8], sizes: &[usize]) -> Came {
    run(exchanged(Script::pieces(text, sizes)))
}

const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nA: b\r\n\r\nhello world";
const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
    5\r\nhello\r\n1 ;x=\"y\"\r\n \r\n0005\r\nworld\r\n0\r\nTrailer: t\r\nU: v\r\n\r\n";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nhello world";

#[test]
fn every_framing_is_read_however_it_is_cut() {
    for (text, reusable) in [(LENGTH, true), (CHUNKS, true), (CLOSE, false)] {
        let wanted = Ok((200, b"hello world".to_vec(), reusable));
        for size in 1..=text.len() {
            assert_eq!(came(text, &[size]), wanted, "pieces of {size}");
            assert_eq!(came(text, &[size, text.len()]), wanted, "a first piece of {size}");
        }
    }
}

#[test]
fn a_body_that_is_cut_is_never_taken_for_whole() {
    for text in [LENGTH, CHUNKS] {
        for end in 1..text.len() {
            assert!(came(&text[..end], &[end]).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn bytes_beyond_the_answer_spoil_the_connection_only() {
    for text in [LENGTH, CHUNKS, b"HTTP/1.1 204 No Content\r\n\r\n"] {
        let surplus = [text, b"H"].concat();
        let (whole, spoilt) = (came(text, &[text.len()]).unwrap(), came(&surplus, &[surplus.len()]).unwrap());
        assert!(whole.2 && !spoilt.2);
        assert_eq!((whole.0, whole.1), (spoilt.0, spoilt.1));
    }
    // Those that come later are seen before the connection is used again.
    let mut script = Script::new([Does::Says(b"HTTP/1.1 200 OK\r\n".to_vec())]);
    script.stays = true;
    assert!(!Connection::over(script).is_open());
    assert!(!Connection::over(Script::new([])).is_open(), "closed by the other side");
    let mut silent = Script::new([]);
    silent.stays = true;
    assert!(Connection::over(silent).is_open());
}

#[test]
fn who_says_close_or_speaks_http_1_0_is_not_asked_again() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        assert_eq!(came(text.as_bytes(), &[500]), Ok((200, Vec::new(), false)), "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "A: b\r\n folded",
        "A : b",
        "A\0: b",
        ": b",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let error = came(text.as_bytes(), &[text.len()]).unwrap_err();
        assert!(error.starts_with("the answer cannot be understood"), "{fields}: {error}");
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(came(old.as_bytes(), &[500]).is_err());
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(came(twice.as_bytes(), &[500]), Ok((200, b"ok".to_vec(), true)));
}

#[test]
fn chunks_are_framed_strictly_and_bounded() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(17 << 10));
    let trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(5 << 10));
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n",
        ";x\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "11112222333344445\r\nhello",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n\n",
        long.as_str(),
        trailers.as_str(),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for size in [1, 7, text.len()] {
            let error = came(text.as_bytes(), &[size]).unwrap_err();
            assert!(error.contains("chunk"), "{body:.20}: {error}");
        }
    }
}

#[test]
fn heads_are_bounded() {
    let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101));
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let blank = "\r\n".repeat(HEAD_BYTES_MAX);
    for text in [long, many, endless, blank, "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned()] {
        for size in [1_000, text.len()] {
            let error = came(text.as_bytes(), &[size]).unwrap_err();
            assert!(error.starts_with("the answer cannot be understood"), "{error}");
        }
    }
    let most = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", "A: b\r\n".repeat(99));
    assert!(came(most.as_bytes(), &[999]).is_ok());
}

#[test]
fn interim_answers_are_passed_over() {
    let text = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", LENGTH].concat();
    for size in 1..=text.len() {
        assert_eq!(came(&text, &[size]), Ok((200, b"hello world".to_vec(), true)));
    }
}

#[test]
fn a_cut_before_the_answer_is_told_from_one_within_its_head() {
    let closed = run(exchanged(Script::new([]))).unwrap_err();
    assert_eq!(closed, Fault::Closed.to_string());
    let broken = run(exchanged(Script::new([Does::Pauses, Does::Breaks]))).unwrap_err();
    assert!(broken.starts_with("the connection broke"), "{broken}");
    for end in 1..LENGTH.len() - 12 {
        let error = came(&LENGTH[..end], &[end]).unwrap_err();
        assert!(error.starts_with("the answer cannot be understood"), "{end}: {error}");
    }
}

#[test]
fn a_request_goes_out_whole_however_little_is_taken_at_once() {
    for body in [0, 1, Outgoing::TOGETHER_BYTES_MAX, Outgoing::TOGETHER_BYTES_MAX + 1] {
        for takes in [1, 19, 1000, usize::MAX] {
            let body = Bytes::from(vec![b'x'; body]);
            let mut script = Script::pieces(LENGTH, &[LENGTH.len()]);
            script.takes = takes;
            let taken = script.taken.clone();
            let request = Outgoing::new(b"POST / HTTP/1.1\r\n\r\n".to_vec(), body.clone());
            let mut exchange = Exchange::new(Connection::over(script), request);
            run(exchange.head()).unwrap();
            assert_eq!(*taken.lock().unwrap(), [b"POST / HTTP/1.1\r\n\r\n", &*body].concat());
        }
    }
}

#[test]
fn an_answer_that_comes_before_the_request_was_taken_is_read_and_spoils_the_connection() {
    let mut script = Script::pieces(LENGTH, &[LENGTH.len()]);
    script.takes = 0;
    assert_eq!(run(exchanged(script)), Ok((200, b"hello world".to_vec(), false)));
    let mut script = Script::pieces(LENGTH, &[LENGTH.len()]);
    script.write_fails = true;
    assert_eq!(run(exchanged(script)), Ok((200, b"hello world".to_vec(), false)));
}

#[test]
fn only_a_request_of_which_nothing_was_sent_is_given_back() {
    let mut script = Script::new([]);
    script.stays = true;
    script.write_fails = true;
    let mut exchange = Exchange::new(Connection::over(script), request());
    assert!(run(exchange.head()).is_err());
    assert!(exchange.untouched().is_some());
    let mut exchange = Exchange::new(Connection::over(Script::new([])), request());
    assert!(run(exchange.head()).is_err());
    assert!(exchange.untouched().is_none());
}

#[test]
fn the_first_connection_that_is_open_is_taken_and_only_a_used_one_counts_as_idle() {
    let open = || {
        let mut script = Script::pieces(LENGTH, &[LENGTH.len()]);
        script.does.push_front(Does::Pauses);
        script.stays = true;
        Connection::over(script)
    };
    let pool = Pool::default();
    pool.put(0, open(), 0);
    pool.put(0, Connection::over(Script::new([])), 1);
    pool.put(1, Connection::over(Script::new([])), 1);
    let mut exchange = Exchange::new(pool.take(0, 2).unwrap(), request());
    assert!(!exchange.was_idle(), "never used");
    run(exchange.head()).unwrap();
    while run(data(&mut exchange)).is_some() {}
    let mut again = Exchange::new(exchange.into_connection().unwrap(), request());
    assert!(again.was_idle());
    let waker = Waker::noop();
    assert!(again.poll_head(&mut Context::from_waker(waker)).is_pending());
    assert_eq!(pool.len(), 1);
    pool.sweep(2);
    assert!(pool.is_empty(), "the other origin's was closed");
    pool.put(0, open(), 0);
    assert!(pool.take(0, u64::MAX).is_none(), "too old");
}

#[test]
fn fields_are_found_by_their_names_in_lower_case() {
    let head = Head::read(b"HTTP/1.1 429 Slow\r\nX-A: 1 \r\nEmpty:\r\nx-a: 2\r\nObs: \xe9\r\n\r\n").unwrap();
    let fields: Vec<_> = head.fields().collect();
    let wanted: [(&[u8], &[u8]); 4] = [(b"x-a", b"1"), (b"empty", b""), (b"x-a", b"2"), (b"obs", b"\xe9")];
    assert_eq!((fields.as_slice(), head.status.as_u16()), (&wanted[..], 429));
    assert_eq!((head.get("x-a"), head.get("X-A"), head.len()), (Some(&b"1"[..]), None, 4));
}

/// The same answer as hyper's client reads it.
async fn by_hyper(text: Vec<u8>) -> Option<(u16, Vec<u8>)> {
    let (ours, mut theirs) = tokio::io::duplex(text.len() + 4096);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.ok()?;
    crate::rt::spawn(connection);
    let request = http::Request::new(Empty::<Bytes>::new());
    let answer = async move {
        // hyper takes bytes that come before its request for a breach.
        let mut asked = [0; 16];
        theirs.read_exact(&mut asked).await.ok()?;
        theirs.write_all(&text).await.ok()
    };
    let (response, _) = tokio::join!(sender.send_request(request), answer);
    let response = response.ok()?;
    let status = response.status().as_u16();
    Some((status, response.into_body().collect().await.ok()?.to_bytes().to_vec()))
}

/// A valid answer.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 0..6);
    (200..600_u16, 0..3_u8, chunks, 0..4_usize).prop_map(|(status, framing, chunks, fields)| {
        let body = chunks.concat();
        let mut text = format!("HTTP/1.1 {status} Some Reason\r\n{}", "X-Field: value\r\n".repeat(fields));
        let (line, body) = match (status, framing) {
            (204 | 304, _) => (String::new(), Vec::new()),
            (_, 0) => (format!("content-length: {}\r\n", body.len()), body),
            (_, 1) => (String::new(), body),
            _ => ("transfer-encoding: chunked\r\n".to_owned(), chunked(&chunks)),
        };
        text.push_str(&line);
        [text.as_bytes(), b"\r\n", &body].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn valid_answers_are_read_as_hyper_reads_them(text in valid(), sizes in prop::collection::vec(1..500_usize, 1..5)) {
        let ours = came(&text, &sizes).ok().map(|(status, body, _)| (status, body));
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, run(by_hyper(text)));
    }

    #[test]
    fn no_bytes_make_it_panic_or_loop(
        start in prop::sample::select(vec![&b""[..], b"HTTP/1.1 200 OK\r\n", &CHUNKS[..CHUNKS.len() - 80], LENGTH]),
        noise in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b':'), any::<u8>()], 0..300),
        sizes in prop::collection::vec(1..90_usize, 1..5),
    ) {
        let text = [start, &noise].concat();
        let cut = came(&text, &sizes);
        // How it was cut changes nothing, but which mistake is found first.
        let whole = came(&text, &[text.len().max(1)]);
        prop_assert_eq!(cut.is_ok(), whole.is_ok());
        if let (Ok(cut), Ok(whole)) = (cut, whole) {
            prop_assert_eq!((cut.0, cut.1), (whole.0, whole.1));
        }
    }
}
