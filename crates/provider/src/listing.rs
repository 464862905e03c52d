//! Free answers about what there is: models, the caller's key, past generations.

use std::fmt::Write as _;

use crate::account::Key;
use crate::dialect::Dialect;
use crate::json::{dollars, quote};
use crate::record::Record;
use crate::spec::ModelSpec;
use crate::spending::SpendReset;
use crate::time::{Now, rfc3339};

/// 2026-01-01, when all models of this world were made.
const CREATED: u64 = 1_767_225_600;

pub(crate) fn model(dialect: Dialect, model: &ModelSpec) -> String {
    let (id, owner) = (quote(&model.id), model.id.split('/').next().unwrap_or("sim"));
    match dialect {
        Dialect::Openai => {
            format!(r#"{{"id":{id},"object":"model","created":{CREATED},"owned_by":"system"}}"#)
        }
        Dialect::Anthropic => format!(
            r#"{{"type":"model","id":{id},"display_name":{id},"created_at":"2026-01-01T00:00:00Z","max_input_tokens":{}}}"#,
            model.context
        ),
        Dialect::Openrouter => format!(
            r#"{{"id":{id},"canonical_slug":{id},"name":{},"created":{CREATED},"description":"simulated","context_length":{context},"architecture":{{"modality":"text->text","input_modalities":["text"],"output_modalities":["text"],"tokenizer":"Other","instruct_type":null}},"pricing":{{"prompt":"{}","completion":"{}","request":"0","image":"0","input_cache_read":"{}"}},"top_provider":{{"context_length":{context},"max_completion_tokens":null,"is_moderated":false}},"per_request_limits":null,"supported_parameters":["max_tokens","temperature","tools","tool_choice","response_format"],"default_parameters":null,"supported_voices":null,"expiration_date":null,"links":{{"details":{details}}}}}"#,
            quote(&format!("{owner}: {}", model.id)),
            dollars(model.input_nano_usd),
            dollars(model.output_nano_usd),
            dollars(model.cached_nano_usd),
            context = model.context,
            details = quote(&format!("/api/v1/models/{}/endpoints", model.id)),
        ),
    }
}

pub(crate) fn models(dialect: Dialect, models: &[ModelSpec]) -> String {
    let items: Vec<String> = models.iter().map(|m| model(dialect, m)).collect();
    let items = items.join(",");
    match dialect {
        Dialect::Openai => format!(r#"{{"object":"list","data":[{items}]}}"#),
        Dialect::Openrouter => {
            let count = models.len();
            format!(r#"{{"data":[{items}],"total_count":{count},"links":{{"next":null}}}}"#)
        }
        Dialect::Anthropic => {
            let id = |m: Option<&ModelSpec>| m.map_or_else(|| "null".to_owned(), |m| quote(&m.id));
            format!(
                r#"{{"data":[{items}],"has_more":false,"first_id":{},"last_id":{}}}"#,
                id(models.first()),
                id(models.last())
            )
        }
    }
}

/// What OpenRouter's `GET /key` knows.
pub(crate) struct KeyFacts<'a> {
    pub(crate) now: Now,
    pub(crate) key: &'a Key,
    pub(crate) account: &'a str,
    /// Used, limit and remaining of the daily free counter.
    pub(crate) free_daily: (u64, u64, u64),
    pub(crate) has_credit: bool,
}

pub(crate) fn key(facts: &KeyFacts<'_>) -> String {
    let KeyFacts { now, key, .. } = *facts;
    let null = || "null".to_owned();
    let limit = key.spend_cap.map_or_else(null, dollars);
    let remaining = key.cap_left(now).map_or_else(null, dollars);
    let spent = |reset| dollars(key.spent.since(reset, now));
    let (all, day) = (spent(None), spent(Some(SpendReset::Daily)));
    let (week, month) = (spent(Some(SpendReset::Weekly)), spent(Some(SpendReset::Monthly)));
    let reset = key.spend_reset.map_or_else(null, |reset| quote(reset.word()));
    let account = quote(facts.account);
    let workspace = key.workspace.as_ref().map_or_else(null, |name| quote(name));
    let expires = key
        .expires_ns
        .map_or_else(null, |at| quote(&rfc3339(now.unix_ns.saturating_sub(now.mono_ns).saturating_add(at))));
    let mut text = format!(
        r#"{{"data":{{"label":{},"limit":{limit},"limit_remaining":{remaining},"limit_reset":{reset},"usage":{all},"usage_daily":{day},"usage_weekly":{week},"usage_monthly":{month},"byok_usage":0,"byok_usage_daily":0,"byok_usage_weekly":0,"byok_usage_monthly":0,"include_byok_in_limit":false,"is_free_tier":{},"is_management_key":false,"is_provisioning_key":false,"creator_user_id":{account},"organization_id":{account},"workspace_id":{workspace},"expires_at":{expires},"allowed_data_regions":["global"],"rate_limit":{{"requests":-1,"interval":"10s","note":"This field is deprecated and safe to ignore."}}"#,
        quote(&format!("sk-or-v1-sim...{}", key.name)),
        !facts.has_credit,
    );
    let (used, free, left) = facts.free_daily;
    let _ =
        write!(text, r#","free_model_daily_requests":{{"used":{used},"limit":{free},"remaining":{left}}}"#);
    let budget = key.spend_cap.map(|_| {
        let resets_at = key.spend_reset.map_or_else(null, |reset| quote(&rfc3339(reset.next(now))));
        let spent = spent(key.spend_reset);
        format!(
            r#"{{"scope":"key_limit","limit_usd":{limit},"spend_usd":{spent},"remaining_usd":{remaining},"reset_interval":{reset},"resets_at":{resets_at},"include_byok":false,"guardrail_id":null,"budget_id":null}}"#
        )
    });
    let first = budget.clone().unwrap_or_else(null);
    let _ = write!(text, r#","budgets":[{}],"effective_budget":{first}}}}}"#, budget.unwrap_or_default());
    text
}

/// OpenRouter's record of one generation. Latency and times are in milliseconds.
pub(crate) fn generation(record: &Record, created_at: &str) -> String {
    let cost = dollars(record.billed_nano_usd);
    let took = record.ended_ns.unwrap_or(record.arrived_ns).saturating_sub(record.arrived_ns) / 1_000_000;
    let (input, output, cached) = (record.input_tokens, record.output_tokens, record.cached_tokens);
    let nothing = [
        "app_id",
        "cache_discount",
        "external_user",
        "http_referer",
        "moderation_latency",
        "native_tokens_completion_images",
        "num_fetches",
        "num_input_audio_prompt",
        "num_media_completion",
        "num_media_prompt",
        "num_search_results",
        "preset_id",
        "provider_responses",
        "router",
        "service_tier",
        "upstream_id",
        "upstream_inference_cost",
        "user_agent",
        "web_search_engine",
        "workspace_id",
    ]
    .map(|name| format!(r#""{name}":null"#))
    .join(",");
    format!(
        r#"{{"data":{{"id":{},"model":{},"api_type":"completions","created_at":"{created_at}","data_region":"global","origin":"","provider_name":"Simulated","total_cost":{cost},"usage":{cost},"tokens_prompt":{input},"tokens_completion":{output},"native_tokens_prompt":{input},"native_tokens_completion":{output},"native_tokens_cached":{cached},"native_tokens_reasoning":0,"latency":{took},"generation_time":{took},"streamed":{},"cancelled":{},"is_byok":false,"finish_reason":"stop","native_finish_reason":"stop",{nothing}}}}}"#,
        quote(&record.answer_id),
        quote(&record.model),
        record.stream,
        record.cancelled,
    )
}
