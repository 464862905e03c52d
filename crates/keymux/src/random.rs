//! Bytes that nobody can guess: for tokens, keys of clients, and the seeds of dice.

use std::fmt::Write as _;

/// Random bytes, from the machine.
///
/// # Panics
/// If the machine has none: no secret would be one.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let source = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    #[expect(clippy::expect_used, reason = "without randomness no secret of this process is one")]
    source.fill(&mut bytes).expect("the machine's random numbers");
    bytes
}

/// As hexadecimal digits.
pub fn hex<const N: usize>() -> String {
    bytes::<N>().iter().fold(String::with_capacity(2 * N), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A key for a client: 256 random bits behind `km-`, in the letters of base64url, which need no escape anywhere.
pub fn client_key() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut key = String::from("km-");
    for three in bytes::<32>().chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for digit in 0..=three.len() {
            key.push(char::from(LETTERS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_all_of_its_bits_and_none_twice() {
        let (one, two) = (client_key(), client_key());
        assert_ne!(one, two);
        assert_eq!(one.len(), 3 + 43, "{one}");
        assert!(one[3..].bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{one}");
        // 256 bits in 43 letters leave two bits of the last one at zero: a sixteenth of the letters.
        assert!("AEIMQUYcgkosw048".contains(&one[45..]), "{one}");
    }
}
