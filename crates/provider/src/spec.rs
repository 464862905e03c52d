//! A world as it is written down: providers, accounts, keys, limits, latencies. Data only, from TOML or JSON;
//! misspelt fields are errors, because a test whose fault is silently ignored proves nothing.

use serde::{Deserialize, Serialize};

use crate::dialect::{Dialect, HeaderFamily, glob_matches};
use crate::fault::{FaultSpec, RateLimitTime};
use crate::spending::SpendReset;

/// Everything the gateway can be pointed at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorldSpec {
    /// The providers, mounted by name.
    #[serde(rename = "provider")]
    pub providers: Vec<ProviderSpec>,
}

/// One vendor: a dialect, what it serves, who may call it and how fast it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSpec {
    /// Name, also the path prefix under which `testkit` mounts it.
    pub name: String,
    /// How it speaks.
    pub dialect: Dialect,
    /// Which rate-limit headers it sends; by default its dialect's own.
    pub headers: Option<HeaderFamily>,
    /// In what form refusals by its limits say when to come back; by default its header family's own.
    pub refusal_time: Option<RateLimitTime>,
    /// What it serves; empty means every name.
    #[serde(rename = "model")]
    pub models: Vec<ModelSpec>,
    /// Who owns the keys.
    #[serde(rename = "account")]
    pub accounts: Vec<AccountSpec>,
    /// Limits that each account gets, in addition to its own.
    pub limits: Vec<LimitSpec>,
    /// How long answers take and how long they are.
    pub latency: LatencySpec,
    /// What a call is charged against the limits.
    pub charging: ChargingSpec,
    /// Faults that hit every account.
    pub faults: Vec<FaultSpec>,
    /// Any credential (or none) is accepted and belongs to the first key.
    pub open: bool,
    /// Whether a disconnect stops generation and billing.
    pub cancel_stops_billing: bool,
    /// Whether answers name the account (`openai-organization`, `anthropic-organization-id`).
    pub expose_account: bool,
    /// Output cap for requests that name none.
    pub default_max_tokens: u64,
}

impl Default for ProviderSpec {
    fn default() -> Self {
        ProviderSpec {
            name: "openai".to_owned(),
            dialect: Dialect::default(),
            headers: None,
            refusal_time: None,
            models: Vec::new(),
            accounts: Vec::new(),
            limits: Vec::new(),
            latency: LatencySpec::default(),
            charging: ChargingSpec::default(),
            faults: Vec::new(),
            open: false,
            cancel_stops_billing: true,
            expose_account: true,
            default_max_tokens: 4096,
        }
    }
}

/// A model on offer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// Its name in requests.
    pub id: String,
    /// Price of an input token, in nano-dollars.
    pub input_nano_usd: u64,
    /// Price of an input token read from the prompt cache, in nano-dollars.
    pub cached_nano_usd: u64,
    /// Price of an output token, in nano-dollars.
    pub output_nano_usd: u64,
    /// OpenRouter: the dearest of those behind it takes so many percent of these prices, the cheapest takes these. The
    /// dearest that a request's `max_price` lets it take serves.
    pub dearest_percent: u64,
    /// Context length in tokens; longer requests are refused with 400.
    pub context: u64,
    /// Capacity shared by all accounts of this provider: requests a minute. None is unlimited.
    pub shared_rpm: Option<u64>,
    /// Capacity shared by all accounts of this provider: requests at a time. None is unlimited.
    pub shared_concurrent: Option<u64>,
    /// Reasoning tokens before the first visible one.
    pub reasoning_tokens: u64,
    /// Length of an embedding vector where the request names none.
    pub embedding_dimensions: u32,
    /// Replaces the provider's latency.
    pub latency: Option<LatencySpec>,
}

impl Default for ModelSpec {
    fn default() -> Self {
        ModelSpec {
            id: String::new(),
            input_nano_usd: 0,
            cached_nano_usd: 0,
            output_nano_usd: 0,
            dearest_percent: 100,
            context: 128_000,
            shared_rpm: None,
            shared_concurrent: None,
            reasoning_tokens: 0,
            embedding_dimensions: 64,
            latency: None,
        }
    }
}

/// Who is billed and limited.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountSpec {
    /// Name, sent as organisation id where the vendor does so.
    pub name: String,
    /// Prepaid credit; None never runs out.
    pub credit_nano_usd: Option<i64>,
    /// Limits of this account.
    pub limits: Vec<LimitSpec>,
    /// Replaces the provider's charging.
    pub charging: Option<ChargingSpec>,
    /// Its keys.
    #[serde(rename = "key")]
    pub keys: Vec<KeySpec>,
    /// Faults that hit every key of the account.
    pub faults: Vec<FaultSpec>,
}

/// One secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeySpec {
    /// Name in records.
    pub name: String,
    /// What callers present.
    pub secret: String,
    /// The key's own cap; reached, it is refused although the account has credit.
    pub spend_cap_nano_usd: Option<u64>,
    /// When that cap begins again; None is never.
    pub spend_reset: Option<SpendReset>,
    /// What it spent before the world began, that very day.
    pub spent_nano_usd: u64,
    /// So long after the world began it expires, and is as unknown as any other.
    pub expires_in_ms: Option<u64>,
    /// Switched off by its owner: as unknown as any other.
    pub disabled: bool,
    /// The workspace of the account that it belongs to.
    pub workspace: Option<String>,
    /// Limits of this key alone.
    pub limits: Vec<LimitSpec>,
    /// Faults that hit this key alone.
    pub faults: Vec<FaultSpec>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Requests.
    #[default]
    Requests,
    /// Input tokens, cached ones left out where charging says so.
    InputTokens,
    /// Output tokens, reserved or as produced.
    OutputTokens,
    /// Input and output together, by [`TotalTokens`].
    TotalTokens,
    /// Requests at a time.
    Concurrent,
    /// Nano-dollars held for requests at a time (OpenRouter's in-flight budget).
    InFlightMoney,
}

