//! Why a request body was refused, in words that its sender can act upon.

use std::borrow::Cow;

/// A refusal of a request body. Each is the client's to mend, and none quotes the body beyond a field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The body is not UTF-8.
    #[error("the request body is not valid UTF-8: the byte at offset {offset} cannot stand there")]
    InvalidUtf8 {
        /// Offset of the first byte that is wrong.
        offset: usize,
    },
    /// The body is not JSON, or something follows the JSON value.
    #[error("the request body is not valid JSON: {reason} at line {line}, column {column}")]
    InvalidJson {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1 (0 at the end of a line).
        column: usize,
        /// What the parser expected.
        reason: String,
    },
    /// The body is JSON, but no object.
    #[error("the request body must be a JSON object, not {found}")]
    NotAnObject {
        /// What it is instead, with its article.
        found: &'static str,
    },
    /// There is no `model`.
    #[error("the field `model` is missing: say which model to use{}", fallbacks_hint(*.models_given))]
    MissingModel {
        /// `models` was given.
        models_given: bool,
    },
    /// `model` is there but says nothing.
    #[error("the field `model` is empty: say which model to use")]
    EmptyModel,
    /// A field has a value of the wrong type.
    #[error("the field `{key}` must be {expected}")]
    InvalidType {
        /// The field, with a dot before a nested name.
        key: Cow<'static, str>,
        /// What it must be, with its article.
        expected: &'static str,
    },
    /// A field stands twice. Servers differ in which one they take, so neither is taken.
    #[error("the field `{key}` is given more than once: leave only one")]
    Duplicate {
        /// The field, escapes undone.
        key: Cow<'static, str>,
    },
    /// A field differs from a known one in case alone. Some servers would read it as that one.
    #[error(
        "the field `{key}` differs from `{known}` only in case, and servers disagree on what that means: write `{known}`"
    )]
    Lookalike {
        /// The field as given, escapes undone.
        key: String,
        /// The field that it looks like.
        known: &'static str,
    },
    /// A multipart form that cannot be read.
    #[error("the multipart body cannot be read: {reason}")]
    Multipart {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The header that chooses among providers cannot be read.
    #[error(
        "the header x-keymux-providers cannot be read: {reason} (it looks like: order=a,b; only=c; ignore=d; fallbacks=no)"
    )]
    ProvidersHeader {
        /// What is wrong with it.
        reason: String,
    },
}

impl HeadError {
    /// A machine's word for it, for the `code` of an error body.
    pub fn code(&self) -> &'static str {
        match self {
            HeadError::InvalidUtf8 { .. } => "invalid_utf8",
            HeadError::InvalidJson { .. } => "invalid_json",
            HeadError::NotAnObject { .. } => "not_an_object",
            HeadError::MissingModel { .. } | HeadError::EmptyModel => "missing_model",
            HeadError::InvalidType { .. } => "invalid_type",
            HeadError::Duplicate { .. } => "duplicate_key",
            HeadError::Lookalike { .. } => "ambiguous_key",
            HeadError::Multipart { .. } => "invalid_multipart",
            HeadError::ProvidersHeader { .. } => "invalid_header",
        }
    }

    /// The field that is to blame, for the `param` of an error body.
    pub fn param(&self) -> Option<&str> {
        match self {
            HeadError::MissingModel { .. } | HeadError::EmptyModel => Some("model"),
            HeadError::InvalidType { key, .. } | HeadError::Duplicate { key } => Some(key),
            HeadError::Lookalike { key, .. } => Some(key),
            HeadError::ProvidersHeader { .. } => Some("x-keymux-providers"),
            HeadError::InvalidUtf8 { .. }
            | HeadError::InvalidJson { .. }
            | HeadError::NotAnObject { .. }
            | HeadError::Multipart { .. } => None,
        }
    }

    /// What the JSON parser said, without its own line and column, which become fields.
    pub(crate) fn from_json(error: &serde_json::Error) -> HeadError {
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        HeadError::InvalidJson { line: error.line(), column: error.column(), reason: reason.to_owned() }
    }
}

fn fallbacks_hint(models_given: bool) -> &'static str {
    if models_given { " (`models` has no name to begin with)" } else { "" }
}
