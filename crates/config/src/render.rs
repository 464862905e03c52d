//! Problems for a terminal: place, line of the file, caret, reason, mend.
//!
//! The line shown may hold a secret (a key typed without `env:` is the very mistake to report), so whatever looks
//! like one is blacked out; the caret stays where it was.

use crate::problem::{Problem, Severity};
use std::fmt::Write as _;
use std::ops::Range;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const CYAN: &str = "\x1b[1;36m";
const PLAIN: &str = "\x1b[0m";

/// Lines longer than this are cut around the caret.
const WIDTH_MAX: usize = 120;

pub(crate) fn render(problems: &[Problem], path: &str, text: &str, color: bool) -> String {
    let paint = |code: &'static str| if color { code } else { "" };
    let mut out = String::new();
    for problem in problems {
        let (word, tint) = match problem.severity {
            Severity::Error => ("error", paint(RED)),
            Severity::Warning => ("warning", paint(YELLOW)),
        };
        let (blue, cyan, plain) = (paint(BLUE), paint(CYAN), paint(PLAIN));
        let _ = writeln!(out, "{tint}{word}{plain}: {}", problem.message);
        if let (Some(line), Some(column)) = (problem.line, problem.column) {
            let number = line.to_string();
            let pad = " ".repeat(number.len());
            let _ = writeln!(out, "{pad}{blue}-->{plain} {path}:{line}:{column}");
            if let Some((source, caret)) = excerpt(text, problem) {
                let carets = "^".repeat(caret.len());
                let space = " ".repeat(caret.start);
                let _ = writeln!(out, "{blue}{number} |{plain} {source}");
                let _ = writeln!(out, "{blue}{pad} |{plain} {space}{tint}{carets}{plain}");
            }
        } else if !path.is_empty() {
            let _ = writeln!(out, " {blue}-->{plain} {path}");
        }
        if let Some(hint) = &problem.hint {
            let _ = writeln!(out, "  {cyan}help{plain}: {hint}");
        }
        out.push('\n');
    }
    out
}

/// The line shown, and which of its characters the caret marks.
fn excerpt(text: &str, problem: &Problem) -> Option<(String, Range<usize>)> {
    let span = problem.span.as_ref()?;
    let start = span.start.min(text.len());
    let line_start = text.get(..start)?.rfind('\n').map_or(0, |i| i + 1);
    let line = text.get(line_start..)?.split('\n').next()?.trim_end_matches('\r');
    let chars: Vec<char> = blackened(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let from = text.get(line_start..start)?.chars().count().min(chars.len());
    let marked = text.get(start..span.end.min(line_start + line.len())).map_or(0, |s| s.chars().count());
    let to = (from + marked.max(1)).min(chars.len().max(from + 1));
    if chars.len() <= WIDTH_MAX {
        return Some((chars.into_iter().collect(), from..to));
    }
    let first = from.saturating_sub(WIDTH_MAX / 4);
    let last = (first + WIDTH_MAX).min(chars.len());
    let lead = if first > 0 { "… " } else { "" };
    let tail = if last < chars.len() { " …" } else { "" };
    let shift = lead.chars().count();
    let shown: String = chars.get(first..last)?.iter().collect();
    let caret = from - first + shift..(to.min(last).max(from + 1)) - first + shift;
    Some((format!("{lead}{shown}{tail}"), caret))
}

/// The line with everything that may be a secret replaced, character by character.
fn blackened(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(open) = rest.find(['"', '\'']) {
        let (before, quoted) = rest.split_at(open);
        let quote = if quoted.starts_with('"') { '"' } else { '\'' };
        let inside = quoted.get(1..).unwrap_or("");
        let close = closing(inside, quote).unwrap_or(inside.len());
        let (value, after) = inside.split_at(close);
        out.push_str(&blackened_bare(before));
        out.push(quote);
        out.push_str(&blackened_value(&setting_before(&out), value));
        rest = after;
        if let Some(tail) = rest.strip_prefix(quote) {
            out.push(quote);
            rest = tail;
        }
    }
    out.push_str(&blackened_bare(rest));
    out
}

/// Where the string ends, escapes considered.
fn closing(inside: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Some(i),
            _ => {}
        }
    }
    None
}

