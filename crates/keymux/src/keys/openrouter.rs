//! OpenRouter's own surface for keys, credits and generations, answered by the gateway for its own client keys, so that
//! tools which were written for OpenRouter's work here. Its documents and its SDK's types say which fields there are;
//! what has no counterpart here is null or zero. What belongs to somebody else is as unknown as what does not exist.

use super::{All, Fields, Spent, Trouble, in_period, shown};
use crate::clients::Client as Caller;
use crate::errors::{Kind, Problem};
use crate::reply::Reply;
use crate::serve::Gateway;
use crate::surface::Own;
use axum::extract::Query;
use http::{Method, StatusCode, Uri};
use keymux_store::{Client, Record, Reset};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Keys of one page, as at OpenRouter.
const PAGE: usize = 100;

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let kind = match trouble.status {
            400 => Kind::InvalidBody,
            403 => Kind::NotAllowed,
            404 => Kind::KeyUnknown,
            409 => Kind::KeyConflict,
            503 => Kind::LedgerUnavailable,
            _ => Kind::Internal,
        };
        let field = trouble.told.first().and_then(|told| told.field.clone());
        let mut problem = Self::new(kind, trouble.message()).at(trouble.code, field.as_deref());
        if kind == Kind::LedgerUnavailable {
            problem = problem.after(Some(2_000_000_000));
        }
        problem
    }
}

/// A question of the surface.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) what: Own<'a>,
    pub(crate) query: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Who asks; `None`: the gateway's own token, or anybody where it is open. Not looked at for [`Own::Keys`] and
    /// [`Own::Key`], which want the admin token.
    pub(crate) caller: Option<&'a Caller>,
}

/// Answers it.
pub(crate) async fn answer(gateway: &Gateway, asked: &Asked<'_>) -> Result<Reply, Problem> {
    let query = parameters(asked.query);
    let (status, body) = match (asked.what, asked.method) {
        (Own::Keys, &Method::POST) => create(gateway, asked.body).await?,
        (Own::Keys, _) => (StatusCode::OK, list(gateway, &query).await?),
        (Own::Key(hash), &Method::PATCH) => (StatusCode::OK, change(gateway, hash, asked.body).await?),
        (Own::Key(hash), &Method::DELETE) => {
            let client = one(gateway, hash).await?;
            super::revoke(gateway, &client.id, None).await?;
            (StatusCode::OK, json!({ "deleted": true, "data": { "success": true } }))
        }
        (Own::Key(hash), _) => {
            let client = one(gateway, hash).await?;
            (StatusCode::OK, json!({ "data": key(&client, spent(gateway, &client.id).await?) }))
        }
        (Own::Caller, _) => (StatusCode::OK, json!({ "data": caller(gateway, asked.caller).await? })),
        (Own::Credits, _) => (StatusCode::OK, json!({ "data": credits(gateway, asked.caller).await? })),
        (Own::Generation, _) => {
            (StatusCode::OK, json!({ "data": generation(gateway, asked.caller, &query).await? }))
        }
    };
    Ok(Reply::whole(status, "application/json", body.to_string()))
}

fn parameters(query: Option<&str>) -> HashMap<String, String> {
    let uri = query.and_then(|query| format!("/?{query}").parse::<Uri>().ok());
    let read = uri.and_then(|uri| Query::<HashMap<String, String>>::try_from_uri(&uri).ok());
    read.map(|Query(read)| read).unwrap_or_default()
}

/// The key with this hash; a revoked one is no more.
async fn one(gateway: &Gateway, hash: &str) -> Result<Client, Trouble> {
    let client = super::get(gateway, hash).await?;
    if client.revoked_unix_ms.is_some() || client.digest.to_string() != hash {
        return Err(Trouble::unknown("client key", hash));
    }
    Ok(client)
}

async fn spent(gateway: &Gateway, id: &str) -> Result<Spent, Trouble> {
    super::of_one(gateway, false, id).await
}

async fn list(gateway: &Gateway, query: &HashMap<String, String>) -> Result<Value, Trouble> {
    let disabled = query.get("include_disabled").is_some_and(|v| v == "true");
    let offset = query.get("offset").and_then(|v| v.parse().ok()).unwrap_or(0);
    let all = super::list(gateway, |c| c.revoked_unix_ms.is_none() && (disabled || !c.disabled)).await?;
    let spent = All::read(gateway, false).await;
    let shown = |client: &Client| Ok(key(client, spent.of(&client.id)?));
    let page: Vec<Value> = all.iter().skip(offset).take(PAGE).map(shown).collect::<Result<_, Trouble>>()?;
    Ok(json!({ "data": page }))
}

async fn create(gateway: &Gateway, body: &[u8]) -> Result<(StatusCode, Value), Trouble> {
    let (client, secret) = super::create(gateway, &fields(body)?).await?;
    Ok((StatusCode::CREATED, json!({ "data": key(&client, Spent::default()), "key": secret })))
}

