//! What is known of providers: data, from `facts` gathered out of the vendors' documents (November 2026). A preset
//! brings everything but the keys; whatever a file says goes over it.
//!
//! Endpoints are those that a provider documents, not those that might answer: a target is a candidate only for
//! endpoints listed here, so a wrong entry costs a failed attempt and a missing one only a line `endpoints = […]`.

use crate::config::{Dialect, LimitHeaders};
use keymux_policy::fleet::{Charging, Dimension, Endpoint, LimitSpec, ModelSet, OutputCharge, Shape};
use keymux_policy::time::MINUTE;

/// How a preset's key is presented.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PresetAuth {
    Bearer,
    Header(&'static str),
    None,
}

/// A limit that every account of the provider has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PresetLimit {
    /// Requests in each minute.
    PerMinute(f64),
    /// Requests at once.
    AtOnce(u32),
}

/// One known provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    /// What its variables in the environment begin with.
    pub(crate) prefix: &'static str,
    pub(crate) dialect: Dialect,
    /// `None`: everyone has another, and must say it.
    pub(crate) base: Option<&'static str>,
    pub(crate) auth: PresetAuth,
    /// May be used without any key.
    pub(crate) keyless: bool,
    pub(crate) headers: LimitHeaders,
    pub(crate) endpoints: &'static [Endpoint],
    pub(crate) charging: Charging,
    pub(crate) limits: &'static [(PresetLimit, &'static [&'static str])],
}

use Endpoint::{
    AudioSpeech, AudioTranscriptions, AudioTranslations, ChatCompletions, Completions, CountTokens,
    Embeddings, Images, ImagesEdits, ImagesGenerations, ImagesVariations, Messages, Moderations, Rerank,
    Responses,
};

/// Nothing known of how it charges: reserve what was asked for, give back the rest.
pub(crate) const UNKNOWN_CHARGING: Charging = Charging {
    output: OutputCharge::MaxTokensRefunded,
    cached_input_free: false,
    refused_count: false,
    runs_on_after_cancel: false,
};

const AS_PRODUCED: Charging = Charging { output: OutputCharge::AsProduced, ..UNKNOWN_CHARGING };

/// What a server of the `openai` dialect serves, if nothing else is said.
pub(crate) const OPENAI_ENDPOINTS: &[Endpoint] = &[
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Moderations,
    ImagesGenerations,
    ImagesEdits,
    ImagesVariations,
    AudioSpeech,
    AudioTranscriptions,
    AudioTranslations,
];

/// What `OpenRouter` serves.
pub(crate) const OPENROUTER_ENDPOINTS: &[Endpoint] = &[
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Rerank,
    Images,
    AudioSpeech,
    AudioTranscriptions,
];

/// What Anthropic serves.
pub(crate) const ANTHROPIC_ENDPOINTS: &[Endpoint] = &[Messages, CountTokens];

const OPENAI_LIKE: Preset = Preset {
    name: "",
    prefix: "",
    dialect: Dialect::OpenAi,
    base: None,
    auth: PresetAuth::Bearer,
    keyless: false,
    headers: LimitHeaders::Generic,
    endpoints: OPENAI_ENDPOINTS,
    charging: UNKNOWN_CHARGING,
    limits: &[],
};