/// Text outside of quotes: a key without quotes is a mistake too.
fn blackened_bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\n')) {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            word.push(c);
            continue;
        }
        out.push_str(&if looks_secret(&word) { "*".repeat(word.chars().count()) } else { word.clone() });
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// The setting whose value begins at the end of `before`, in lower case.
fn setting_before(before: &str) -> String {
    let before = before.trim_end_matches(['"', '\'']).trim_end();
    let Some(name) = before.strip_suffix('=') else { return String::new() };
    let name = name.trim_end().trim_end_matches(['"', '\'']);
    let start = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).map_or(0, |i| i + 1);
    name.get(start..).unwrap_or("").to_ascii_lowercase()
}

fn blackened_value(setting: &str, value: &str) -> String {
    let stars = |text: &str| "*".repeat(text.chars().count());
    if let Some(literal) = value.strip_prefix("literal:") {
        return format!("literal:{}", stars(literal));
    }
    if ["env:", "file:", "cmd:"].iter().any(|scheme| value.starts_with(scheme)) {
        return value.to_owned();
    }
    if let Some((scheme, rest)) = value.split_once("://") {
        return match rest.rsplit_once('@') {
            Some((user, host)) => format!("{scheme}://{}@{host}", stars(user)),
            None => value.to_owned(),
        };
    }
    let telling = ["secret", "token", "password", "auth", "key"].iter().any(|word| setting.contains(word));
    let harmless = matches!(setting, "key" | "keys" | "auth" | "default_max_tokens" | "expose_keys")
        && (value.len() < 16 || value.contains('/'));
    if (telling && !harmless) || value.split([' ', ',']).any(looks_secret) {
        return stars(value);
    }
    value.to_owned()
}

/// What keys of well-known providers begin with.
const BEGINNINGS: &[&str] = &["sk-", "gsk_", "xai-", "csk-", "AIza", "tgp_", "fw_", "km-", "nvapi-", "hf_"];

/// Whether a word is so much like a key that it must not even stand in a message. Stricter than what is blacked out
/// in lines, since messages name variables, models and files.
pub(crate) fn is_surely_secret(word: &str) -> bool {
    const LENGTH_MIN: usize = 20;
    let count = |f: fn(&u8) -> bool| word.bytes().filter(f).count();
    let mixed = count(u8::is_ascii_digit) >= 3
        && count(u8::is_ascii_lowercase) >= 3
        && count(u8::is_ascii_uppercase) >= 3;
    let hex =
        word.len() >= 32 && count(u8::is_ascii_digit) >= 3 && count(u8::is_ascii_hexdigit) == word.len();
    word.len() >= LENGTH_MIN && (BEGINNINGS.iter().any(|b| word.starts_with(b)) || mixed || hex)
}

/// A message for people: no key in it, and nothing that drives a terminal.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\n')) {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
            word.push(c);
            continue;
        }
        if is_surely_secret(&word) {
            out.push_str(&"*".repeat(word.len()));
        } else {
            out.push_str(&word);
        }
        word.clear();
        out.push(if c.is_control() { ' ' } else { c });
    }
    out.pop();
    out
}

/// What may be a key: a known beginning, or a long run of letters with digits.
fn looks_secret(word: &str) -> bool {
    const RUN_MIN: usize = 24;
    if BEGINNINGS.iter().any(|b| word.starts_with(b)) {
        return word.len() > 8;
    }
    word.split(|c: char| !(c.is_ascii_alphanumeric() || "-_+=".contains(c))).any(|run| {
        run.len() >= RUN_MIN
            && run.bytes().filter(u8::is_ascii_digit).count() >= 3
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    })
}