async fn change(gateway: &Gateway, hash: &str, body: &[u8]) -> Result<Value, Trouble> {
    let client = one(gateway, hash).await?;
    let client = super::change(gateway, &client.id, &fields(body)?, None).await?;
    Ok(json!({ "data": key(&client, spent(gateway, &client.id).await?) }))
}

/// OpenRouter's names for our fields. Its others concern what there is none of here, and are left out.
fn fields(body: &[u8]) -> Result<Fields, Trouble> {
    let bad = |message: String| Trouble::new(400, "invalid_body", message);
    let sent = match serde_json::from_slice(body) {
        Ok(Value::Object(sent)) => sent,
        Ok(_) => return Err(bad("The body must be a JSON object.".to_owned())),
        Err(error) => return Err(bad(format!("The body is not JSON: {error}."))),
    };
    let mut fields = Fields::new();
    for (name, value) in sent {
        let ours = match name.as_str() {
            "limit" => "budget",
            "limit_reset" => "reset",
            "expires_at" => "expires",
            "include_byok_in_limit" | "workspace_id" | "creator_user_id" | "external" => continue,
            // Ours by the same name, or told of as unknown.
            _ => &name,
        };
        fields.insert(ours.to_owned(), value);
    }
    Ok(fields)
}

/// Enough of a key to know it again. The secret is not kept, so it is the digest's.
fn label(client: &Client) -> String {
    let hash = client.digest.to_string();
    format!("km-…{}", &hash[..8])
}

fn limit_reset(client: &Client) -> Option<&'static str> {
    client.terms.budget.map(|b| b.reset).filter(|reset| *reset != Reset::Never).map(shown::reset_word)
}