/// The known providers.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "openrouter",
        prefix: "OPENROUTER",
        dialect: Dialect::OpenRouter,
        base: Some("https://openrouter.ai/api/v1"),
        headers: LimitHeaders::OpenRouter,
        endpoints: OPENROUTER_ENDPOINTS,
        // The in-flight budget holds max_tokens and gives the rest back. A cancel stops most of the providers
        // behind it, but not all, and nobody is told which.
        charging: Charging { runs_on_after_cancel: true, ..UNKNOWN_CHARGING },
        // All free models of an account together; the daily cap (50 or 1,000) depends on what was ever bought and
        // is learned from its refusals.
        limits: &[(PresetLimit::PerMinute(20.0), &["*:free"])],
        ..OPENAI_LIKE
    },
    Preset {
        name: "openai",
        prefix: "OPENAI",
        base: Some("https://api.openai.com/v1"),
        headers: LimitHeaders::OpenAi,
        charging: Charging { output: OutputCharge::MaxOfBoth, refused_count: true, ..UNKNOWN_CHARGING },
        ..OPENAI_LIKE
    },
    Preset {
        name: "anthropic",
        prefix: "ANTHROPIC",
        dialect: Dialect::Anthropic,
        base: Some("https://api.anthropic.com/v1"),
        auth: PresetAuth::Header("x-api-key"),
        headers: LimitHeaders::Anthropic,
        endpoints: ANTHROPIC_ENDPOINTS,
        charging: Charging { cached_input_free: true, ..AS_PRODUCED },
        ..OPENAI_LIKE
    },
    Preset {
        name: "groq",
        prefix: "GROQ",
        base: Some("https://api.groq.com/openai/v1"),
        headers: LimitHeaders::Groq,
        endpoints: &[ChatCompletions, Responses, AudioSpeech, AudioTranscriptions, AudioTranslations],
        charging: Charging { cached_input_free: true, runs_on_after_cancel: true, ..AS_PRODUCED },
        ..OPENAI_LIKE
    },
    Preset {
        name: "mistral",
        prefix: "MISTRAL",
        base: Some("https://api.mistral.ai/v1"),
        headers: LimitHeaders::Mistral,
        endpoints: &[ChatCompletions, Embeddings, Moderations, AudioTranscriptions],
        charging: Charging { runs_on_after_cancel: true, ..AS_PRODUCED },
        ..OPENAI_LIKE
    },
    Preset {
        name: "deepseek",
        prefix: "DEEPSEEK",
        base: Some("https://api.deepseek.com/v1"),
        endpoints: &[ChatCompletions],
        charging: AS_PRODUCED,
        // Its only limits: requests at once, of the account, for each model.
        limits: &[
            (PresetLimit::AtOnce(2_500), &["deepseek-flash*"]),
            (PresetLimit::AtOnce(500), &["deepseek-v4-pro*"]),
        ],
        ..OPENAI_LIKE
    },
    Preset {
        name: "together",
        prefix: "TOGETHER",
        base: Some("https://api.together.xyz/v1"),
        endpoints: &[
            ChatCompletions,
            Completions,
            Embeddings,
            Rerank,
            ImagesGenerations,
            AudioSpeech,
            AudioTranscriptions,
        ],
        ..OPENAI_LIKE
    },
    Preset {
        name: "fireworks",
        prefix: "FIREWORKS",
        base: Some("https://api.fireworks.ai/inference/v1"),
        endpoints: &[ChatCompletions, Completions, Embeddings, Responses, Rerank],
        ..OPENAI_LIKE
    },
    Preset {
        name: "xai",
        prefix: "XAI",
        base: Some("https://api.x.ai/v1"),
        endpoints: &[ChatCompletions, Completions, Responses, ImagesGenerations],
        ..OPENAI_LIKE
    },
    Preset {
        name: "cerebras",
        prefix: "CEREBRAS",
        base: Some("https://api.cerebras.ai/v1"),
        headers: LimitHeaders::Cerebras,
        endpoints: &[ChatCompletions, Completions],
        ..OPENAI_LIKE
    },
    Preset {
        name: "gemini",
        prefix: "GEMINI",
        base: Some("https://generativelanguage.googleapis.com/v1beta/openai"),
        endpoints: &[ChatCompletions, Embeddings, ImagesGenerations],
        // Limits count input only; a cancel does not stop it.
        charging: Charging { runs_on_after_cancel: true, ..AS_PRODUCED },
        ..OPENAI_LIKE
    },
    Preset {
        name: "azure",
        prefix: "AZURE_OPENAI",
        auth: PresetAuth::Header("api-key"),
        headers: LimitHeaders::Azure,
        // The prompt's estimate and max_tokens are taken at admission.
        charging: UNKNOWN_CHARGING,
        ..OPENAI_LIKE
    },
    Preset {
        name: "ollama",
        prefix: "OLLAMA",
        base: Some("http://127.0.0.1:11434/v1"),
        auth: PresetAuth::None,
        keyless: true,
        endpoints: &[ChatCompletions, Completions, Embeddings, Responses, Messages],
        charging: AS_PRODUCED,
        ..OPENAI_LIKE
    },
    Preset {
        name: "vllm",
        prefix: "VLLM",
        keyless: true,
        endpoints: &[
            ChatCompletions,
            Completions,
            Embeddings,
            Responses,
            Messages,
            CountTokens,
            Rerank,
            AudioTranscriptions,
            AudioTranslations,
        ],
        charging: AS_PRODUCED,
        ..OPENAI_LIKE
    },
];

/// The preset of this name.
pub(crate) fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|p| p.name == name)
}

/// The names of all presets.
pub(crate) fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|p| p.name).collect()
}

/// What holds for any server of a dialect.
pub(crate) fn of_dialect(dialect: Dialect) -> Preset {
    let known = match dialect {
        Dialect::OpenAi => None,
        Dialect::OpenRouter => find("openrouter"),
        Dialect::Anthropic => find("anthropic"),
    };
    match known {
        Some(preset) => Preset { base: None, limits: &[], keyless: false, ..*preset },
        None => OPENAI_LIKE,
    }
}

impl Preset {
    /// Its limits, to be overridden by declared ones.
    pub(crate) fn limit_specs(&self) -> Vec<LimitSpec> {
        let spec = |(limit, models): &(PresetLimit, &[&str])| {
            let (dimension, shape) = match *limit {
                PresetLimit::PerMinute(limit) => {
                    let shape = Shape::Window { limit, period_ns: MINUTE, anchor_unix_ns: None };
                    (Dimension::Requests, shape)
                }
                PresetLimit::AtOnce(limit) => (Dimension::Concurrent, Shape::Slots { limit }),
            };
            let models = ModelSet(models.iter().map(|m| Box::from(*m)).collect());
            LimitSpec { dimension, shape, models, preset: true }
        };
        self.limits.iter().map(spec).collect()
    }
}
