//! The words of every enumeration of the file.

use super::read::choice;
use crate::clients::UnknownPrice;
use crate::config::{Dialect, LimitHeaders, LogFormat, LogLevel, Runtime};
use crate::ledger::Unavailable;
use crate::webhook::{Gravity, HookKind, Topic};
use keymux_policy::Priority;
use keymux_policy::budget::Reset;
use keymux_policy::fleet::{Endpoint, OutputCharge, Strategy};

choice! { Dialect, "dialect",
    "openai" => Dialect::OpenAi,
    "openrouter" => Dialect::OpenRouter,
    "anthropic" => Dialect::Anthropic,
}

choice! { LimitHeaders, "meaning of limit headers",
    "openai" => LimitHeaders::OpenAi,
    "azure" => LimitHeaders::Azure,
    "anthropic" => LimitHeaders::Anthropic,
    "groq" => LimitHeaders::Groq,
    "mistral" => LimitHeaders::Mistral,
    "cerebras" => LimitHeaders::Cerebras,
    "openrouter" => LimitHeaders::OpenRouter,
    "generic" => LimitHeaders::Generic,
}

choice! { Strategy, "strategy",
    "headroom" => Strategy::Headroom,
    "round_robin" => Strategy::RoundRobin,
    "weighted" => Strategy::Weighted,
    "least_in_flight" => Strategy::LeastInFlight,
    "fastest" => Strategy::Fastest,
}

choice! { Endpoint, "endpoint",
    "chat/completions" => Endpoint::ChatCompletions,
    "completions" => Endpoint::Completions,
    "embeddings" => Endpoint::Embeddings,
    "responses" => Endpoint::Responses,
    "messages" => Endpoint::Messages,
    "messages/count_tokens" => Endpoint::CountTokens,
    "moderations" => Endpoint::Moderations,
    "rerank" => Endpoint::Rerank,
    "images/generations" => Endpoint::ImagesGenerations,
    "images/edits" => Endpoint::ImagesEdits,
    "images/variations" => Endpoint::ImagesVariations,
    "images" => Endpoint::Images,
    "audio/speech" => Endpoint::AudioSpeech,
    "audio/transcriptions" => Endpoint::AudioTranscriptions,
    "audio/translations" => Endpoint::AudioTranslations,
}

choice! { OutputCharge, "way of charging output",
    "max_tokens_refunded" => OutputCharge::MaxTokensRefunded,
    "max_of_both" => OutputCharge::MaxOfBoth,
    "sum_of_both" => OutputCharge::SumOfBoth,
    "as_produced" => OutputCharge::AsProduced,
}

choice! { Runtime, "runtime layout",
    "per_core" => Runtime::PerCore,
    "shared" => Runtime::Shared,
}

choice! { LogFormat, "log format",
    "text" => LogFormat::Text,
    "json" => LogFormat::Json,
}

choice! { LogLevel, "log level",
    "error" => LogLevel::Error,
    "warn" => LogLevel::Warn,
    "info" => LogLevel::Info,
    "debug" => LogLevel::Debug,
    "trace" => LogLevel::Trace,
}

/// How a declared limit comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShapeName {
    Bucket,
    Window,
}

choice! { ShapeName, "shape",
    "bucket" => ShapeName::Bucket,
    "window" => ShapeName::Window,
}

choice! { Reset, "reset",
    "never" => Reset::Never,
    "daily" => Reset::Daily,
    "weekly" => Reset::Weekly,
    "monthly" => Reset::Monthly,
}

choice! { Priority, "priority",
    "high" => Priority::High,
    "normal" => Priority::Normal,
    "low" => Priority::Low,
}

choice! { Unavailable, "way without a database",
    "serve" => Unavailable::Serve,
    "refuse" => Unavailable::Refuse,
}

choice! { UnknownPrice, "way with unknown prices",
    "refuse" => UnknownPrice::Refuse,
    "serve" => UnknownPrice::Serve,
}

choice! { HookKind, "kind of webhook",
    "json" => HookKind::Json,
    "slack" => HookKind::Slack,
    "feishu" => HookKind::Feishu,
}

choice! { Gravity, "severity",
    "warning" => Gravity::Warning,
    "critical" => Gravity::Critical,
}

choice! { Topic, "event",
    "key_out" => Topic::KeyOut,
    "key_degraded" => Topic::KeyDegraded,
    "key_expiring" => Topic::KeyExpiring,
    "credit_low" => Topic::CreditLow,
    "credit_out" => Topic::CreditOut,
    "all_keys_out" => Topic::AllKeysOut,
    "provider_down" => Topic::ProviderDown,
    "budget" => Topic::Budget,
    "refusing" => Topic::Refusing,
    "ledger" => Topic::Ledger,
    "reload" => Topic::Reload,
    "webhook" => Topic::Webhook,
}
