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

/// What a fact is called, if it has a name.
pub(super) fn name(fact: Fact, names: SpanNames) -> Option<&'static str> {
    let same = |name| (Some(name), Some(name));
    let (known, latest) = match fact {
        Fact::Operation => same("gen_ai.operation.name"),
        Fact::Provider => same("gen_ai.provider.name"),
        Fact::RequestModel => same("gen_ai.request.model"),
        Fact::Stream => same("gen_ai.request.stream"),
        Fact::ResponseId => same("gen_ai.response.id"),
        Fact::TimeToFirstChunk => same("gen_ai.response.time_to_first_chunk"),
        Fact::InputTokens => same("gen_ai.usage.input_tokens"),
        Fact::OutputTokens => same("gen_ai.usage.output_tokens"),
        Fact::CachedTokens => same("gen_ai.usage.cache_read.input_tokens"),
        Fact::CacheWriteTokens => {
            (Some("gen_ai.usage.cache_creation.input_tokens"), Some("gen_ai.usage.cache_write.input_tokens"))
        }
        Fact::ReasoningTokens => same("gen_ai.usage.reasoning.output_tokens"),
        Fact::InputAudioTokens => (None, Some("gen_ai.usage.audio.input_tokens")),
        Fact::OutputAudioTokens => (None, Some("gen_ai.usage.audio.output_tokens")),
        Fact::ErrorType => same("error.type"),
        Fact::Method => same("http.request.method"),
        Fact::Route => same("http.route"),
        Fact::Path => same("url.path"),
        Fact::Scheme => same("url.scheme"),
        Fact::Status => same("http.response.status_code"),
        Fact::ServerAddress => same("server.address"),
        Fact::ServerPort => same("server.port"),
    };
    match names {
        SpanNames::Known => known,
        SpanNames::Latest => latest,
    }
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
        Sign::TooDear => "too_dear",
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
    fn the_newest_names_differ_where_they_were_renamed() {
        let both = |fact| [SpanNames::Known, SpanNames::Latest].map(|names| name(fact, names));
        assert_eq!(both(Fact::InputTokens), [Some("gen_ai.usage.input_tokens"); 2]);
        let renamed =
            ["gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"].map(Some);
        assert_eq!(both(Fact::CacheWriteTokens), renamed);
        assert_eq!(both(Fact::InputAudioTokens), [None, Some("gen_ai.usage.audio.input_tokens")]);
    }
}
