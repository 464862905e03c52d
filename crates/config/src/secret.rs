//! Secrets, in a type that cannot be printed, serialised, or compared but in constant time, and that is wiped from
//! memory when the last holder lets go. [`Secret::expose`] is the one way out, easy to search for.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Something that must not be seen. Clones share one copy in memory.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

/// Why a text cannot be a secret. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Line breaks or control characters inside: it could not be sent in a header.
    #[error("holds line breaks or control characters inside")]
    Control,
    /// Characters outside ASCII or blanks inside: no provider hands out such keys, and headers mangle them.
    #[error("holds blanks or characters outside ASCII")]
    Foreign,
}

impl Secret {
    /// Takes a text as a secret; blanks and line breaks around it are dropped (files end in a line break).
    pub fn new(text: String) -> Result<Self, NotASecret> {
        Self::checked(text, |b| b.is_ascii_graphic())
    }

    /// Takes the whole value of a header as a secret: unlike a key, it may hold blanks, as in `Bearer …`.
    pub fn of_header(text: String) -> Result<Self, NotASecret> {
        Self::checked(text, |b| b == b' ' || b.is_ascii_graphic())
    }

    fn checked(text: String, fits: fn(u8) -> bool) -> Result<Self, NotASecret> {
        let whole = Zeroizing::new(text);
        let trimmed = whole.trim();
        if trimmed.is_empty() {
            return Err(NotASecret::Empty);
        }
        if trimmed.chars().any(char::is_control) {
            return Err(NotASecret::Control);
        }
        if !trimmed.bytes().all(fits) {
            return Err(NotASecret::Foreign);
        }
        Ok(Self(Arc::new(Zeroizing::new(trimmed.to_owned()))))
    }

    /// The text itself: for the outgoing header, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its SHA-256, by which keys of clients are looked up.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// Whether these bytes are the secret, in a time that depends neither on where they differ nor on the secret's
    /// length: digests are compared.
    pub fn matches(&self, presented: &[u8]) -> bool {
        Sha256::digest(self.0.as_bytes()).ct_eq(&Sha256::digest(presented)).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret comes from, so that it can be read again and named without being shown.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// There is none (`auth = "none"`).
    None,
    /// An environment variable; with an index, one item of its comma-separated list.
    Env {
        /// The variable.
        name: String,
        /// Which item, counted from 0.
        item: Option<usize>,
    },
    /// A file, read again when it changes.
    File(PathBuf),
    /// The output of a program with its arguments, run without a shell.
    Cmd(Vec<String>),
    /// Written in the configuration itself.
    Literal,
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Env { name, item: None } => write!(f, "env:{name}"),
            Self::Env { name, item: Some(i) } => write!(f, "env:{name}, item {}", i + 1),
            Self::File(path) => write!(f, "file:{}", path.display()),
            // Arguments may be telling; the program is enough to find the line.
            Self::Cmd(args) => write!(f, "cmd:{}", args.first().map_or("", String::as_str)),
            Self::Literal => f.write_str("literal"),
        }
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_no_secret() {
        let secret = |text: &str| Secret::new(text.to_owned()).map(|s| s.expose().to_owned());
        assert_eq!(secret(" sk-test\r\n").unwrap(), "sk-test");
        assert_eq!(secret(" \n"), Err(NotASecret::Empty));
        assert_eq!(secret("sk-\ntest"), Err(NotASecret::Control));
        assert_eq!(secret("sk-\0test"), Err(NotASecret::Control));
        assert_eq!(secret("sk test"), Err(NotASecret::Foreign));
        assert_eq!(secret("sk-tést"), Err(NotASecret::Foreign));
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("sk-test".to_owned()).unwrap();
        assert!(secret.matches(b"sk-test"));
        for other in ["", "sk-tes", "sk-test ", "sk-tesT", "xk-test"] {
            assert!(!secret.matches(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "Secret(…) Some(\n    Secret(…),\n)");
    }
}
