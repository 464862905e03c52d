//! Reads a stream while it passes: what went by, what it used, how it ended. Bytes leave as they came, event by event:
//! nobody can use half an event, and a stream that breaks can be ended with a well-formed one only between two. The
//! usage chunk which keymux itself asked for is taken out again.

use bytes::{Bytes, BytesMut};
use keymux_wire::error::ErrorFacts;
use keymux_wire::sse::{Event, Scanner};
use keymux_wire::stored::{Watch, made};
use keymux_wire::stream::{Kind, StreamKind, is_mere_output, read};
use keymux_wire::usage::Usage;

/// Events and bytes that are held back at most while no output was seen.
pub const HOLD_EVENTS_MAX: u32 = 64;
/// See [`HOLD_EVENTS_MAX`].
pub const HOLD_BYTES_MAX: usize = 256 << 10;

/// Largest event that is read; a larger one passes unread.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Bytes of text that are taken for a token.
const BYTES_A_TOKEN: u64 = 4;

/// A guess at the tokens of so much JSON, of which so much may be names, ids and braces.
pub fn tokens_guess(bytes: u64, around: u64) -> u64 {
    bytes.saturating_sub(around).div_ceil(BYTES_A_TOKEN)
}

/// What has gone by.
pub struct StreamReader {
    scanner: Scanner,
    /// The beginning of an event whose end has not come.
    tail: BytesMut,
    /// Offset in the stream of the first byte of `tail`.
    tail_at: u64,
    seen: Seen,
}

/// What the events said.
#[expect(clippy::struct_excessive_bools, reason = "each is one fact about the stream, in any combination")]
pub struct Seen {
    kind: StreamKind,
    take_usage: bool,
    /// What is made for the request at the provider, as far as it is to be noted.
    watch: Watch,
    made: Vec<String>,
    /// Output began.
    pub output: bool,
    /// Events before the first output.
    pub held: u32,
    /// Events that carried something, and their bytes.
    events: u32,
    bytes: u64,
    /// What an event has around its text, as far as the shortest one tells.
    frame: u64,
    /// What it used, as far as it was said.
    pub usage: Option<Usage>,
    /// The answer's id.
    pub id: Option<Box<str>>,
    /// A part of an oversized event has gone by, its end has not.
    inside: bool,
    /// The well-formed end came.
    pub done: bool,
    /// The model said why it stopped.
    pub finished: bool,
    /// An error came inside the stream.
    pub error: Option<ErrorFacts>,
}

impl StreamReader {
    /// For a stream of this kind. `take_usage`: keymux asked for the usage chunk, the caller did not.
    pub fn new(kind: StreamKind, take_usage: bool) -> Self {
        let seen = Seen {
            kind,
            take_usage,
            watch: Watch::default(),
            made: Vec::new(),
            output: false,
            held: 0,
            events: 0,
            bytes: 0,
            // One that is longer says something, be it the only one.
            frame: match kind {
                StreamKind::Messages => 80,
                StreamKind::Responses => 300,
                StreamKind::Chat | StreamKind::Completions => 500,
            },
            usage: None,
            id: None,
            inside: false,
            done: false,
            finished: false,
            error: None,
        };
        Self { scanner: Scanner::new(EVENT_BYTES_MAX), tail: BytesMut::new(), tail_at: 0, seen }
    }

    /// Ids of what is made for the request at the provider are noted too.
    #[must_use]
    pub fn watching(mut self, watch: Watch) -> Self {
        self.seen.watch = watch;
        self
    }

