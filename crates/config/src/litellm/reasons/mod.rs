//! What is known of LiteLLM's settings that have no counterpart: why, and what to do instead. Data; a setting that
//! stands in no table is listed all the same, as not known.

mod sections;

pub(super) use sections::{of_general, of_litellm, of_router, of_top};

use super::notes::Reason;

type Table = &'static [(&'static [&'static str], Reason)];

fn look(table: Table, name: &str) -> Option<Reason> {
    table.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

const BYTE_FOR_BYTE: &str = "requests go out byte for byte, so nothing is added to them or taken out";
const IN_THE_CLIENT: &str = "set it in the client";

const OTHER_PRICE: Reason = (
    "is a price that is not carried over: prices here are for tokens, requests and searches",
    "see [[price]] in docs/configuration.md",
);

const PARAMS: Table = &[
    (
        &["drop_params", "additional_drop_params", "modify_params", "allowed_openai_params"],
        (
            BYTE_FOR_BYTE,
            "send only what the model takes; a parameter that it refuses comes back as its own 400",
        ),
    ),
    (
        &["max_tokens", "max_completion_tokens"],
        (
            BYTE_FOR_BYTE,
            "set it in the client; a route's `default_max_tokens` is written in only where a budget needs a cap",
        ),
    ),
    (
        &[
            "temperature",
            "top_p",
            "top_k",
            "n",
            "stop",
            "seed",
            "presence_penalty",
            "frequency_penalty",
            "response_format",
            "tools",
            "tool_choice",
            "stream",
            "user",
            "logit_bias",
            "thinking",
            "reasoning_effort",
            "extra_body",
            "metadata",
            "dimensions",
            "encoding_format",
            "stream_options",
            "model_info",
            "guardrails",
            "cache_control_injection_points",
            "merge_reasoning_content_in_choices",
        ],
        (BYTE_FOR_BYTE, IN_THE_CLIENT),
    ),
    (
        &["tags", "tag_regex"],
        (
            "requests are not routed by tags",
            "give each kind of caller a [[client]] or a route of its own; `tags` of a client are labels in the ledger",
        ),
    ),
    (
        &["max_retries", "num_retries", "retry_after"],
        (
            "LiteLLM gives up after so many attempts, also while other keys are healthy; here every key and tier that \
         may answer is tried, and a provider's retry-after is kept to",
            "[retry] attempts_max and budget_ratio bound it for all",
        ),
    ),
    (
        &["cooldown_time"],
        (
            "how long a key rests is ruled for all keys together",
            "[breaker] cooldown_min and cooldown_max; a refusal that names its own time is kept to anyhow",
        ),
    ),
    (
        &["region_name", "allowed_model_region"],
        ("requests are not routed by region", "name the deployments of a region in a route of their own"),
    ),
    (
        &[
            "azure_ad_token",
            "tenant_id",
            "client_id",
            "client_secret",
            "azure_username",
            "azure_password",
            "azure_scope",
        ],
        (
            "keymux fetches no Azure AD tokens",
            "use an API key; or let something else keep a fresh token in a file, secret = \"file:/path\", which is read \
         again when it changes, with auth = \"bearer\"",
        ),
    ),
    (
        &["configurable_clientside_auth_params"],
        (
            "keys and addresses come from the configuration alone, never from a caller",
            "make each of them a key here",
        ),
    ),
    (&["mock_response", "mock_timeout"], ("no answer is made up", "`keymux demo` runs a simulated provider")),
    (
        &["use_in_pass_through", "use_litellm_proxy", "use_chat_completions_api", "custom_llm_provider"],
        ("there is one way through keymux: the endpoints of the provider's own dialect", "nothing is needed"),
    ),
    (
        &["keepalive_seconds", "allow_client_keepalive_override"],
        (
            "nothing is put into a stream that the provider did not send",
            "raise the idle time-out of the proxy in between",
        ),
    ),
    (&["max_file_size_mb"], ("bodies are bounded for all together", "[server] body_bytes_max")),
    (
        &["api_version"],
        ("the API at /openai/v1, which is called here, takes no version", "nothing is needed"),
    ),
];

/// Why this entry of `litellm_params` was not carried over.
pub(super) fn of_params(name: &str) -> Option<Reason> {
    if name.contains("_cost") {
        return Some(OTHER_PRICE);
    }
    look(PARAMS, name)
}

const MODEL_INFO: Table = &[
    (
        &["mode"],
        (
            "says only what the model is for; here a request goes to any target whose provider serves its endpoint",
            "nothing is needed; `endpoints` of a provider says what it serves",
        ),
    ),
    (
        &["base_model"],
        (
            "prices are looked up by the name that the provider knows the model by",
            "if `keymux check` or a client with a budget finds no price, add a [[price]] for that name",
        ),
    ),
    (
        &["max_tokens", "max_input_tokens", "max_output_tokens"],
        (
            "requests are not measured against a context window before they go out",
            "nothing is needed: a request that is too long comes back as the provider's own 400 and benches no key",
        ),
    ),
    (
        &["team_id", "team_public_model_name", "access_groups", "access_windows"],
        ("models have no owners", "`models` of a [[client]] says which routes it may use"),
    ),
    (
        &[
            "description",
            "metadata",
            "version",
            "created_at",
            "updated_at",
            "created_by",
            "updated_by",
            "db_model",
            "tier",
        ],
        ("nothing here depends on it", "keep it as a comment"),
    ),
];

/// Why this entry of `model_info` was not carried over.
pub(super) fn of_model_info(name: &str) -> Option<Reason> {
    if name.contains("_cost") {
        return Some(OTHER_PRICE);
    }
    if name.starts_with("supports_") {
        return Some(("nothing here depends on what a model can do", "nothing is needed"));
    }
    look(MODEL_INFO, name)
}