fn usage(spent: Spent) -> [(&'static str, Value); 8] {
    [
        ("usage", json!(shown::usd(spent.ever))),
        ("usage_daily", json!(shown::usd(spent.day))),
        ("usage_weekly", json!(shown::usd(spent.week))),
        ("usage_monthly", json!(shown::usd(spent.month))),
        ("byok_usage", json!(0)),
        ("byok_usage_daily", json!(0)),
        ("byok_usage_weekly", json!(0)),
        ("byok_usage_monthly", json!(0)),
    ]
}

fn with(mut shown: Value, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    if let Some(shown) = shown.as_object_mut() {
        shown.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    shown
}

fn key(client: &Client, spent: Spent) -> Value {
    let shown = json!({
        "hash": client.digest.to_string(),
        "name": client.name,
        "label": label(client),
        "disabled": client.disabled,
        "limit": client.terms.budget.map(|b| shown::usd(b.nano_usd)),
        "limit_remaining": shown::left(&client.terms, spent).map(shown::usd),
        "limit_reset": limit_reset(client),
        "include_byok_in_limit": false,
        "created_at": shown::instant(client.created_unix_ms),
        "updated_at": Value::Null,
        "expires_at": client.expires_unix_ms.map(shown::instant),
        "creator_user_id": Value::Null,
        "external_user": Value::Null,
        "workspace_id": client.team,
    });
    with(shown, usage(spent))
}

/// What of a caller's budget there is: limit, what is left, and when it is whole again.
async fn budget(
    gateway: &Gateway,
    caller: Option<&Caller>,
) -> Result<(Spent, Option<u64>, Option<u64>, Option<&'static str>), Trouble> {
    let Some(caller) = caller else { return Ok((spent(gateway, "").await?, None, None, None)) };
    let spent = spent(gateway, &caller.id).await?;
    let budget = match caller.id.strip_prefix("config:") {
        Some(name) => {
            use keymux_policy::budget::Reset as Of;
            let snapshot = gateway.live.load();
            let declared = snapshot.config.clients.iter().find(|c| *c.name == *name).map(|c| c.budget);
            declared.and_then(|budget| {
                let reset = match budget.reset {
                    Of::Never => Reset::Never,
                    Of::Daily => Reset::Daily,
                    Of::Weekly => Reset::Weekly,
                    Of::Monthly => Reset::Monthly,
                };
                budget.limit_nano_usd.map(|nano_usd| keymux_store::Budget { nano_usd, reset })
            })
        }
        None => gateway.directory.stored(|clients, _| clients.get(&*caller.id).and_then(|c| c.terms.budget)),
    };
    let left = budget.map(|b| b.nano_usd.saturating_sub(in_period(spent, b.reset)));
    let reset = budget.map(|b| b.reset).filter(|reset| *reset != Reset::Never).map(shown::reset_word);
    Ok((spent, budget.map(|b| b.nano_usd), left, reset))
}

async fn caller(gateway: &Gateway, caller: Option<&Caller>) -> Result<Value, Trouble> {
    let (spent, limit, left, reset) = budget(gateway, caller).await?;
    let shown = json!({
        "label": caller.map_or("gateway token", |caller| &caller.name),
        "limit": limit.map(shown::usd),
        "limit_remaining": left.map(shown::usd),
        "limit_reset": reset,
        "include_byok_in_limit": false,
        "is_free_tier": false,
        "is_management_key": false,
        "is_provisioning_key": false,
        "expires_at": caller.and_then(|caller| caller.expires_unix_ms).map(shown::instant),
        "creator_user_id": Value::Null,
        "organization_id": Value::Null,
        "workspace_id": caller.map(|caller| &*caller.team).filter(|team| !team.is_empty()),
        "allowed_data_regions": [],
        // Nothing here is counted by the day for being free; the SDK wants the field.
        "free_model_daily_requests": { "limit": 0, "remaining": 0, "used": 0 },
        "rate_limit": { "requests": -1, "interval": "10s", "note": "This field is deprecated and safe to ignore." },
    });
    Ok(with(shown, usage(spent)))
}

async fn credits(gateway: &Gateway, caller: Option<&Caller>) -> Result<Value, Trouble> {
    let (spent, limit, left, _) = budget(gateway, caller).await?;
    // A budget that begins anew gives credits again and again: what is left comes on top of what was spent. Where nothing
    // is limited there are no more credits than were used.
    let total = match (limit, left) {
        (Some(_), Some(left)) => spent.ever.saturating_add(left),
        _ => spent.ever,
    };
    Ok(json!({ "total_credits": shown::usd(total), "total_usage": shown::usd(spent.ever) }))
}

async fn generation(
    gateway: &Gateway,
    caller: Option<&Caller>,
    query: &HashMap<String, String>,
) -> Result<Value, Problem> {
    let Some(id) = query.get("id").filter(|id| !id.is_empty()) else {
        let message = "Say which generation: `?id=` with the id of an answer, or its `x-request-id`.";
        return Err(Problem::new(Kind::InvalidBody, message).at("missing_id", Some("id")));
    };
    let of = caller.map_or("", |caller| &*caller.id);
    let found = match &gateway.store {
        Some(store) => store.generation(of, id).await.map_err(Trouble::from)?,
        None => None,
    };
    let Some(record) = found else {
        let shown: String = id.chars().take(120).collect();
        let message = format!(
            "There is no generation `{shown}` of yours. It is there a moment after the answer is over."
        );
        return Err(Problem::new(Kind::GenerationUnknown, message));
    };
    Ok(shown_record(&record))
}

/// Fields of OpenRouter's that nothing is known of here.
const NOT_KEPT: [&str; 22] = [
    "app_id",
    "cache_discount",
    "external_user",
    "finish_reason",
    "http_referer",
    "moderation_latency",
    "native_finish_reason",
    "native_tokens_completion_images",
    "num_input_audio_prompt",
    "num_media_completion",
    "num_media_prompt",
    "num_search_results",
    "preset_id",
    "provider_responses",
    "router",
    "service_tier",
    "streamed",
    "upstream_id",
    "upstream_inference_cost",
    "user_agent",
    "web_search_engine",
    "workspace_id",
];

fn shown_record(record: &Record) -> Value {
    let used = &record.used;
    let cost = used.cost_nano_usd.map(shown::usd);
    let ms = |ns: u64| ns as f64 / 1e6;
    let api_type = match &*record.endpoint {
        "embeddings" => json!("embeddings"),
        "chat/completions" | "completions" | "responses" | "messages" => json!("completions"),
        _ => Value::Null,
    };
    let shown = json!({
        "id": record.generation.as_deref().unwrap_or(&record.id),
        "request_id": &*record.id,
        "api_type": api_type,
        "created_at": shown::instant(record.started_unix_ms),
        "model": record.model,
        "provider_name": &*record.provider,
        "total_cost": cost,
        "usage": cost,
        "tokens_prompt": used.input_tokens,
        "tokens_completion": used.output_tokens,
        "native_tokens_prompt": used.input_tokens,
        "native_tokens_completion": used.output_tokens,
        "native_tokens_cached": used.cached_input_tokens,
        "native_tokens_reasoning": used.reasoning_tokens,
        "latency": record.first_output_ns.map(ms),
        "generation_time": ms(record.total_ns.saturating_sub(record.first_output_ns.unwrap_or(0))),
        "cancelled": record.status == 499,
        "is_byok": false,
        "origin": "",
        "data_region": "global",
        "num_fetches": Value::Null,
        // Whether it is known, and who said so.
        "cost_known": used.cost_nano_usd.is_some(),
        "cost_source": used.cost_source.label(),
        "estimated": used.estimated,
        "attempts": record.attempts,
        "status": record.status,
        "outcome": record.outcome,
    });
    with(shown, NOT_KEPT.map(|name| (name, Value::Null)))
}
