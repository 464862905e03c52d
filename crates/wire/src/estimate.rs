//! The size of a request's input, without a tokenizer.
//!
//! Providers admit by an estimate from characters, so bytes of text are as right as tokens for admission, and cost
//! microseconds. What is left is to keep out what is not text: the base64 of images, audio and files. One look for
//! `"type"` finds those parts, where the walk over the body met any; only if there are is the text searched for base64.
//!
//! The guess is a start; how far it is off for a model is learned from real usage elsewhere.

use memchr::memmem::Finder;
use std::sync::LazyLock;

use crate::head::{Head, RawSpan};

/// What a request's input consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Bytes of JSON text, without base64.
    pub input_text_bytes: u64,
    /// Of those, bytes beyond ASCII.
    pub input_wide_bytes: u64,
    /// Images.
    pub images: u32,
    /// Pieces of audio.
    pub audio: u32,
    /// Documents and other files.
    pub files: u32,
    /// Bytes of base64.
    pub media_bytes: u64,
}

/// What an image is taken for, in tokens: between the usual costs of small and large ones.
const IMAGE_TOKENS: u64 = 800;
/// What a file is taken for at least, in tokens.
const FILE_TOKENS: u64 = 1_500;
/// Bytes of base64 of audio a token: ten tokens a second of compressed speech at 32 kbit/s.
const AUDIO_BYTES_A_TOKEN: u64 = 500;

impl Size {
    /// Measures what the head points at.
    pub fn of(head: &Head<'_>) -> Size {
        let mut size = Size::default();
        let parts =
            [&head.messages, &head.input, &head.prompt, &head.system, &head.instructions, &head.tools];
        for part in parts.into_iter().flatten() {
            size.add(part, head.seen.types);
        }
        size
    }

    /// A guess at the tokens of the input: a quarter of the ASCII bytes, two fifths of the others (a character of
    /// Chinese or Japanese has three bytes and takes about one token), and fixed costs for media.
    pub fn input_token_guess(&self) -> u64 {
        let ascii = self.input_text_bytes.saturating_sub(self.input_wide_bytes);
        let text = ascii.div_ceil(4).saturating_add(self.input_wide_bytes.saturating_mul(2).div_ceil(5));
        let audio = if self.audio > 0 { self.media_bytes / AUDIO_BYTES_A_TOKEN } else { 0 };
        text.saturating_add(u64::from(self.images).saturating_mul(IMAGE_TOKENS))
            .saturating_add(u64::from(self.files).saturating_mul(FILE_TOKENS))
            .saturating_add(audio)
    }

    /// Whether most of its text is beyond ASCII.
    pub fn is_wide(&self) -> bool {
        self.input_wide_bytes > self.input_text_bytes / 2
    }

    fn add(&mut self, part: &RawSpan<'_>, has_types: bool) {
        let bytes = part.raw.as_bytes();
        let before = (self.images, self.audio, self.files);
        if has_types {
            self.count_media(bytes);
        }
        let media = if before == (self.images, self.audio, self.files) { 0 } else { base64_bytes(bytes) };
        let wide = wide_bytes(bytes);
        self.media_bytes += media;
        self.input_text_bytes += (bytes.len() as u64).saturating_sub(media);
        self.input_wide_bytes += wide;
    }

    /// Counts the parts whose `type` is a medium. In model text the quotes are escaped, so it does not match there.
    fn count_media(&mut self, bytes: &[u8]) {
        for at in TYPE.find_iter(bytes) {
            let rest = bytes[at + TYPE.needle().len()..].trim_ascii_start();
            let Some(rest) = rest.strip_prefix(b":") else { continue };
            let Some(word) = rest.trim_ascii_start().strip_prefix(b"\"") else { continue };
            let end = word.iter().take(32).position(|byte| *byte == b'"').unwrap_or(0);
            match &word[..end] {
                b"image_url" | b"input_image" | b"image" => self.images = self.images.saturating_add(1),
                b"input_audio" | b"audio" => self.audio = self.audio.saturating_add(1),
                b"file" | b"input_file" | b"document" | b"video_url" => {
                    self.files = self.files.saturating_add(1);
                }
                _ => {}
            }
        }
    }
}

/// How many bytes are beyond ASCII. Summed up in bytes over short stretches, so that the compiler can do many at once.
fn wide_bytes(bytes: &[u8]) -> u64 {
    if bytes.is_ascii() {
        return 0;
    }
    let stretches = bytes.chunks(192);
    stretches
        .map(|stretch| u64::from(stretch.iter().fold(0_u8, |sum, byte| sum.wrapping_add(byte >> 7))))
        .sum()
}

static TYPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"type\""));
static DATA_URL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(";base64,"));
static DATA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"data\""));

