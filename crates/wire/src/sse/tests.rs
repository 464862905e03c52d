use proptest::prelude::*;

use super::{Event, Scanner};

/// An event, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    event: Option<String>,
    data: String,
    comment_only: bool,
    oversized: bool,
    complete: bool,
    raw_len: usize,
}

fn seen(event: Event<'_>) -> Seen {
    Seen {
        event: event.event.map(str::to_owned),
        data: String::from_utf8_lossy(event.data).into_owned(),
        comment_only: event.comment_only,
        oversized: event.oversized,
        complete: event.complete,
        raw_len: event.raw_len,
    }
}

fn scan(cap: usize, chunks: &[&[u8]]) -> Vec<Seen> {
    let mut scanner = Scanner::new(cap);
    let mut all = Vec::new();
    let mut at = 0;
    let mut sink = |event: Event<'_>| {
        assert_eq!(event.start, at, "reports follow one another without a gap");
        at += event.raw_len as u64;
        all.push(seen(event));
    };
    for chunk in chunks {
        scanner.feed(chunk, &mut sink);
    }
    scanner.finish(&mut sink);
    assert_eq!(at, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>(), "every byte is reported");
    all
}

/// What matters of a stream: events with a name or data. (A line feed after a CR that ended an event may stand alone.)
fn told(cap: usize, chunks: &[&[u8]]) -> Vec<(Option<String>, String, bool)> {
    let real = scan(cap, chunks).into_iter().filter(|seen| !seen.comment_only);
    real.map(|seen| (seen.event, seen.data, seen.complete)).collect()
}

fn message(event: Option<&str>, data: &str, raw_len: usize) -> Seen {
    let event = event.map(str::to_owned);
    Seen { event, data: data.into(), comment_only: false, oversized: false, complete: true, raw_len }
}

#[test]
fn events_of_every_shape() {
    let stream = b": PROCESSING\n\ndata: {\"a\":1}\n\nevent: ping\ndata:x\nid: 1\nretry: 5\n\ndata: 1\ndata\ndata:  2\n\n\nevent: only\n\nDATA: no\n\ndata: [DONE]";
    let comment = |raw_len| Seen { comment_only: true, ..message(None, "", raw_len) };
    assert_eq!(
        scan(100, &[stream]),
        [
            comment(14),
            message(None, "{\"a\":1}", 15),
            message(Some("ping"), "x", 35),
            message(None, "1\n\n 2", 23),
            comment(1),
            message(Some("only"), "", 13),
            message(None, "", 10),
            Seen { complete: false, ..message(None, "[DONE]", 12) },
        ]
    );
}

#[test]
fn every_line_end_and_every_split_tells_the_same() {
    for end in ["\n", "\r\n", "\r"] {
        let stream = "\u{feff}data: 1|:c|event: e||data: 2|data: 3|||event: ünï|data: 4||: c||data: last"
            .replace('|', end);
        let bytes = stream.as_bytes();
        let whole = told(100, &[bytes]);
        let want = [
            (Some("e".to_owned()), "1".to_owned(), true),
            (None, "2\n3".to_owned(), true),
            (Some("ünï".to_owned()), "4".to_owned(), true),
            (None, "last".to_owned(), false),
        ];
        assert_eq!(whole, want, "{end:?}");
        for split in 0..=bytes.len() {
            assert_eq!(told(100, &[&bytes[..split], &bytes[split..]]), want, "{end:?} {split}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(told(100, &single), want, "{end:?}");
    }
}

#[test]
fn an_event_is_reported_as_soon_as_its_last_byte_is_there() {
    for stream in ["data: x\n\n", "data: x\r\n\r\n", "data: x\r\r"] {
        let mut scanner = Scanner::default();
        let bytes = stream.as_bytes();
        // With CR LF the CR of the blank line already ends it.
        let due =
            if stream.ends_with('\n') && stream.contains('\r') { bytes.len() - 2 } else { bytes.len() - 1 };
        for (at, byte) in bytes.iter().enumerate() {
            let mut count = 0;
            scanner.feed(&[*byte], &mut |event| count += usize::from(!event.data.is_empty()));
            assert_eq!(count, usize::from(at == due), "{stream:?} {at}");
        }
    }
}

#[test]
fn data_inside_a_chunk_is_borrowed_from_it() {
    let chunk = b"data: one\n\nevent: x\ndata: two\n\n";
    let range = chunk.as_ptr_range();
    let mut count = 0;
    Scanner::default().feed(chunk, &mut |event| {
        assert!(range.contains(&event.data.as_ptr()), "copied");
        count += 1;
    });
    assert_eq!(count, 2);
}

#[test]
fn an_event_beyond_the_cap_is_passed_on_in_parts_and_the_next_is_read_again() {
    let big = [b"data: ".as_slice(), &[b'a'; 50], b"\n\ndata: next\n\n"].concat();
    for size in [1, 7, 10, 30] {
        let chunks: Vec<&[u8]> = big.chunks(size).collect();
        let all = scan(20, &chunks);
        assert!(all[0].oversized && all[0].raw_len > 20 && !all[0].complete);
        let parts = all.iter().filter(|seen| seen.oversized).count();
        assert!(all[..parts].iter().all(|seen| seen.oversized && seen.data.is_empty()));
        assert!(all[parts - 1].complete, "the last part says that it is over");
        assert_eq!(all[parts], message(None, "next", 12));
        assert_eq!(all.len(), parts + 1);
    }
    // Nothing is kept while it passes.
    let mut scanner = Scanner::new(20);
    for _ in 0..100 {
        scanner.feed(&[b'a'; 64], &mut |_| ());
        assert_eq!(scanner.pending(), 0);
    }
}

#[test]
fn a_buffer_that_grew_is_given_back() {
    let mut scanner = Scanner::default();
    scanner.feed(&vec![b'a'; 900_000], &mut |_| ());
    assert_eq!(scanner.pending(), 900_000);
    scanner.feed(b"\n\n", &mut |event| assert_eq!(event.raw_len, 900_002));
    assert!(scanner.carry.capacity() <= super::CARRY_BYTES_KEPT);
}

#[test]
fn names_that_are_not_utf8_are_none() {
    let mut count = 0;
    Scanner::default().feed(b"event: \xff\ndata: \xfe\n\n", &mut |event| {
        assert_eq!((event.event, event.data), (None, b"\xfe".as_slice()));
        count += 1;
    });
    assert_eq!(count, 1);
}

proptest! {
    #[test]
    fn chunking_changes_nothing(stream in "(data|event|:|id|: ?|[a-z]{0,3}|\r|\n|\r\n|\n\n|\u{feff}){0,40}",
                                cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let bytes = stream.as_bytes();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut at = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[at..cut]);
            at = cut;
        }
        prop_assert_eq!(told(1000, &chunks), told(1000, &[bytes]));
    }

    #[test]
    fn arbitrary_bytes_are_all_reported(chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), any::<u8>()], 0..30), 0..8),
                                        cap in 0_usize..40) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        scan(cap, &chunks);
    }
}
