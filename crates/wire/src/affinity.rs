//! Which requests belong to one conversation, so that they can go where its prompt is cached.
//!
//! A provider's prompt cache goes by the beginning of the prompt. So the key is the session that the caller names, or
//! else the beginning that all turns of a conversation share: the first system message and the first message that is
//! not one. Only these are read, however long the conversation grew.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::head::Head;
use crate::scan::Scan;
use crate::text::cut;

/// How much of each text enters the hash, in bytes, with its whole length beside it. Two texts that agree so far share
/// that much of a prompt cache anyway.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// How many messages are looked at for the first one that is no system message.
const MESSAGES_MAX: usize = 8;

/// A message longer than this (it holds an image or a book) stands by its beginning, unparsed, in bytes.
const MESSAGE_BYTES_MAX: usize = 128 << 10;

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
        let Some(part) = part else { continue };
        match part.raw.strip_prefix('[') {
            Some(list) => first_messages(list, &mut hash),
            None => hash.text(name, part.raw),
        }
    }
    hash.finish()
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// A message's role and content, as they are written, and its whole length.
type Parts<'a> = (Option<&'a str>, Option<&'a str>, usize);

fn quickly(window: &str) -> Option<Parts<'_>> {
    let (mut role, mut content) = (None, None);
    let mut scan = Scan::new(window);
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
    Some((role.filter(|raw| *raw != "null"), content.filter(|raw| *raw != "null"), scan.at()))
}

fn slowly(window: &str) -> Option<Parts<'_>> {
    let mut elements = serde_json::Deserializer::from_str(window).into_iter::<Message<'_>>();
    let message = elements.next()?.ok()?;
    Some((message.role.map(RawValue::get), message.content.map(RawValue::get), elements.byte_offset()))
}

/// Takes in the messages up to the first that is no system message. `list` is what follows the opening bracket.
fn first_messages(list: &str, hash: &mut Hash) {
    let mut rest = list;
    for _ in 0..MESSAGES_MAX {
        rest = rest.trim_ascii_start();
        if rest.is_empty() || rest.starts_with(']') {
            return;
        }
        if !rest.starts_with('{') {
            // A list of texts or tokens: the first one stands for it.
            let first = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>().next();
            return hash.text("message", first.and_then(Result::ok).map_or("", RawValue::get));
        }
        let window = cut(rest, MESSAGE_BYTES_MAX);
        let Some((role, content, length)) = quickly(window).or_else(|| slowly(window)) else {
            return hash.beginning("message", window);
        };
        let whole = &rest[..length];
        rest = rest[length..].trim_ascii_start().trim_start_matches(',');
        let role = role.unwrap_or_default();
        hash.text(role, content.unwrap_or(whole));
        if !matches!(role, "\"system\"" | "\"developer\"") {
            return;
        }
    }
}

/// A 64-bit hash over named texts, eight bytes at a time: multiply wide and fold, as in wyhash (Wang Yi, public
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
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0_u8; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(MIX);
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

    use super::prefix_hash;
    use crate::head::{BodyKind, parse};

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

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(chat(USER), 3_108_234_592_310_658_589);
    }
}
