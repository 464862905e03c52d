//! A provider that says a key back ("Incorrect API key provided: sk-…") must not tell it to the caller.

use bytes::Bytes;
use http::HeaderValue;
use memchr::memmem;

/// What stands where a credential stood.
const INSTEAD: &[u8] = b"[redacted]";
/// A shorter credential is a word that may occur by chance, such as the key of a local server.
const SECRET_BYTES_MIN: usize = 8;

/// The text without the credential that was sent for it. Nothing is copied where it does not occur.
pub fn credential(text: Bytes, sent: &HeaderValue) -> Bytes {
    let secret = sent.as_bytes();
    let secret = secret.strip_prefix(b"Bearer ").unwrap_or(secret);
    if secret.len() < SECRET_BYTES_MIN {
        return text;
    }
    let finder = memmem::Finder::new(secret);
    if finder.find(&text).is_none() {
        return text;
    }
    let mut clean = Vec::with_capacity(text.len());
    let mut from = 0;
    for at in finder.find_iter(&text) {
        clean.extend_from_slice(&text[from..at]);
        clean.extend_from_slice(INSTEAD);
        from = at + secret.len();
    }
    clean.extend_from_slice(&text[from..]);
    Bytes::from(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credential_goes_however_often_it_is_said_and_nothing_else_does() {
        let sent = HeaderValue::from_static("Bearer sk-test-12345");
        let said = Bytes::from_static(b"bad key sk-test-12345 (sk-test-12345), not sk-test-1234");
        assert_eq!(credential(said, &sent), "bad key [redacted] ([redacted]), not sk-test-1234");
        let plain = HeaderValue::from_static("sk-test-12345");
        assert_eq!(credential(Bytes::from_static(b"sk-test-12345"), &plain), "[redacted]");
        let silent = Bytes::from_static(b"nothing of it");
        assert_eq!(credential(silent.clone(), &sent).as_ptr(), silent.as_ptr(), "no copy");
    }

    #[test]
    fn a_word_is_no_secret() {
        let sent = HeaderValue::from_static("Bearer ollama");
        assert_eq!(credential(Bytes::from_static(b"ollama says"), &sent), "ollama says");
    }
}
