//! Which requests belong to one conversation, so that they can go where its prompt is cached.
//!
//! A provider's prompt cache goes by the beginning of the prompt. So the key is the session that the caller names, or
//! else the beginning that all turns of a conversation share: the first system message and the first message that is
//! not one. Only these are read, however long the conversation grew.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::head::Head;
use crate::scan::Scan;

/// How much of each text enters the hash, in bytes, with its whole length beside it. Two texts that agree so far share
/// that much of a prompt cache anyway.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// How many messages are looked at for the first one that is no system message.
const MESSAGES_MAX: usize = 8;

/// A hash of the conversation that a request belongs to: the same for all its turns, on every machine and in every
/// version. Not a secret, and not safe against collisions made on purpose: mix the client in before use.
pub fn prefix_hash(head: &Head<'_>) -> u64 {
    let mut hash = Hash::new();
    hash.text("model", head.model.as_ref().map_or("", |model| model.value.as_ref()));
    if let Some(session) = head.session_id.as_deref().or(head.prompt_cache_key.as_deref()) {
        hash.text("session", session);
        return hash.finish();
    }
    for system in [&head.system, &head.instructions].into_iter().flatten() {
        hash.text("system", system.raw);
    }
    for (name, part) in [("message", &head.messages), ("message", &head.input), ("prompt", &head.prompt)] {
        // Lists were looked at when the body was walked.
        if let Some(text) = part.as_ref().filter(|part| !part.raw.starts_with('[')) {
            hash.text(name, text.raw);
        }
    }
    hash.word(head.seen.opening);
    hash.finish()
}

/// Passes a list of messages and hashes what it begins with: the messages up to the first that is no system message.
/// `None` where something is unusual; then [`opening_slowly`] says the same of the list's text.
pub(crate) fn opening(scan: &mut Scan<'_>) -> Option<u64> {
    let mut opening = Opening { hash: Hash::new(), left: MESSAGES_MAX };
    scan.list(|scan| {
        if opening.left == 0 {
            return scan.value();
        }
        if scan.peek()? != b'{' {
            opening.text(scan.raw()?.0);
            return Some(());
        }
        let start = scan.at();
        let (mut role, mut content) = (None, None);
        scan.object(|scan, name| {
            let (raw, _) = scan.raw()?;
            let slot = match name {
                "role" => &mut role,
                "content" => &mut content,
                _ => return Some(()),
            };
            // Given twice: the parser's question.
            slot.replace(raw).is_none().then_some(())
        })?;
        let (whole, _) = scan.since(start)?;
        opening.message(role.filter(|raw| *raw != "null"), content.filter(|raw| *raw != "null"), whole);
        Some(())
    })?;
    Some(opening.hash.finish())
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// See [`opening`]. `list` is the text of a whole list.
pub(crate) fn opening_slowly(list: &str) -> u64 {
    let mut opening = Opening { hash: Hash::new(), left: MESSAGES_MAX };
    let elements: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    for whole in elements.into_iter().map(RawValue::get) {
        if opening.left == 0 {
            break;
        }
        match serde_json::from_str::<Message<'_>>(whole) {
            Ok(m) if whole.starts_with('{') => {
                opening.message(m.role.map(RawValue::get), m.content.map(RawValue::get), whole);
            }
            _ => opening.text(whole),
        }
    }
    opening.hash.finish()
}

/// What was taken in of a list of messages.
struct Opening {
    hash: Hash,
    /// Messages that are still looked at.
    left: usize,
}

impl Opening {
    /// An element that is no message, such as a text or tokens: it stands for the list.
    fn text(&mut self, raw: &str) {
        self.hash.text("message", raw);
        self.left = 0;
    }

    fn message(&mut self, role: Option<&str>, content: Option<&str>, whole: &str) {
        let role = role.unwrap_or_default();
        self.hash.text(role, content.unwrap_or(whole));
        let is_system = matches!(role, "\"system\"" | "\"developer\"");
        self.left = if is_system { self.left - 1 } else { 0 };
    }
}

