//! Free answers about what there is: models, the caller's key, past generations.

use std::fmt::Write as _;

use crate::dialect::Dialect;
use crate::json::{dollars, quote};
use crate::record::Record;
use crate::spec::ModelSpec;

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
            r#"{{"id":{id},"canonical_slug":{id},"name":{},"created":{CREATED},"description":"simulated","context_length":{context},"architecture":{{"modality":"text->text","input_modalities":["text"],"output_modalities":["text"],"tokenizer":"Other","instruct_type":null}},"pricing":{{"prompt":"{}","completion":"{}","request":"0","image":"0","input_cache_read":"{}"}},"top_provider":{{"context_length":{context},"max_completion_tokens":null,"is_moderated":false}},"per_request_limits":null,"supported_parameters":["max_tokens","temperature","tools","tool_choice","response_format"]}}"#,
            quote(&format!("{owner}: {}", model.id)),
            dollars(model.input_nano_usd),
            dollars(model.output_nano_usd),
            dollars(model.cached_nano_usd),
            context = model.context,
        ),
    }
}

pub(crate) fn models(dialect: Dialect, models: &[ModelSpec]) -> String {
    let items: Vec<String> = models.iter().map(|m| model(dialect, m)).collect();
    let items = items.join(",");
    match dialect {
        Dialect::Openai => format!(r#"{{"object":"list","data":[{items}]}}"#),
        Dialect::Openrouter => format!(r#"{{"data":[{items}]}}"#),
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
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    pub(crate) cap_nano_usd: Option<u64>,
    pub(crate) spent_nano_usd: u64,
    /// Used, limit and remaining of the daily free counter.
    pub(crate) free_daily: Option<(u64, u64, u64)>,
    pub(crate) has_credit: bool,
}

pub(crate) fn key(facts: &KeyFacts<'_>) -> String {
    let limit = facts.cap_nano_usd.map_or_else(|| "null".to_owned(), dollars);
    let remaining = facts
        .cap_nano_usd
        .map_or_else(|| "null".to_owned(), |cap| dollars(cap.saturating_sub(facts.spent_nano_usd)));
    let usage = dollars(facts.spent_nano_usd);
    let account = quote(facts.account);
    let mut text = format!(
        r#"{{"data":{{"label":{},"limit":{limit},"limit_remaining":{remaining},"limit_reset":null,"usage":{usage},"usage_daily":{usage},"usage_weekly":{usage},"usage_monthly":{usage},"byok_usage":0,"byok_usage_daily":0,"byok_usage_weekly":0,"byok_usage_monthly":0,"include_byok_in_limit":false,"is_free_tier":{},"is_management_key":false,"is_provisioning_key":false,"creator_user_id":{account},"organization_id":{account},"workspace_id":null,"expires_at":null,"allowed_data_regions":["global"],"rate_limit":{{"requests":-1,"interval":"10s","note":"This field is deprecated and safe to ignore."}}"#,
        quote(&format!("sk-or-v1-sim...{}", facts.name)),
        !facts.has_credit,
    );
    if let Some((used, limit, remaining)) = facts.free_daily {
        let _ = write!(
            text,
            r#","free_model_daily_requests":{{"used":{used},"limit":{limit},"remaining":{remaining}}}"#
        );
    }
    text.push_str(r#","budgets":["#);
    if facts.cap_nano_usd.is_some() {
        let _ = write!(
            text,
            r#"{{"scope":"key_limit","limit_usd":{limit},"spend_usd":{usage},"remaining_usd":{remaining},"reset_interval":null,"resets_at":null,"include_byok":false,"guardrail_id":null,"budget_id":null}}"#
        );
    }
    text.push_str(r#"],"effective_budget":null}}"#);
    text
}

pub(crate) fn generation(record: &Record) -> String {
    format!(
        r#"{{"data":{{"id":{},"model":{},"provider_name":"Simulated","total_cost":{},"usage":{cost},"tokens_prompt":{},"tokens_completion":{},"native_tokens_prompt":{},"native_tokens_completion":{},"native_tokens_cached":{},"streamed":{},"cancelled":{},"is_byok":false,"finish_reason":"stop"}}}}"#,
        quote(&record.answer_id),
        quote(&record.model),
        dollars(record.billed_nano_usd),
        record.input_tokens,
        record.output_tokens,
        record.input_tokens,
        record.output_tokens,
        record.cached_tokens,
        record.stream,
        record.cancelled,
        cost = dollars(record.billed_nano_usd),
    )
}
