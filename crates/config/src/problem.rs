//! What is wrong with a configuration, in a form that a person can act on: where, why, and what to do.
//!
//! Nothing stops at the first mistake: every step writes into [`Findings`] and goes on with what it has, so that
//! one run names them all. This module knows neither TOML nor any setting.

use std::fmt;
use std::ops::Range;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not mean what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Line in the file, counted from 1. `None` where no file is involved.
    pub line: Option<u32>,
    /// Column in characters, counted from 1.
    pub column: Option<u32>,
    /// Bytes of the file that it is about.
    pub span: Option<Range<usize>>,
    /// What is wrong and why. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// All that is wrong with one configuration, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Errors and warnings together.
    pub list: Vec<Problem>,
}

impl Problems {
    /// One error about no place in a file.
    pub fn single(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let mut found = Findings::default();
        found.error(Place::NONE, message, hint);
        Self { list: found.list }
    }

    /// How many of them are errors.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|p| p.severity == Severity::Error).count()
    }

    /// For a terminal: each problem with its place, the line of the file, a caret, the reason and the mend. Values
    /// that may be secrets are blacked out in the lines shown.
    pub fn render(&self, path: &str, text: &str, color: bool) -> String {
        crate::render::render(&self.list, path, text, color)
    }
}

impl fmt::Display for Problems {
    /// One line a problem, without the source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            if let Some(line) = problem.line {
                write!(f, "line {line}: ")?;
            }
            f.write_str(&problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where something stands in the file; nowhere, if it did not come from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Option<(usize, usize)>);

impl Place {
    /// No place in any file.
    pub(crate) const NONE: Self = Self(None);

    /// These bytes of the file.
    pub(crate) fn of(span: &Range<usize>) -> Self {
        Self(Some((span.start, span.end)))
    }
}

/// Something together with where it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct At<T> {
    /// What was written.
    pub(crate) value: T,
    /// Where.
    pub(crate) place: Place,
}

impl<T> At<T> {
    /// A value that no file holds.
    pub(crate) fn nowhere(value: T) -> Self {
        Self { value, place: Place::NONE }
    }
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Collects problems while the work goes on.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Problem>,
}

impl Findings {
    /// Something that must be mended. An empty hint is none.
    pub(crate) fn error(&mut self, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Error, at, &message.into(), &hint.into());
    }

    /// Something that must be there, unless it is and could not be read: that has been told already.
    pub(crate) fn missing(
        &mut self,
        told: bool,
        at: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !told {
            self.error(at, message, hint);
        }
    }

    /// Something that is probably not what was meant.
    pub(crate) fn warning(&mut self, at: Place, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Severity::Warning, at, &message.into(), &hint.into());
    }

    /// Whether anything must be mended.
    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// Puts `first` in front, and keeps of the rest what does not stand on a line of it.
    pub(crate) fn follow(&mut self, first: Self, text: &str) {
        let starts = line_starts(text);
        let line = |p: &Problem| p.span.as_ref().map(|s| position(text, &starts, s.start).0);
        let broken: Vec<Option<u32>> = first.list.iter().map(line).collect();
        self.list.retain(|p| !broken.contains(&line(p)));
        self.list.splice(0..0, first.list);
    }

    fn push(&mut self, severity: Severity, at: Place, message: &str, hint: &str) {
        let (message, hint) = (crate::render::harmless(message), crate::render::harmless(hint));
        let hint = (!hint.is_empty()).then_some(hint);
        let span = at.0.map(|(start, end)| start..end);
        self.list.push(Problem { severity, line: None, column: None, span, message, hint });
    }

    /// The problems in the order of the file (those without a place last), with lines and columns.
    pub(crate) fn located(self, text: &str) -> Problems {
        let mut list = self.list;
        let starts = line_starts(text);
        for problem in &mut list {
            if let Some(span) = &problem.span {
                let (line, column) = position(text, &starts, span.start);
                problem.line = Some(line);
                problem.column = Some(column);
            }
        }
        list.sort_by_key(|p| p.span.as_ref().map_or((usize::MAX, 0), |s| (s.start, s.end)));
        list.dedup();
        Problems { list }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect()
}

fn position(text: &str, starts: &[usize], offset: usize) -> (u32, u32) {
    let offset = offset.min(text.len());
    let line = starts.partition_point(|&start| start <= offset).max(1);
    let start = starts.get(line - 1).copied().unwrap_or(0);
    let column = text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// Words longer than this are not looked for: the distance costs their length squared, and callers choose them.
const NEAREST_MAX: usize = 128;

/// The candidate that was most likely meant by `word`, if any is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['-', ' '], "_");
    let word = plain(word);
    let length = word.chars().count();
    let reach = 1 + length / 4;
    if length > NEAREST_MAX {
        return None;
    }
    candidates
        .into_iter()
        // The distance is at least the difference in length; this keeps long lists cheap.
        .filter(|c| c.chars().count().abs_diff(length) <= reach)
        .map(|c| (strsim::damerau_levenshtein(&word, &plain(c)), c))
        .filter(|(distance, c)| *distance <= reach && *distance < c.chars().count())
        // Ties by name, so that the order of the environment changes nothing.
        .min()
        .map(|(_, c)| c)
}

/// `did you mean "x"?`, or the whole list where nothing is near.
pub fn did_you_mean(word: &str, candidates: &[&str], listing: &str) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(c) => format!("did you mean \"{c}\"?"),
        None if candidates.is_empty() => String::new(),
        None => format!("{listing}: {}", candidates.join(", ")),
    }
}