/// Shorter strings than this are not worth telling apart, in bytes.
const BASE64_BYTES_MIN: usize = 64;

/// Bytes of base64: after `;base64,`, and in strings named `data`.
fn base64_bytes(bytes: &[u8]) -> u64 {
    let in_urls: u64 = DATA_URL.find_iter(bytes).map(|at| run(&bytes[at + DATA_URL.needle().len()..])).sum();
    let in_members: u64 = DATA
        .find_iter(bytes)
        .filter_map(|at| {
            let rest = bytes[at + DATA.needle().len()..].trim_ascii_start().strip_prefix(b":")?;
            // A data URL in it was counted above.
            rest.trim_ascii_start().strip_prefix(b"\"").map(run)
        })
        .sum();
    in_urls + in_members
}

/// The length of the base64 that begins here, up to the end of its string. Text has spaces or punctuation early on.
fn run(bytes: &[u8]) -> u64 {
    let end = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    let is_base64 =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    let looks_like_it = end >= BASE64_BYTES_MIN && bytes[..BASE64_BYTES_MIN].iter().all(is_base64);
    if looks_like_it { end as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::Size;
    use crate::head::{BodyKind, parse};

    fn size(kind: BodyKind, body: &str) -> Size {
        Size::of(&parse(body.as_bytes(), kind).unwrap())
    }

    #[test]
    fn text_is_a_quarter_and_wide_text_is_more() {
        let ascii = size(BodyKind::Chat, &format!(r#"{{"model":"m","messages":"{}"}}"#, "a".repeat(3998)));
        assert_eq!((ascii.input_text_bytes, ascii.input_wide_bytes), (4000, 0));
        assert_eq!(ascii.input_token_guess(), 1000);
        assert!(!ascii.is_wide());
        let wide = size(BodyKind::Chat, &format!(r#"{{"model":"m","messages":"{}"}}"#, "漢".repeat(1000)));
        assert_eq!(wide.input_wide_bytes, 3000);
        assert_eq!(wide.input_token_guess(), 1201);
        assert!(wide.is_wide());
    }

    #[test]
    fn every_dialects_images_count_once_and_their_base64_is_no_text() {
        let base64 = "iVBORw0KGgo".repeat(1000);
        for part in [
            format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}"}}}}"#),
            format!(r#"{{"type" : "input_image","image_url":"data:image/png;base64,{base64}"}}"#),
            format!(
                r#"{{"source":{{"type":"base64","media_type":"image/png","data": "{base64}"}},"type":"image"}}"#
            ),
        ] {
            let got =
                size(BodyKind::Chat, &format!(r#"{{"model":"m","messages":[{{"content":[{part}]}}]}}"#));
            assert_eq!((got.images, got.audio, got.files), (1, 0, 0), "{part:.60}");
            assert_eq!(got.media_bytes, 11_000);
            assert!(got.input_text_bytes < 150 && got.input_token_guess() < 900, "{got:?}");
        }
    }

    #[test]
    fn media_count_wherever_they_stand_and_however_the_body_was_read() {
        let image = r#"{"type":"image_url","image_url":{"url":"data:x"}}"#;
        for body in [
            format!(r#"{{"messages":[{{"role":"user","content":[{image}]}}],"model":"m"}}"#),
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":""}},{{"content":{{"a":[0,{image}]}}}}]}}"#
            ),
            format!(r#"{{"model":"m","input":[{image}]}}"#),
            // A name with an escape is left to the parser.
            format!(r#"{{"mod\u0065l":"m","messages":[{{"content":[{image}]}}]}}"#),
        ] {
            assert_eq!(size(BodyKind::Chat, &body).images, 1, "{body}");
        }
    }

    #[test]
    fn text_about_images_is_text() {
        let got = size(
            BodyKind::Chat,
            r#"{"model":"m","messages":[{"type":"text","text":"{\"type\":\"image\",\"data\":\"x\"} \"type\": \"image_url\""}]}"#,
        );
        assert_eq!((got.images, got.media_bytes), (0, 0));
        // A member called data that holds prose is prose.
        let prose = "word and ".repeat(50);
        let got = size(
            BodyKind::Chat,
            &format!(r#"{{"model":"m","messages":[{{"type":"file","data":"{prose}"}}]}}"#),
        );
        assert_eq!((got.files, got.media_bytes), (1, 0));
    }

    #[test]
    fn every_field_that_is_input_counts() {
        let got = size(
            BodyKind::Responses,
            r#"{"model":"m","input":"abcd","instructions":"ef","system":"g","tools":[],"prompt":{},"metadata":"not this"}"#,
        );
        assert_eq!(got.input_text_bytes, 6 + 4 + 3 + 2 + 2);
    }
}
