//! Names of models as the table writes them: `*` is anything, `#` a digit, `!` in front turns it round. Both sides are
//! lower case.

use keymux_policy::glob;

/// Whether a glob fits a name.
pub(super) fn fits(glob: &[u8], name: &[u8]) -> bool {
    glob::fits(glob, name, |sign, n| sign == n || (sign == b'#' && n.is_ascii_digit()))
}

/// Globs that must all fit.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<Box<str>>);

impl Pattern {
    /// Reads `a*&!*b`.
    pub(super) fn read(text: &str) -> Self {
        Self(text.split('&').map(Box::from).collect())
    }

    /// The name, if it fits no other.
    pub(super) fn exact(&self) -> Option<&str> {
        match self.0.as_slice() {
            [one] if !one.contains(['*', '#', '!']) => Some(one),
            _ => None,
        }
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        self.0.iter().all(|glob| match glob.strip_prefix('!') {
            Some(not) => !fits(not.as_bytes(), name.as_bytes()),
            None => fits(glob.as_bytes(), name.as_bytes()),
        })
    }
}

/// `model-20251211` as `model-2025-12-11`: aggregators write dates without dashes, the vendors' own names have them.
/// `None` where there is no such date.
pub(super) fn with_dashed_date(name: &str) -> Option<String> {
    let bytes = name.as_bytes();
    let is_date = |at: usize| {
        let digits = bytes.get(at + 1..at + 9).filter(|d| d.iter().all(u8::is_ascii_digit))?;
        let number = |range: std::ops::Range<usize>| {
            digits.get(range)?.iter().try_fold(0_u32, |n, d| Some(n * 10 + u32::from(d - b'0')))
        };
        let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
        let ends = matches!(bytes.get(at + 9), None | Some(b'-' | b':'));
        (bytes[at] == b'-'
            && year / 100 == 20
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && ends)
            .then_some(())
    };
    let at = (0..bytes.len()).find(|at| is_date(*at).is_some())?;
    let piece = |range: std::ops::Range<usize>| name.get(range);
    Some(format!(
        "{}-{}-{}-{}{}",
        piece(0..at)?,
        piece(at + 1..at + 5)?,
        piece(at + 5..at + 7)?,
        piece(at + 7..at + 9)?,
        name.get(at + 9..)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_with_digits_and_exclusions() {
        assert!(fits(b"gpt-6-####-##-##", b"gpt-6-2026-01-02"));
        assert!(!fits(b"gpt-6-####-##-##", b"gpt-6-2026-01-0x"));
        assert!(!fits(b"gpt-6-##", b"gpt-6-123"));
        let speech = Pattern::read("gemini-*&!*-tts&!*-tts-*");
        assert!(
            speech.fits("gemini-3-flash") && !speech.fits("gemini-3-tts") && !speech.fits("gemini-tts-1")
        );
        assert!(speech.fits("gemini-ttsx"));
    }

    #[test]
    fn dates_without_dashes() {
        assert_eq!(with_dashed_date("a/gpt-5-20251211:free").as_deref(), Some("a/gpt-5-2025-12-11:free"));
        for other in
            ["gpt-5-20251311", "gpt-5-19990101", "gpt-5-202512111", "gpt20251211", "m-2025121", "é-2025121"]
        {
            assert_eq!(with_dashed_date(other), None, "{other}");
        }
    }
}
