//! How a vendor speaks: dialects, header families, endpoints and the paths under which they are found.

use serde::{Deserialize, Serialize};

/// A family of request and answer shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI and the many that copy it.
    #[default]
    Openai,
    /// OpenRouter: OpenAI's shapes and more, and Anthropic's under `/messages`.
    Openrouter,
    /// Anthropic.
    Anthropic,
}

/// Which rate-limit headers are sent, and what they mean there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderFamily {
    /// `x-ratelimit-*`, all a minute, resets as Go durations.
    Openai,
    /// The same names; requests are a day.
    Groq,
    /// `anthropic-ratelimit-*`, RFC 3339, token counts rounded to thousands.
    Anthropic,
    /// `x-ratelimit-*-req-minute` and `-tokens-minute`.
    Mistral,
    /// `-requests-day` and `-tokens-minute`, resets in float seconds.
    Cerebras,
    /// OpenAI's names, resets in whole seconds, `retry-after-ms`.
    Azure,
    /// Only on the platform's own 429: `X-RateLimit-*`, reset in epoch milliseconds.
    Openrouter,
    /// Nothing, not even on refusals beyond `Retry-After`.
    None,
}

impl Dialect {
    /// The family of headers that the dialect's inventor sends.
    pub fn own_headers(self) -> HeaderFamily {
        match self {
            Dialect::Openai => HeaderFamily::Openai,
            Dialect::Openrouter => HeaderFamily::Openrouter,
            Dialect::Anthropic => HeaderFamily::Anthropic,
        }
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST chat/completions`
    #[default]
    Chat,
    /// `POST completions`
    Completions,
    /// `POST embeddings`
    Embeddings,
    /// `POST responses`
    Responses,
    /// `GET` or `DELETE responses/{id}`
    StoredResponse,
    /// `POST messages`
    Messages,
    /// `POST messages/count_tokens`
    CountTokens,
    /// `POST moderations`
    Moderations,
    /// `POST images/generations` and its siblings
    Images,
    /// `POST audio/speech`
    Speech,
    /// `POST audio/transcriptions` and `translations`
    Transcriptions,
    /// `POST rerank`
    Rerank,
    /// `GET models`
    Models,
    /// `GET models/{id}`
    Model,
    /// OpenRouter's `GET key`
    Key,
    /// OpenRouter's `GET credits`
    Credits,
    /// OpenRouter's `GET generation?id=`
    Generation,
    /// Anything else: 404.
    Unknown,
}

impl Endpoint {
    /// Whether the call generates (or is otherwise charged against limits and money).
    pub fn charged(self) -> bool {
        matches!(
            self,
            Endpoint::Chat
                | Endpoint::Completions
                | Endpoint::Embeddings
                | Endpoint::Responses
                | Endpoint::Messages
                | Endpoint::Moderations
                | Endpoint::Images
                | Endpoint::Speech
                | Endpoint::Transcriptions
                | Endpoint::Rerank
        )
    }

    /// Whether the answer is text that a model writes token by token.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages)
    }

    /// Whether errors come in Anthropic's envelope.
    pub(crate) fn anthropic_skin(self) -> bool {
        matches!(self, Endpoint::Messages | Endpoint::CountTokens)
    }

    fn served_by(self, dialect: Dialect) -> bool {
        use Endpoint as E;
        match dialect {
            Dialect::Openai => !matches!(
                self,
                E::Messages | E::CountTokens | E::Key | E::Credits | E::Generation | E::Rerank
            ),
            Dialect::Openrouter => !matches!(self, E::StoredResponse | E::Moderations | E::CountTokens),
            Dialect::Anthropic => {
                matches!(self, E::Messages | E::CountTokens | E::Models | E::Model | E::Unknown)
            }
        }
    }
}

/// An endpoint, the id in its path or query if it has one, and the method that it wants.
pub(crate) struct Route<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) id: Option<&'a str>,
    pub(crate) methods: &'static [&'static str],
}

const POST: &[&str] = &["POST"];
const GET: &[&str] = &["GET"];

/// Finds the endpoint of a path (without the provider's mount, query included). `/v1`, `/api/v1` and
/// `/openai/v1` are the same here: vendors differ, the rest of the path does not.
pub(crate) fn route(dialect: Dialect, path_and_query: &str) -> Route<'_> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let unknown = Route { endpoint: Endpoint::Unknown, id: None, methods: &[] };
    let path = path.strip_prefix("/api").or_else(|| path.strip_prefix("/openai")).unwrap_or(path);
    let Some(path) = path.strip_prefix("/v1/") else { return unknown };
    let (endpoint, id, methods) = match path {
        "chat/completions" => (Endpoint::Chat, None, POST),
        "completions" => (Endpoint::Completions, None, POST),
        "embeddings" => (Endpoint::Embeddings, None, POST),
        "responses" => (Endpoint::Responses, None, POST),
        "messages" => (Endpoint::Messages, None, POST),
        "messages/count_tokens" => (Endpoint::CountTokens, None, POST),
        "moderations" => (Endpoint::Moderations, None, POST),
        "images" | "images/generations" | "images/edits" | "images/variations" => {
            (Endpoint::Images, None, POST)
        }
        "audio/speech" => (Endpoint::Speech, None, POST),
        "audio/transcriptions" | "audio/translations" => (Endpoint::Transcriptions, None, POST),
        "rerank" => (Endpoint::Rerank, None, POST),
        "models" => (Endpoint::Models, None, GET),
        "key" | "auth/key" => (Endpoint::Key, None, GET),
        "credits" => (Endpoint::Credits, None, GET),
        "generation" => (Endpoint::Generation, query_value(query, "id"), GET),
        other => {
            if let Some(id) = other.strip_prefix("models/").filter(|id| !id.is_empty()) {
                (Endpoint::Model, Some(id), GET)
            } else if let Some(id) =
                other.strip_prefix("responses/").filter(|id| !id.is_empty() && !id.contains('/'))
            {
                (Endpoint::StoredResponse, Some(id), ["GET", "DELETE"].as_slice())
            } else {
                return unknown;
            }
        }
    };
    if endpoint.served_by(dialect) { Route { endpoint, id, methods } } else { unknown }
}

fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}

/// `*` matches any run of characters, everything else itself.
pub(crate) fn glob_matches(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((head, rest)) => {
            let Some(tail) = text.strip_prefix(head) else { return false };
            if rest.is_empty() {
                return true;
            }
            (0..=tail.len())
                .filter(|at| tail.is_char_boundary(*at))
                .any(|at| glob_matches(rest, tail.get(at..).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_endpoint_and_only_where_it_is_served() {
        let find = |dialect, path| route(dialect, path).endpoint;
        assert_eq!(find(Dialect::Openai, "/v1/chat/completions"), Endpoint::Chat);
        assert_eq!(find(Dialect::Openai, "/v1/messages"), Endpoint::Unknown);
        assert_eq!(find(Dialect::Openrouter, "/api/v1/messages?beta=true"), Endpoint::Messages);
        assert_eq!(find(Dialect::Anthropic, "/v1/messages?beta=true"), Endpoint::Messages);
        assert_eq!(find(Dialect::Anthropic, "/v1/chat/completions"), Endpoint::Unknown);
        assert_eq!(find(Dialect::Openai, "/v1/responses/"), Endpoint::Unknown);
        assert_eq!(find(Dialect::Openai, "/chat/completions"), Endpoint::Unknown);
        assert_eq!(route(Dialect::Openai, "/v1/responses/resp_1").id, Some("resp_1"));
        assert_eq!(route(Dialect::Openrouter, "/api/v1/generation?x=1&id=gen-1").id, Some("gen-1"));
    }

    #[test]
    fn globs() {
        for (glob, text, matches) in [
            ("*", "", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "gpt-4", false),
            ("*:free", "a/b:free", true),
            ("*:free", "a/b:freedom", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
        ] {
            assert_eq!(glob_matches(glob, text), matches, "{glob} {text}");
        }
    }
}