/// How a limit comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitShape {
    /// Refills all the time: `limit` in `period_ms`, up to `burst`.
    #[default]
    Bucket,
    /// Starts again all at once every `period_ms`.
    Window,
    /// Starts again at midnight UTC.
    Day,
}

/// Where windows begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// At multiples of the period since 1970.
    #[default]
    Clock,
    /// At the first request after the last window ended.
    FirstRequest,
}

/// One limit that the provider enforces.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSpec {
    /// What is counted.
    pub dimension: Dimension,
    /// How much of it in a period (or at a time).
    pub limit: u64,
    /// The period; ignored by `day`, `concurrent` and `in_flight_money`.
    pub period_ms: u64,
    /// How it comes back.
    pub shape: LimitShape,
    /// Depth of a bucket, by default `limit`.
    pub burst: Option<u64>,
    /// The period is enforced in slices of this length too (60 a minute as 1 a second).
    pub sub_window_ms: Option<u64>,
    /// Where windows begin.
    pub anchor: Anchor,
    /// Models that share this limit, as globs with `*`; empty means all.
    pub models: Vec<String>,
    /// `in_flight_money`: how long after its end a call's real cost stays held.
    pub settlement_ms: u64,
    /// `concurrent` and `in_flight_money`: what the refusal's `Retry-After` says.
    pub retry_after_ms: Option<u64>,
}

impl LimitSpec {
    /// Whether calls for this model meet it.
    pub fn applies_to(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob_matches(glob, model))
    }
}

impl Default for LimitSpec {
    fn default() -> Self {
        LimitSpec {
            dimension: Dimension::default(),
            limit: 60,
            period_ms: 60_000,
            shape: LimitShape::default(),
            burst: None,
            sub_window_ms: None,
            anchor: Anchor::default(),
            models: Vec::new(),
            settlement_ms: 1_000,
            retry_after_ms: None,
        }
    }
}

/// How [`Dimension::TotalTokens`] is charged at admission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TotalTokens {
    /// OpenAI: the larger of `max_tokens` and the estimate of the input.
    #[default]
    MaxOfEstimateAndMaxTokens,
    /// Azure, Bedrock, Cerebras: the input and `max_tokens`.
    InputPlusMaxTokens,
    /// The input at admission, the output as it comes.
    AsProduced,
}

/// What a call is charged against the limits.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one documented habit of a vendor, all independent"
)]
pub struct ChargingSpec {
    /// Output-token limits are charged `max_tokens` at admission (else: as it is produced).
    pub output_reserved: bool,
    /// How total-token limits are charged.
    pub total_tokens: TotalTokens,
    /// What was reserved and not used is given back when the call ends.
    pub refund_unused: bool,
    /// Input read from the prompt cache is not charged against token limits.
    pub cached_input_free: bool,
    /// Refused requests count against request limits as well (a retry storm eats the quota).
    pub refused_count: bool,
    /// Cap on what an absent or huge `max_tokens` holds of an in-flight budget, in tokens.
    pub hold_cap_tokens: u64,
}

impl Default for ChargingSpec {
    fn default() -> Self {
        ChargingSpec {
            output_reserved: false,
            total_tokens: TotalTokens::default(),
            refund_unused: false,
            cached_input_free: false,
            refused_count: false,
            hold_cap_tokens: 8192,
        }
    }
}

/// How many output tokens an answer has where the request does not say.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputLength {
    /// Mean, in tokens.
    pub mean: f64,
    /// Sigma of the logarithm; 0 is constant.
    pub sigma: f64,
    /// Longest natural answer.
    pub max: u64,
}

impl Default for OutputLength {
    fn default() -> Self {
        OutputLength { mean: 40.0, sigma: 0.3, max: 4096 }
    }
}

/// How long things take.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencySpec {
    /// Mean time to the first token, in milliseconds.
    pub ttft_ms: f64,
    /// Sigma of its logarithm; 0 is constant.
    pub ttft_sigma: f64,
    /// More time to the first token for each 1,000 input tokens that were not cached.
    pub ttft_ms_per_1k_input: f64,
    /// Time between tokens, in milliseconds.
    pub per_token_ms: f64,
    /// Tokens in one stream event.
    pub tokens_per_event: u32,
    /// How long a refusal takes.
    pub refusal_ms: f64,
    /// OpenRouter: time between comment lines before the first token.
    pub comment_every_ms: f64,
    /// Natural length of answers.
    pub output: OutputLength,
}

impl Default for LatencySpec {
    fn default() -> Self {
        LatencySpec {
            ttft_ms: 20.0,
            ttft_sigma: 0.2,
            ttft_ms_per_1k_input: 0.0,
            per_token_ms: 1.0,
            tokens_per_event: 1,
            refusal_ms: 2.0,
            comment_every_ms: 500.0,
            output: OutputLength::default(),
        }
    }
}
