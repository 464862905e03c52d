//! LiteLLM's providers, as far as they speak a dialect that is spoken here: data. LiteLLM translates between dialects,
//! keymux does not, so a provider with an API of its own has no counterpart.

use super::notes::Reason;

/// How a provider is reached here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reach {
    /// Our preset of this name.
    Preset(&'static str),
    /// `OpenAI`'s dialect at this address; `None`: everyone has another.
    OpenAi(Option<&'static str>),
    /// Not at all.
    No(Reason),
}

/// One of LiteLLM's providers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vendor {
    /// What models begin with in LiteLLM.
    pub(super) prefix: &'static str,
    pub(super) reach: Reach,
    /// Where LiteLLM looks for a key if none is written; `None`: it needs none.
    pub(super) variable: Option<&'static str>,
}

const fn preset(prefix: &'static str, name: &'static str, variable: &'static str) -> Vendor {
    Vendor { prefix, reach: Reach::Preset(name), variable: Some(variable) }
}

const fn keyless(prefix: &'static str, reach: Reach) -> Vendor {
    Vendor { prefix, reach, variable: None }
}

const fn at(prefix: &'static str, base: &'static str, variable: &'static str) -> Vendor {
    Vendor { prefix, reach: Reach::OpenAi(Some(base)), variable: Some(variable) }
}

const fn no(prefix: &'static str, reason: Reason) -> Vendor {
    Vendor { prefix, reach: Reach::No(reason), variable: None }
}

const OWN_DIALECT: Reason = (
    "the provider has an API of its own, and keymux does not translate between dialects",
    "reach the model through OpenRouter or another OpenAI-compatible address, or keep LiteLLM for it and name that as a \
     provider: dialect = \"openai\", base_url = \"http://…/v1\"",
);

const BEDROCK: Reason = (
    "Bedrock's own API wants signed requests, which keymux does not send",
    "some models answer at Bedrock's OpenAI-compatible address with a Bedrock API key: add a provider with dialect = \
     \"openai\" and base_url = \"https://bedrock-runtime.REGION.amazonaws.com/openai/v1\"; else reach the model through \
     OpenRouter",
);

const VERTEX: Reason = (
    "Vertex AI's own API wants Google tokens that expire each hour, and keymux does not speak it",
    "use the preset gemini with an API key, or OpenRouter",
);

const IN_PROCESS: Reason = (
    "runs the model inside of LiteLLM's own process",
    "start the model server by itself (`vllm serve`) and add a provider with preset = \"vllm\" and its base_url",
);

const ROUTER: Reason = (
    "chooses a model by what the prompt says, which keymux does not read",
    "let clients name the model, or a route of several",
);

