//! The one table of names: what a fact of a request is called in spans, under the GenAI conventions up to 1.41, which
//! most backends know, and under the newest (open-telemetry/semantic-conventions-genai), which still change. A renamed
//! attribute is one line here. Facts that no convention names have our own prefix, `keymux.`, under either.

use keymux_config::{Dialect, SpanNames};
use keymux_policy::Sign;
use keymux_policy::fleet::Endpoint;

/// A fact that a convention names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Operation,
    Provider,
    RequestModel,
    Stream,
    ResponseId,
    TimeToFirstChunk,
    InputTokens,
    OutputTokens,
    CachedTokens,
    CacheWriteTokens,
    ReasoningTokens,
    InputAudioTokens,
    OutputAudioTokens,
    ErrorType,
    Method,
    Route,
    Path,
    Scheme,
    Status,
    ServerAddress,
    ServerPort,
}

/// A fact, its name up to 1.41, and its newest name; empty where there is none.
type Row = (Fact, &'static str, &'static str);

/// What stands in both columns.
const fn same(fact: Fact, name: &'static str) -> Row {
    (fact, name, name)
}

const TABLE: [Row; 21] = [
    same(Fact::Operation, "gen_ai.operation.name"),
    same(Fact::Provider, "gen_ai.provider.name"),
    same(Fact::RequestModel, "gen_ai.request.model"),
    same(Fact::Stream, "gen_ai.request.stream"),
    same(Fact::ResponseId, "gen_ai.response.id"),
    same(Fact::TimeToFirstChunk, "gen_ai.response.time_to_first_chunk"),
    same(Fact::InputTokens, "gen_ai.usage.input_tokens"),
    same(Fact::OutputTokens, "gen_ai.usage.output_tokens"),
    same(Fact::CachedTokens, "gen_ai.usage.cache_read.input_tokens"),
    (
        Fact::CacheWriteTokens,
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
    ),
    same(Fact::ReasoningTokens, "gen_ai.usage.reasoning.output_tokens"),
    (Fact::InputAudioTokens, "", "gen_ai.usage.audio.input_tokens"),
    (Fact::OutputAudioTokens, "", "gen_ai.usage.audio.output_tokens"),
    same(Fact::ErrorType, "error.type"),
    same(Fact::Method, "http.request.method"),
    same(Fact::Route, "http.route"),
    same(Fact::Path, "url.path"),
    same(Fact::Scheme, "url.scheme"),
    same(Fact::Status, "http.response.status_code"),
    same(Fact::ServerAddress, "server.address"),
    same(Fact::ServerPort, "server.port"),
];

/// What a fact is called, if it has a name.
pub(super) fn name(fact: Fact, names: SpanNames) -> Option<&'static str> {
    let (_, known, latest) = TABLE.iter().find(|row| row.0 == fact)?;
    let name = match names {
        SpanNames::Known => known,
        SpanNames::Latest => latest,
    };
    Some(*name).filter(|name| !name.is_empty())
}

/// The schema that the names are of.
pub(super) fn schema_url(names: SpanNames) -> &'static str {
    match names {
        SpanNames::Known => "https://opentelemetry.io/schemas/1.41.0",
        // It has no number of its own yet.
        SpanNames::Latest => "",
    }
}

/// `gen_ai.operation.name`.
pub(super) fn operation(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages => "chat",
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::ImagesGenerations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        | Endpoint::Images
        | Endpoint::AudioSpeech
        | Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations => "generate_content",
        // The conventions have no word for these.
        Endpoint::CountTokens => "count_tokens",
        Endpoint::Moderations => "moderation",
        Endpoint::Rerank => "rerank",
    }
}

/// `gen_ai.provider.name`: the conventions' word for a preset's vendor where they have one, else the preset's own
/// name; of a server without a preset, the vendor whose dialect it speaks.
pub(super) fn provider(preset: Option<&'static str>, dialect: Dialect) -> &'static str {
    match (preset, dialect) {
        (Some("azure"), _) => "azure.ai.openai",
        (Some("mistral"), _) => "mistral_ai",
        (Some("xai"), _) => "x_ai",
        (Some("gemini"), _) => "gcp.gemini",
        (Some(preset), _) => preset,
        (None, Dialect::OpenAi) => "openai",
        (None, Dialect::OpenRouter) => "openrouter",
        (None, Dialect::Anthropic) => "anthropic",
    }
}

/// `error.type` of an attempt.
pub(super) fn error_type(sign: Sign) -> &'static str {
    match sign {
        Sign::BadRequest => "bad_request",
        Sign::ModelUnknown => "model_unknown",
        Sign::ClientGone => "client_gone",
        Sign::ClientTimeout => "client_timeout",
        Sign::TooLargeForLimit => "too_large_for_limit",
        Sign::KeyRefused => "key_refused",
        Sign::KeyForbidden => "key_forbidden",
        Sign::KeyCap => "key_cap",
        Sign::NoMoney => "no_money",
        Sign::InFlightMoney => "in_flight_money",
        Sign::RateLimited { .. } => "rate_limited",
        Sign::Overloaded => "overloaded",
        Sign::ServerError => "server_error",
        Sign::ConnectFailed => "connect_failed",
        Sign::TlsFailed => "tls_failed",
        Sign::Reset => "reset",
        Sign::FirstByteTimeout => "first_byte_timeout",
        Sign::IdleTimeout => "idle_timeout",
        Sign::TotalTimeout => "total_timeout",
        Sign::Truncated => "truncated",
        Sign::ErrorInAnswer => "error_in_answer",
        Sign::Garbage => "garbage",
        Sign::Local => "local",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_one_row_and_the_newest_names_differ_where_they_were_renamed() {
        for (index, (fact, known, latest)) in TABLE.iter().enumerate() {
            assert_eq!(TABLE.iter().position(|row| row.0 == *fact), Some(index), "{fact:?} twice");
            assert!(!latest.is_empty(), "{fact:?}");
            assert_eq!(name(*fact, SpanNames::Known), Some(*known).filter(|n| !n.is_empty()));
        }
        let both = [SpanNames::Known, SpanNames::Latest].map(|names| name(Fact::CacheWriteTokens, names));
        let renamed =
            ["cache_creation", "cache_write"].map(|word| format!("gen_ai.usage.{word}.input_tokens"));
        assert_eq!(both.map(|name| name.unwrap().to_owned()), renamed);
    }
}
