//! Whether what a header says may be a credential. A header's name need not tell: `X-Custom: Basic …` is one, too. Here
//! the doubt counts against a value: one that is listed by mistake is written into the file by hand, and one that is
//! copied by mistake is a secret in a file.

use crate::render::is_surely_secret;

/// How a value begins that proves who somebody is (RFC 9110, 11.6.2).
const SCHEMES: &[&str] = &["basic", "bearer", "digest", "negotiate", "token", "apikey"];
/// A word of fewer characters is not judged by how random it looks.
const LENGTH_MIN: usize = 20;
/// Bits of each character, by how often it comes in the word itself: `aaaa…` has 0, random hexadecimals of that length
/// have 3.2 and more.
const ENTROPY_MIN: f64 = 3.0;

/// Whether a value may hold a secret.
pub(super) fn may_hold_secret(value: &str) -> bool {
    let value = value.trim();
    let first = value.split_whitespace().next().unwrap_or_default();
    // `scheme://user:password@host`.
    (value.contains("://") && value.contains('@'))
        || (first.len() < value.len() && SCHEMES.iter().any(|scheme| first.eq_ignore_ascii_case(scheme)))
        || value
            .split(|c: char| c.is_whitespace() || ",;:\"'()<>[]{}".contains(c))
            .any(|word| word.starts_with("sk-") || is_surely_secret(word) || is_random(word))
}

/// Whether a long word is more like a key than like words and dates, such as `interleaved-thinking-2025-05-14`.
fn is_random(word: &str) -> bool {
    let readable = |piece: &str| {
        let (first, rest) = piece.split_at_checked(1).unwrap_or((piece, ""));
        let same = |of: fn(&u8) -> bool| rest.bytes().all(|b| of(&b));
        let letters = first.bytes().all(|b| b.is_ascii_alphabetic())
            && (same(u8::is_ascii_lowercase) || piece.bytes().all(|b| b.is_ascii_uppercase()));
        // Also `128k` and `v2`.
        let digits = piece.len() <= 8
            && piece
                .strip_prefix('v')
                .unwrap_or(piece)
                .trim_end_matches(['k', 'm'])
                .bytes()
                .all(|b| b.is_ascii_digit());
        piece.len() <= 2 || (letters && piece.len() < LENGTH_MIN) || digits
    };
    word.chars().count() >= LENGTH_MIN
        && entropy(word) >= ENTROPY_MIN
        && !word.split(['-', '_', '.', '/', '=', '?', '&']).all(readable)
}

/// Bits of each character.
fn entropy(word: &str) -> f64 {
    let n = word.len().max(1) as f64;
    let mut counts = [0_u32; 256];
    for byte in word.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / n);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_by_what_they_look_like() {
        for value in [
            "Basic SECRETI",
            "basic dTpw",
            "  Bearer x",
            "Token abc",
            "sk-1",
            "team; sk-test-short",
            "3f8a91c0de7b4452a6f0",
            "q7Lm2Xz9Rt4Vb8Nc1Kd6",
            "qhzvkxwpmrtbnjcldyfgus",
            "123e4567-e89b-12d3-a456-426614174000",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "id=3f8a91c0de7b4452a6f0",
            "AB12-CD34-EF56-GH78-IJ90",
            "https://me:pass@example.com/",
        ] {
            assert!(may_hold_secret(value), "{value}");
        }
    }

    #[test]
    fn what_people_write_into_headers_is_none() {
        for value in [
            "",
            "search",
            "basic",
            "prompt-caching-2024-07-31",
            "interleaved-thinking-2025-05-14",
            "context-1m-2025-08-07,output-128k-2025-02-19",
            "https://litellm.internal.example.com/team/search",
            "application/json; charset=utf-8",
            "the search team of the west coast",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1",
            "2023-06-01",
        ] {
            assert!(!may_hold_secret(value), "{value}");
        }
    }
}
