//! A strict walk over JSON text that builds nothing: where a value ends, many bytes of a string at a time.
//!
//! Why beside a parser: most of a body is the text of messages, which nobody here reads, and a look at each of its
//! bytes costs more than all decisions about the request. Whatever is unusual (wrong, too deep, an escaped name) gives
//! `None`; then the parser has its say, so that mistakes are named in one place only.

use std::ops::Range;

/// Deepest nesting that is walked; one bit of the stack each.
const DEPTH_MAX: u32 = 127;

/// A place in a JSON text.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    text: &'a str,
    at: usize,
    has_types: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, has_types: false }
    }

    /// A member called `type` was passed: only what has one can be an image or another medium.
    pub(crate) fn has_types(&self) -> bool {
        self.has_types
    }

    /// The offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes white space.
    pub(crate) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Passes this byte and the white space behind it, if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let next = self.peek() == Some(byte);
        if next {
            self.at += 1;
            self.space();
        }
        next
    }

    /// Nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// The text that was passed since `start`.
    pub(crate) fn since(&self, start: usize) -> Option<(&'a str, Range<usize>)> {
        Some((self.text.get(start..self.at)?, start..self.at))
    }

    /// Hands each member of an object to `member`, which has to pass its value. Stops where `member` says `None`.
    pub(crate) fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        if !self.eat(b'{') {
            return None;
        }
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.name()?;
            member(self, name)?;
            self.space();
            match self.peek()? {
                b',' => _ = self.eat(b','),
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Has `element` pass each element of a list.
    pub(crate) fn list(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if !self.eat(b'[') {
            return None;
        }
        if self.peek() == Some(b']') {
            self.at += 1;
            return Some(());
        }
        loop {
            element(self)?;
            self.space();
            match self.peek()? {
                b',' => _ = self.eat(b','),
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// The next value's text and place.
    pub(crate) fn raw(&mut self) -> Option<(&'a str, Range<usize>)> {
        let start = self.at;
        self.value()?;
        self.since(start)
    }

    /// The name of a member, which has no escapes, and the colon behind it.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.at + 1;
        let plain = self.string()?;
        let name = self.text.get(start..self.at - 1)?;
        self.has_types |= name == "type";
        self.space();
        (plain && self.eat(b':')).then_some(name)
    }

    /// Passes a value.
    pub(crate) fn value(&mut self) -> Option<()> {
        // One bit a level: whether it is an object.
        let mut levels = 0_u128;
        let mut depth = 0;
        loop {
            let opened = match self.peek()? {
                b'"' => self.string().map(|_| false)?,
                b'-' | b'0'..=b'9' => self.number().map(|()| false)?,
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                open @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return None;
                    }
                    self.eat(open);
                    depth += 1;
                    levels = levels << 1 | u128::from(open == b'{');
                    // A closing bracket at once is seen below.
                    !matches!(self.peek()?, b'}' | b']')
                }
                _ => return None,
            };
            if opened {
                if levels & 1 == 1 {
                    self.name_of_any()?;
                }
                continue;
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                let in_object = levels & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.eat(b',');
                        if in_object {
                            self.name_of_any()?;
                        }
                        break;
                    }
                    b'}' if in_object => self.at += 1,
                    b']' if !in_object => self.at += 1,
                    _ => return None,
                }
                levels >>= 1;
                depth -= 1;
            }
        }
    }

    /// Passes a string; says whether it has no escapes.
    pub(crate) fn string(&mut self) -> Option<bool> {
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        let mut plain = true;
        loop {
            self.at += plain_bytes(&self.text.as_bytes()[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(plain);
                }
                b'\\' => {
                    plain = false;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at + 1..];
        self.at += match rest.first()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' if rest.get(1..5)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Passes a literal; like every scalar it opens nothing.
    fn word(&mut self, word: &str) -> Option<bool> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())?;
        Some(false)
    }

    /// The name of a member that nobody asks for, and the colon behind it.
    fn name_of_any(&mut self) -> Option<()> {
        let start = self.at + 1;
        let plain = self.string()?;
        // A name with an escape in it may be any.
        self.has_types |= !plain || self.text.as_bytes()[start..self.at - 1] == *b"type";
        self.space();
        self.eat(b':').then_some(())
    }
}