/// All that are known.
pub(super) const VENDORS: &[Vendor] = &[
    preset("openai", "openai", "OPENAI_API_KEY"),
    preset("text-completion-openai", "openai", "OPENAI_API_KEY"),
    preset("azure", "azure", "AZURE_API_KEY"),
    preset("azure_text", "azure", "AZURE_API_KEY"),
    preset("anthropic", "anthropic", "ANTHROPIC_API_KEY"),
    preset("openrouter", "openrouter", "OPENROUTER_API_KEY"),
    preset("groq", "groq", "GROQ_API_KEY"),
    preset("mistral", "mistral", "MISTRAL_API_KEY"),
    preset("deepseek", "deepseek", "DEEPSEEK_API_KEY"),
    preset("together_ai", "together", "TOGETHERAI_API_KEY"),
    preset("fireworks_ai", "fireworks", "FIREWORKS_API_KEY"),
    preset("xai", "xai", "XAI_API_KEY"),
    preset("cerebras", "cerebras", "CEREBRAS_API_KEY"),
    preset("gemini", "gemini", "GEMINI_API_KEY"),
    keyless("ollama", Reach::Preset("ollama")),
    keyless("ollama_chat", Reach::Preset("ollama")),
    keyless("hosted_vllm", Reach::Preset("vllm")),
    at("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    at("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    at("perplexity", "https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    at("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    at("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    at("novita", "https://api.novita.ai/v3/openai", "NOVITA_API_KEY"),
    at("nebius", "https://api.studio.nebius.ai/v1", "NEBIUS_API_KEY"),
    at("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    at("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    at("codestral", "https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY"),
    at("meta_llama", "https://api.llama.com/compat/v1", "LLAMA_API_KEY"),
    at("volcengine", "https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY"),
    at("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
    at("lambda_ai", "https://api.lambda.ai/v1", "LAMBDA_API_KEY"),
    at("featherless_ai", "https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY"),
    at("friendliai", "https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN"),
    at("aiml", "https://api.aimlapi.com/v1", "AIML_API_KEY"),
    at("ai21_chat", "https://api.ai21.com/studio/v1", "AI21_API_KEY"),
    Vendor { prefix: "databricks", reach: Reach::OpenAi(None), variable: Some("DATABRICKS_API_KEY") },
    Vendor { prefix: "openai_like", reach: Reach::OpenAi(None), variable: Some("OPENAI_LIKE_API_KEY") },
    Vendor { prefix: "custom_openai", reach: Reach::OpenAi(None), variable: Some("OPENAI_API_KEY") },
    Vendor { prefix: "litellm_proxy", reach: Reach::OpenAi(None), variable: Some("LITELLM_PROXY_API_KEY") },
    keyless("lm_studio", Reach::OpenAi(None)),
    keyless("llamafile", Reach::OpenAi(Some("http://127.0.0.1:8080/v1"))),
    keyless("xinference", Reach::OpenAi(Some("http://127.0.0.1:9997/v1"))),
    no("bedrock", BEDROCK),
    no("bedrock_converse", BEDROCK),
    no("sagemaker", BEDROCK),
    no("sagemaker_chat", BEDROCK),
    no("vertex_ai", VERTEX),
    no("vertex_ai_beta", VERTEX),
    no("vllm", IN_PROCESS),
    no("auto_router", ROUTER),
    no(
        "azure_ai",
        (
            "LiteLLM calls Azure AI's own paths there, which keymux does not",
            "if the resource serves /openai/v1, add a provider with preset = \"azure\" and base_url = \
             \"https://RESOURCE.services.ai.azure.com/openai/v1\"",
        ),
    ),
    no("cohere", OWN_DIALECT),
    no("cohere_chat", OWN_DIALECT),
    no("replicate", OWN_DIALECT),
    no("huggingface", OWN_DIALECT),
    no("palm", OWN_DIALECT),
    no("watsonx", OWN_DIALECT),
    no("watsonx_text", OWN_DIALECT),
    no("predibase", OWN_DIALECT),
    no("nlp_cloud", OWN_DIALECT),
    no("petals", OWN_DIALECT),
    no("cloudflare", OWN_DIALECT),
    no("oobabooga", OWN_DIALECT),
    no("aleph_alpha", OWN_DIALECT),
    no("baseten", OWN_DIALECT),
    no("clarifai", OWN_DIALECT),
    no("snowflake", OWN_DIALECT),
    no("triton", OWN_DIALECT),
    no("ai21", OWN_DIALECT),
    no("voyage", OWN_DIALECT),
    no("jina_ai", OWN_DIALECT),
    no("infinity", OWN_DIALECT),
    no("deepgram", OWN_DIALECT),
    no("elevenlabs", OWN_DIALECT),
    no("assemblyai", OWN_DIALECT),
    no("github", OWN_DIALECT),
    no("github_copilot", OWN_DIALECT),
    no("bytez", OWN_DIALECT),
    no("oci", OWN_DIALECT),
    no("maritalk", OWN_DIALECT),
    no("langgraph", OWN_DIALECT),
    no("custom", OWN_DIALECT),
];

/// The provider of this name.
pub(super) fn named(prefix: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|v| v.prefix == prefix)
}

/// Beginnings of names that LiteLLM knows without a provider in front.
const BARE: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("ft:gpt-", "openai"),
    ("text-embedding-", "openai"),
    ("text-moderation-", "openai"),
    ("omni-moderation-", "openai"),
    ("dall-e-", "openai"),
    ("tts-1", "openai"),
    ("whisper-1", "openai"),
    ("davinci-002", "openai"),
    ("babbage-002", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "vertex_ai"),
    ("command-", "cohere"),
    ("amazon.", "bedrock"),
    ("anthropic.", "bedrock"),
    ("meta.", "bedrock"),
];

/// The provider that LiteLLM takes for a name without one.
pub(super) fn of_bare(model: &str) -> Option<&'static Vendor> {
    BARE.iter().find(|(begin, _)| model.starts_with(begin)).and_then(|(_, prefix)| named(prefix))
}
