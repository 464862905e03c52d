//! Foreign text made fit for logs and answers: bounded, without control characters, without what looks like a secret
//! or an upstream account.

/// What an error's message may hold, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// What a machine's word (an error code) may hold, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// The start of `text`, at most `bytes_max` long, not within a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Beginnings of words that name keys, organisations, projects or users: not for the eyes of a client.
const PRIVATE: &[&str] =
    &["sk-", "sk_", "org-", "org_", "proj_", "gsk_", "csk-", "xai-", "aiza", "user_", "user-", "ak-"];

/// A message of a provider, bounded, on one line, with private words hidden. `None` if nothing is left.
pub(crate) fn message(text: &str) -> Option<Box<str>> {
    // Far more than can be kept, so that work is bounded by it.
    let text = cut(text, MESSAGE_CHARS_MAX * 8);
    let mut out = String::new();
    for word in text.split([' ', '\n', '\r', '\t']).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        push_word(&mut out, word);
    }
    let kept: String = out.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect();
    (!kept.is_empty()).then(|| kept.into())
}

/// Appends a word, or what stands around its private part.
fn push_word(out: &mut String, word: &str) {
    let mut rest = word;
    while !rest.is_empty() {
        let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.' | '…');
        let start = rest.find(inside).unwrap_or(rest.len());
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        let token = &rest[..end];
        out.push_str(if is_private(token) { "[hidden]" } else { token });
        rest = &rest[end..];
    }
}

fn is_private(token: &str) -> bool {
    let bytes = token.as_bytes();
    bytes.len() >= 10
        && PRIVATE.iter().any(|prefix| {
            bytes.len() > prefix.len() && bytes[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
        })
}

/// A machine's word: bounded, and only the characters that such words are made of. `None` if nothing is left.
pub(crate) fn word(text: &str) -> Option<Box<str>> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    let kept: String = cut(text, WORD_BYTES_MAX).chars().filter(allowed).collect();
    (!kept.is_empty() && !is_private(&kept)).then(|| kept.into())
}

#[cfg(test)]
mod tests {
    use super::{cut, message, word};

    #[test]
    fn messages_are_bounded_and_on_one_line() {
        assert_eq!(message("a\n b\u{7}\tc").as_deref(), Some("a b c"));
        assert_eq!(message(" \n "), None);
        let long = message(&"é ".repeat(10_000)).unwrap();
        assert_eq!(long.chars().count(), 300);
    }

    #[test]
    fn private_words_are_hidden_wherever_they_stand() {
        let said = message(
            "Incorrect API key provided: sk-test-abc***xyz. In organization (org-AbCdEf123456), `proj_0123456`.",
        );
        assert_eq!(
            said.as_deref(),
            Some("Incorrect API key provided: [hidden] In organization ([hidden]), `[hidden]`.")
        );
        assert_eq!(
            message("the org- prefix, task-oriented").as_deref(),
            Some("the org- prefix, task-oriented")
        );
        assert_eq!(word("sk-test-0123456789"), None);
    }

    #[test]
    fn words_hold_only_what_words_are_made_of() {
        assert_eq!(word("rate_limit<script>\n").as_deref(), Some("rate_limitscript"));
        assert_eq!(word("\u{1F600}"), None);
        assert_eq!(cut("aé", 2), "a");
    }
}