    /// Those that came since the last time.
    pub fn take_made(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen.made)
    }

    /// What the events said so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether the stream came to a proper end.
    pub fn is_complete(&self) -> bool {
        self.seen.done || self.seen.finished
    }

    /// A guess at the tokens that went by, for a stream that nobody tells the usage of: at least one an event, more where
    /// events are longer than the shortest.
    pub fn output_tokens_guess(&self) -> u64 {
        let Seen { events, bytes, frame, .. } = self.seen;
        let events = u64::from(events);
        events.max(tokens_guess(bytes, frame.saturating_mul(events)))
    }

    /// Takes a chunk, hands on what may leave.
    pub fn feed(&mut self, chunk: &Bytes, out: &mut impl FnMut(Bytes)) {
        let mut whole = if self.tail.is_empty() {
            chunk.clone()
        } else {
            self.tail.extend_from_slice(chunk);
            self.tail.split().freeze()
        };
        let seen = &mut self.seen;
        // Offsets of the stream, relative to `whole`.
        let base = self.tail_at;
        let mut passed = base;
        let mut leave = |from: u64, to: u64, whole: &Bytes| {
            if to > from {
                out(whole.slice(offset(from - base)..offset(to - base)));
            }
        };
        let mut from = base;
        self.scanner.feed(chunk, &mut |event| {
            let end = event.start + event.raw_len as u64;
            if seen.note(&event) {
                leave(from, event.start, &whole);
                from = end;
            }
            passed = end;
        });
        leave(from, passed, &whole);
        let rest = whole.split_off(offset(passed - base));
        self.tail_at = passed;
        self.tail.extend_from_slice(&rest);
    }

    /// The stream ended: reads what is left, and hands it on if it makes the stream whole. Half an event is dropped: an
    /// error event that follows it would be read as its end.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        let seen = &mut self.seen;
        let mut take = false;
        self.scanner.finish(&mut |event| take |= seen.note(&event));
        let rest = self.tail.split().freeze();
        if !rest.is_empty() && !take && (self.is_complete() || self.seen.error.is_some()) {
            out(rest);
        }
    }

    /// Whether part of an event has left already (one that is too large to be held), so that no event can follow it.
    pub fn is_inside_event(&self) -> bool {
        self.seen.inside
    }
}