/// A 64-bit hash over named texts, sixteen bytes at a time: multiply wide and fold, as in wyhash (Wang Yi, public
/// domain). Ours, because the standard library's is not promised to stay the same.
struct Hash(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xd6e8_feb8_6659_fd93;

impl Hash {
    fn new() -> Self {
        Hash(SEED)
    }

    /// Takes in a text under a name; lengths too, so that texts cannot run into one another.
    fn text(&mut self, name: &str, text: &str) {
        self.beginning(name, text);
        self.word(text.len() as u64);
    }

    /// Takes in the beginning of a text under a name.
    fn beginning(&mut self, name: &str, text: &str) {
        self.bytes(name.as_bytes());
        self.bytes(&text.as_bytes()[..text.len().min(TEXT_BYTES_MAX)]);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            let pair = u128::from_le_bytes(*pair);
            #[expect(clippy::cast_possible_truncation, reason = "one half, then the other")]
            self.mix(pair as u64, (pair >> 64) as u64);
        }
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0_u8; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.mix(word, 0);
    }

    fn mix(&mut self, one: u64, other: u64) {
        let wide = u128::from(self.0 ^ one) * u128::from(MIX ^ other);
        // A zero product would stay zero: adding the seed keeps the state moving.
        #[expect(clippy::cast_possible_truncation, reason = "the two halves are folded")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        self.0 = folded.wrapping_add(SEED).rotate_left(23);
    }

    fn finish(mut self) -> u64 {
        self.word(0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{opening, opening_slowly, prefix_hash};
    use crate::head::{BodyKind, parse};
    use crate::scan::Scan;
    use proptest::prelude::*;

    fn hash(body: &str) -> u64 {
        prefix_hash(&parse(body.as_bytes(), BodyKind::Chat).unwrap())
    }

    fn chat(messages: &str) -> u64 {
        hash(&format!(r#"{{"model":"m","messages":[{messages}]}}"#))
    }

    const SYSTEM: &str = r#"{"role":"system","content":"be brief"}"#;
    const USER: &str = r#"{"role":"user","content":"hello"}"#;

    #[test]
    fn the_turns_of_a_conversation_share_their_hash() {
        let first = chat(&format!("{SYSTEM},{USER}"));
        assert_eq!(
            first,
            chat(&format!("{SYSTEM} , {USER},{{\"role\":\"assistant\",\"content\":\"hi\"}},{USER}"))
        );
        assert_eq!(first, hash(&format!(r#"{{"messages":[{SYSTEM},{USER}],"temperature":1,"model":"m"}}"#)));
    }

    #[test]
    fn other_conversations_differ() {
        let hashes = [
            chat(&format!("{SYSTEM},{USER}")),
            chat(USER),
            chat(r#"{"role":"user","content":"hello!"}"#),
            chat(r#"{"role":"system","content":"be long"},{"role":"user","content":"hello"}"#),
            hash(&format!(r#"{{"model":"n","messages":[{SYSTEM},{USER}]}}"#)),
            hash(r#"{"model":"m","system":"be brief","messages":[{"role":"user","content":"hello"}]}"#),
            hash(r#"{"model":"m","prompt":"hello"}"#),
            hash(r#"{"model":"m","input":["hello"]}"#),
            hash(r#"{"model":"m","input":[1,2]}"#),
            hash(r#"{"model":"m"}"#),
        ];
        let distinct: HashSet<u64> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn a_huge_first_message_stands_by_its_beginning_in_every_turn() {
        let image = format!(r#"{{"role":"user","content":"{}"}}"#, "iVBORw0KGgo".repeat(20_000));
        let first = chat(&image);
        assert_eq!(first, chat(&format!("{image},{USER},{image}")));
        assert_eq!(first, chat(&format!("{image},{{\"role\":\"assistant\",\"content\":\"é\"}}")));
        assert_ne!(first, chat(&image.replacen("iVBO", "aVBO", 1)));
        // A long system prompt does not hide the first question.
        let system = SYSTEM.replace("be brief", &"be brief ".repeat(8_000));
        assert_ne!(
            chat(&format!("{system},{USER}")),
            chat(&format!("{system},{}", USER.replace("hello", "bye")))
        );
    }

    #[test]
    fn a_named_session_decides_alone_and_the_session_goes_before_the_cache_key() {
        let one = hash(r#"{"model":"m","session_id":"s","prompt_cache_key":"x","messages":["a"]}"#);
        assert_eq!(one, hash(r#"{"model":"m","session_id":"s","prompt_cache_key":"y","messages":["b"]}"#));
        assert_eq!(one, hash(r#"{"model":"m","prompt_cache_key":"s","messages":["c"]}"#));
        assert_ne!(one, hash(r#"{"model":"m","session_id":"t","messages":["a"]}"#));
    }

    proptest! {
        #[test]
        fn the_parser_finds_the_same_opening(
            messages in prop::collection::vec(prop::sample::select(vec![
                r#"{"role":"system","content":"a"}"#,
                r#"{"content" : ["a", {"role":1}], "role" : "developer", "name":"x"}"#,
                r#"{"role":null,"content":null}"#,
                r#"{"role":"user","content":"b"}"#,
                r#"{"role":"user","role":"system","content":"b"}"#,
                r#"{"r\u006fle":"system","content":"c"}"#,
                "{}",
                "{ }",
                "\"text\"",
                "[1 , 2]",
                "7",
                "null",
            ]), 0..12),
            space in prop::sample::select(vec!["", " ", "\n "]),
        ) {
            let list = format!("[{space}{}{space}]", messages.join(&format!("{space},{space}")));
            let mut scan = Scan::new(&list);
            if let Some(quick) = opening(&mut scan) {
                prop_assert!(scan.is_at_end());
                prop_assert_eq!(quick, opening_slowly(&list), "{}", list);
            } else {
                prop_assert!(list.contains("\"role\":\"system\",\"content\":\"b\"") || list.contains('\\'), "{}", list);
            }
        }
    }

    #[test]
    fn a_body_that_the_parser_has_to_read_belongs_to_the_same_conversation() {
        let list = format!("{SYSTEM},{USER}");
        // A name with an escape is none that is read quickly.
        assert_eq!(chat(&list), hash(&format!(r#"{{"model":"m","messages":[{list}],"metad\u0061ta":1}}"#)));
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(chat(USER), 6_127_559_225_887_526_143);
    }
}
