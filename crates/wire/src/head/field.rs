//! The names of the known fields, and where each was found.
//!
//! Names are compared after JSON's escapes are undone, so that `"mod\u0065l"` is `model`; and a name that equals a
//! known one but for its case is reported, because some servers would take it for the known one.

use std::borrow::Cow;
use std::ops::Range;

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A known field of a request body.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Field { $($(#[$doc])* $variant,)+ }

        impl Field {
            /// Every known field.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)+];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                match self { $(Field::$variant => $name,)+ }
            }

            /// The field of exactly this name.
            pub fn named(name: &str) -> Option<Field> {
                match name { $($name => Some(Field::$variant),)+ _ => None }
            }
        }
    };
}

fields! {
    /// `model`
    Model = "model",
    /// `stream`
    Stream = "stream",
    /// `stream_options`
    StreamOptions = "stream_options",
    /// `max_tokens`
    MaxTokens = "max_tokens",
    /// `max_completion_tokens`
    MaxCompletionTokens = "max_completion_tokens",
    /// `max_output_tokens`
    MaxOutputTokens = "max_output_tokens",
    /// `n`
    N = "n",
    /// `provider`
    Provider = "provider",
    /// `models`
    Models = "models",
    /// `previous_response_id`
    PreviousResponseId = "previous_response_id",
    /// `conversation`
    Conversation = "conversation",
    /// `session_id`
    SessionId = "session_id",
    /// `prompt_cache_key`
    PromptCacheKey = "prompt_cache_key",
    /// `user`
    User = "user",
    /// `store`
    Store = "store",
    /// `service_tier`
    ServiceTier = "service_tier",
    /// `messages`
    Messages = "messages",
    /// `input`
    Input = "input",
    /// `prompt`
    Prompt = "prompt",
    /// `system`
    System = "system",
    /// `instructions`
    Instructions = "instructions",
    /// `tools`
    Tools = "tools",
    /// `container`
    Container = "container",
}

/// How many fields are known.
const COUNT: usize = Field::ALL.len();

/// Where a field lies in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldSpan {
    /// The raw JSON value.
    pub value: Range<usize>,
}

/// The spans of the known fields, by field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FieldSpans {
    /// Start and end of the value; `0..0` where the field is absent (no value can begin at offset 0).
    spans: [(usize, usize); COUNT],
}

impl FieldSpans {
    pub(super) fn get(&self, field: Field) -> Option<FieldSpan> {
        match self.spans[field as usize] {
            (0, _) => None,
            (start, end) => Some(FieldSpan { value: start..end }),
        }
    }

    /// Notes a field; false if it was there already.
    pub(super) fn note(&mut self, field: Field, value: &Range<usize>) -> bool {
        let slot = &mut self.spans[field as usize];
        let fresh = slot.0 == 0;
        *slot = (value.start, value.end);
        fresh
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.spans[field as usize].0 != 0
    }
}

/// What the name of a member turned out to be.
pub(super) enum Key {
    Known(Field),
    /// Equal to a known name but for its case.
    Lookalike(String, Field),
    Unknown,
}

pub(super) fn key(name: &str) -> Key {
    if let Some(field) = Field::named(name) {
        return Key::Known(field);
    }
    match Field::named(&folded(name)) {
        Some(field) => Key::Lookalike(name.to_owned(), field),
        None => Key::Unknown,
    }
}

/// A name as servers written in Go compare it: without regard to case, also of the two letters beyond ASCII that they
/// fold onto ASCII ones (the long s and the Kelvin sign). Longer names than any that is known stay as they are.
pub(crate) fn folded(name: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if name.len() > 64 || name.bytes().all(plain) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase())
}