fn offset(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Seen {
    /// Notes an event. Returns whether it must be taken out.
    fn note(&mut self, event: &Event<'_>) -> bool {
        self.inside = event.oversized && !event.complete;
        if event.oversized {
            self.output = true;
            self.bytes += event.raw_len as u64;
            return false;
        }
        self.made.extend(made(event.data, self.watch));
        self.held += u32::from(!self.output);
        if self.output && is_mere_output(self.kind, event) {
            self.count(event);
            return false;
        }
        let meaning = read(self.kind, event);
        self.finished |= meaning.finish;
        if self.id.is_none() {
            self.id = meaning.answer_id;
        }
        if let Some(usage) = &meaning.usage {
            match &mut self.usage {
                Some(known) => known.merge(usage),
                None => self.usage = Some(usage.clone()),
            }
        }
        match meaning.kind {
            Kind::Output => {
                self.output = true;
                self.count(event);
            }
            Kind::Done => self.done = true,
            Kind::Error(facts) => self.error = Some(facts),
            Kind::UsageOnly => return self.take_usage,
            Kind::Other if self.output => self.count(event),
            // An opening chunk without a word shows best how long one is.
            Kind::Silence if self.kind == StreamKind::Chat && !self.output && !event.comment_only => {
                self.frame = self.frame.min(event.data.len() as u64);
            }
            Kind::Silence | Kind::Other => {}
        }
        false
    }

    fn count(&mut self, event: &Event<'_>) {
        let bytes = event.data.len() as u64;
        self.events += 1;
        self.bytes += bytes;
        self.frame = self.frame.min(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n\
        : a comment\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi \\\"usage\\\" \"}}],\"usage\":null}\r\n\r\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n\
        data: [DONE]\n\n";

    /// Feeds the stream in pieces of these sizes (the last one again and again).
    fn passed(text: &str, take_usage: bool, sizes: &[usize]) -> (String, StreamReader) {
        let mut reader = StreamReader::new(StreamKind::Chat, take_usage);
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        let mut index = 0;
        while !rest.is_empty() {
            let size = sizes[index.min(sizes.len() - 1)].clamp(1, rest.len());
            let (chunk, tail) = rest.split_at(size);
            reader.feed(&Bytes::copy_from_slice(chunk), &mut |b| out.extend_from_slice(&b));
            rest = tail;
            index += 1;
        }
        reader.finish(&mut |b| out.extend_from_slice(&b));
        (String::from_utf8(out).unwrap(), reader)
    }

    #[test]
    fn bytes_leave_as_they_came_however_they_were_cut() {
        for size in 1..=STREAM.len() {
            let (out, reader) = passed(STREAM, false, &[size]);
            assert_eq!(out, STREAM, "pieces of {size}");
            assert!(reader.is_complete());
            assert_eq!(reader.seen().usage.as_ref().map(|u| u.output_tokens), Some(2));
        }
    }

    #[test]
    fn the_usage_chunk_that_was_added_is_taken_out_however_it_was_cut() {
        let start = STREAM.find("data: {\"choices\":[],").unwrap();
        let end = STREAM.find("data: [DONE]").unwrap();
        let wanted = format!("{}{}", &STREAM[..start], &STREAM[end..]);
        for first in 1..=STREAM.len() {
            let (out, reader) = passed(STREAM, true, &[first, 7]);
            assert_eq!(out, wanted, "first piece of {first}");
            assert_eq!(reader.seen().usage.as_ref().map(|u| u.input_tokens), Some(7));
        }
    }

    #[test]
    fn nothing_leaves_in_the_middle_of_an_event() {
        let mut reader = StreamReader::new(StreamKind::Chat, false);
        let mut out = Vec::new();
        let cut = STREAM.find("Hi ").unwrap();
        reader.feed(&Bytes::copy_from_slice(&STREAM.as_bytes()[..cut]), &mut |b| out.extend_from_slice(&b));
        assert!(out.ends_with(b": a comment\n\n"), "{}", String::from_utf8_lossy(&out));
        assert!(!reader.seen().output);
    }

    #[test]
    fn a_stream_that_is_cut_is_not_complete() {
        let cut = STREAM.find("data: {\"choices\":[{\"index\":0,\"delta\":{},").unwrap();
        let (_, reader) = passed(&STREAM[..cut], false, &[11]);
        assert!(!reader.is_complete());
        assert!(reader.seen().output);
        assert_eq!(reader.output_tokens_guess(), 1);
    }

    #[test]
    fn tokens_are_guessed_from_what_is_long_about_events() {
        let guess = |kind, events: &[String]| {
            let mut reader = StreamReader::new(kind, false);
            for event in events {
                reader.feed(&Bytes::from(format!("data: {event}\n\n")), &mut |_| {});
            }
            reader.output_tokens_guess()
        };
        let chat = |text: &str| {
            format!(r#"{{"id":"{:0>60}","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#, 1)
        };
        let message = |text: &str| {
            format!(
                r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            )
        };
        assert_eq!(guess(StreamKind::Chat, &vec![chat("word "); 40]), 40, "one an event at least");
        // An opening chunk shows how much of the others is text.
        let long = "many words ".repeat(8);
        let opened = [vec![chat("")], vec![chat(&long); 10]].concat();
        assert_eq!(guess(StreamKind::Chat, &opened), 10 * long.len() as u64 / 4);
        // A whole answer in one event, with nothing to measure it by.
        let all = guess(StreamKind::Chat, &[chat(&"x".repeat(4_000))]);
        assert!((850..=1_000).contains(&all), "{all}");
        let all = guess(StreamKind::Messages, &vec![message(&long); 10]);
        assert!((200..=230).contains(&all), "{all}");
    }

    #[test]
    fn half_an_event_at_the_end_is_dropped_unless_it_is_the_end() {
        let half = STREAM.find("Hi ").unwrap();
        let (out, _) = passed(&STREAM[..half], false, &[5]);
        assert!(out.ends_with(": a comment\n\n"), "{out}");
        let without_blank_line = STREAM.trim_end();
        let (out, reader) = passed(without_blank_line, false, &[5]);
        assert_eq!(out, without_blank_line);
        assert!(reader.is_complete());
    }

    #[test]
    fn no_event_can_follow_the_beginning_of_an_oversized_one() {
        let mut reader = StreamReader::new(StreamKind::Chat, false);
        let huge = format!("data: {{\"x\":\"{}", "y".repeat(EVENT_BYTES_MAX + 10));
        reader.feed(&Bytes::from(huge), &mut |_| {});
        assert!(reader.is_inside_event());
        reader.feed(&Bytes::from_static(b"\"}\n\ndata: {}\n\n"), &mut |_| {});
        assert!(!reader.is_inside_event());
    }

    #[test]
    fn a_finish_without_done_is_an_end_too() {
        let cut = STREAM.find("data: [DONE]").unwrap();
        let (_, reader) = passed(&STREAM[..cut], false, &[64]);
        assert!(reader.is_complete());
    }
}
