//! A stream of any bytes: every byte is reported once, and where it is cut changes nothing.
#![no_main]

use keymux_wire::sse::{Event, Scanner};
use keymux_wire::stream::{self, StreamKind};
use libfuzzer_sys::fuzz_target;

type Told = (Option<String>, Vec<u8>, bool);

fn told(chunks: &[&[u8]]) -> Vec<Told> {
    let mut scanner = Scanner::default();
    let (mut all, mut at) = (Vec::new(), 0);
    let mut sink = |event: Event<'_>| {
        assert_eq!(event.start, at);
        at += event.raw_len as u64;
        for kind in [StreamKind::Chat, StreamKind::Responses, StreamKind::Messages] {
            let _ = stream::read(kind, &event);
            let _ = stream::is_mere_output(kind, &event);
        }
        if !event.comment_only {
            all.push((event.event.map(str::to_owned), event.data.to_vec(), event.complete));
        }
    };
    for chunk in chunks {
        scanner.feed(chunk, &mut sink);
    }
    scanner.finish(&mut sink);
    assert_eq!(at, chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>());
    all
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, stream)) = input.split_first() else { return };
    let cut = usize::from(*cut).min(stream.len());
    assert_eq!(told(&[stream]), told(&[&stream[..cut], &stream[cut..]]));
});