/// Bytes of a string before its end, an escape or a byte that must not be there.
fn plain_bytes(bytes: &[u8]) -> usize {
    // Most strings are short: names, ids, numbers in quotes. Setting up a long sweep costs more than they do.
    let (words, rest) = bytes.as_chunks::<8>();
    let near = &words[..words.len().min(NEAR_WORDS)];
    for (index, word) in near.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let passed = near.len() * 8;
    let far = &bytes[passed..];
    if near.len() == words.len() {
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
        return passed + rest.iter().position(special).unwrap_or(rest.len());
    }
    let end = memchr::memchr2(b'"', b'\\', far).unwrap_or(far.len());
    let plain = &far[..end];
    // Two sweeps of which each looks at many bytes at once.
    if plain.iter().fold(b' ', |least, byte| least.min(*byte)) == b' ' {
        return passed + end;
    }
    passed + plain.iter().position(|byte| *byte < b' ').unwrap_or(end)
}

/// Words of eight bytes that are looked at before a sweep is worth its cost.
const NEAR_WORDS: usize = 4;

/// The high bit of the first byte, counted from the low end, that is a quote, a backslash or below a space; the bits of
/// later bytes mean nothing.
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A byte is zero if it borrows and has no high bit of its own (Mycroft).
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | below_space
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn passes(text: &str) -> bool {
        let mut scan = Scan::new(text);
        scan.space();
        let passed = scan.value().is_some();
        scan.space();
        passed && scan.is_at_end()
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn it_passes_what_is_json_and_nothing_else() {
        let plain = "x".repeat(70);
        let mut texts: Vec<String> = [
            "{}",
            "[]",
            "[[]]",
            "[{}]",
            "{\"a\":[]}",
            "{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":true}",
            " [ 1 , 2 ] ",
            "0",
            "-0",
            "01",
            "1.",
            ".5",
            "1.5e+7",
            "1e",
            "-",
            "+1",
            "1E-2",
            "truex",
            "tru",
            "nul",
            "false",
            "\"\"",
            "\"\\n\\u00e9\\\"\"",
            "\"\\u00g9\"",
            "\"\\x\"",
            "\"\n\"",
            "\"\u{7f}é\"",
            "\"a",
            "\"\\",
            "\"\\u12",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "[}",
            "{]",
            "[1}",
            "{\"a\":1]",
            "]",
            "}",
            "",
            " ",
            "[",
            "{",
            "{\"a\"",
            "{\"a\":1",
            "[1",
            "[]]",
            "{}{}",
            "{\"a\":1,1}",
            "{\"\\u0061\":1}",
        ]
        .map(str::to_owned)
        .to_vec();
        for special in ["\"", "\\n", "\n", "\\"] {
            texts.extend((0..70).map(|at| format!("[\"{}{special}{}\"]", &plain[..at], &plain[at..])));
        }
        for text in texts {
            assert_eq!(passes(&text), is_json(&text), "{text}");
        }
        assert!(passes(&format!("{}{}", "[".repeat(127), "]".repeat(127))));
        assert!(!passes(&format!("{}{}", "[".repeat(128), "]".repeat(128))), "left to the parser");
    }

    #[test]
    fn members_and_elements_are_handed_over_with_their_places() {
        let mut scan = Scan::new("{ \"a\" : [1, {\"x\": 2}] ,\"b\":\"c\" }");
        let mut members = Vec::new();
        let walked = scan.object(|scan, name| {
            members.push((name, scan.raw()?));
            Some(())
        });
        assert_eq!(walked, Some(()));
        assert!(scan.is_at_end());
        assert_eq!(members, [("a", ("[1, {\"x\": 2}]", 8..21)), ("b", ("\"c\"", 27..30))]);
        let mut count = 0;
        let walked = Scan::new("[1, [2], 3]").list(|scan| {
            count += 1;
            scan.value()
        });
        assert_eq!((walked, count), (Some(()), 3));
    }

    proptest! {
        #[test]
        fn it_passes_what_the_parser_passes(
            text in "[\\[\\]{},:\"\\\\ntfu01e.\\- \\x0aé]{0,24}",
            strings in prop::collection::vec(any::<String>(), 0..4),
        ) {
            prop_assert_eq!(passes(&text), is_json(&text), "{}", text);
            let list = serde_json::to_string(&strings).unwrap();
            prop_assert!(passes(&list));
        }
    }
}
