//! From what is told of a request to its spans: one of kind SERVER for the request, one of kind CLIENT for each
//! attempt. Tokens and money stand at the attempt that used them and nowhere else, so that sums over spans are true.

use super::Traced;
use super::names::{self, Fact};
use super::otlp::{Attribute, Kind, Span, Value};
use crate::explain::{Step, Told};
use crate::observe::class_label;
use keymux_config::{Config, SpanNames, endpoint_path};
use keymux_policy::blame::Class;
use keymux_policy::fleet::Endpoint;
use keymux_store::Used;
use std::borrow::Cow;

/// Longest name of a model that is shown: clients write it.
const MODEL_CHARS_MAX: usize = 120;
/// Stands for the status of an answer that nobody was there to take.
const GONE: u16 = 499;

/// The spans of a request, its own first.
pub(super) fn spans(traced: &Traced, config: &Config) -> Vec<Span> {
    let steps = &traced.told.steps;
    let clients = (1..).zip(steps).map(|(nth, step)| client(traced, config, nth, step));
    std::iter::once(server(traced, config)).chain(clients).collect()
}

/// Attributes that are being collected.
struct Attributes {
    names: SpanNames,
    list: Vec<Attribute>,
}

impl Attributes {
    fn of(names: SpanNames) -> Self {
        Self { names, list: Vec::with_capacity(16) }
    }

    fn fact(&mut self, fact: Fact, value: Value) {
        if let Some(name) = names::name(fact, self.names) {
            self.list.push((Cow::Borrowed(name), value));
        }
    }

    fn text(&mut self, fact: Fact, value: &str) {
        self.fact(fact, Value::Text(value.to_owned()));
    }

    /// What no convention names.
    fn own(&mut self, name: &'static str, value: Value) {
        self.list.push((Cow::Borrowed(name), value));
    }

    fn own_text(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.own(name, Value::Text(value.to_owned()));
        }
    }

    /// A count that is only of interest where there is one.
    fn tokens(&mut self, fact: Fact, tokens: u64) {
        if tokens > 0 {
            self.fact(fact, Value::Whole(tokens));
        }
    }

    fn used(&mut self, used: &Used) {
        self.fact(Fact::InputTokens, Value::Whole(used.input_tokens));
        self.fact(Fact::OutputTokens, Value::Whole(used.output_tokens));
        self.tokens(Fact::CachedTokens, used.cached_input_tokens);
        self.tokens(Fact::CacheWriteTokens, used.cache_write_tokens);
        self.tokens(Fact::ReasoningTokens, used.reasoning_tokens);
        self.tokens(Fact::InputAudioTokens, used.input_audio_tokens);
        self.tokens(Fact::OutputAudioTokens, used.output_audio_tokens);
        if used.estimated {
            self.own("keymux.usage_estimated", Value::Flag(true));
        }
        if let Some(cost) = used.cost_nano_usd {
            self.own("keymux.cost_nano_usd", Value::Whole(cost));
        }
    }
}

fn server(traced: &Traced, config: &Config) -> Span {
    let Traced { trace, endpoint, told } = traced;
    let record = &told.record;
    let route = format!("/v1/{}", endpoint_path(*endpoint));
    let mut attributes = Attributes::of(config.traces.names);
    attributes.text(Fact::Method, "POST");
    attributes.text(Fact::Route, &route);
    attributes.text(Fact::Path, &route);
    attributes.text(Fact::Scheme, if config.server.tls.is_some() { "https" } else { "http" });
    if record.status != GONE {
        attributes.fact(Fact::Status, Value::Whole(record.status.into()));
    }
    attributes.own_text("keymux.request_id", &record.id);
    attributes.own_text("keymux.model", &shown(&record.model));
    attributes.own_text("keymux.client", &record.client);
    attributes.own_text("keymux.team", &record.team);
    attributes.own_text("keymux.outcome", &record.outcome);
    attributes.own("keymux.attempts", Value::Whole(record.attempts.into()));
    attributes.own("keymux.queue_ms", Value::Whole(record.queue_ns / 1_000_000));
    if let Some((code, _)) = &told.refusal {
        attributes.own_text("keymux.refusal", code);
    }
    // Of a server's answers, only those from 500 on are its failures (HTTP conventions).
    let error = (record.status >= 500 || record.outcome == "broken").then(|| {
        let (kind, why) = match &told.refusal {
            Some((code, message)) => (*code, message.clone()),
            None => (&*record.outcome, String::new()),
        };
        attributes.text(Fact::ErrorType, kind);
        why
    });
    Span {
        trace_id: trace.id,
        id: trace.server_span(),
        parent: trace.parent,
        parent_is_remote: trace.parent.is_some(),
        state: trace.state.clone(),
        name: format!("POST {route}"),
        kind: Kind::Server,
        start_unix_ns: told.at.unix_ns,
        end_unix_ns: told.at.unix_ns + record.total_ns,
        attributes: attributes.list,
        error,
    }
}

fn client(traced: &Traced, config: &Config, nth: u32, step: &Step) -> Span {
    let Traced { trace, endpoint, told } = traced;
    let operation = names::operation(*endpoint);
    let mut attributes = Attributes::of(config.traces.names);
    attributes.text(Fact::Operation, operation);
    attributes.text(Fact::RequestModel, &shown(&step.model));
    // It may be gone by a reload.
    if let Some(provider) = config.providers.iter().find(|provider| provider.name == step.provider) {
        attributes.text(Fact::Provider, names::provider(provider.preset, provider.dialect));
        attributes.text(Fact::ServerAddress, &provider.base.host);
        attributes.fact(Fact::ServerPort, Value::Whole(provider.base.port.into()));
    }
    if told.stream {
        attributes.fact(Fact::Stream, Value::Flag(true));
    }
    attributes.own_text("keymux.provider", &step.provider);
    attributes.own_text("keymux.key", &step.key);
    attributes.own("keymux.attempt", Value::Whole(nth.into()));
    attributes.own("keymux.waited_ms", Value::Whole(step.waited_ns / 1_000_000));
    if step.probe {
        attributes.own("keymux.probe", Value::Flag(true));
    }
    if nth as usize == told.steps.len() {
        last(&mut attributes, told, step, *endpoint);
    } else if let Some(status) = step.status {
        attributes.fact(Fact::Status, Value::Whole(status.into()));
    }
    if let Some(blame) = step.blame {
        attributes.own_text("keymux.blame", class_label(blame));
    }
    // A caller that leaves is no failure of who was about to answer.
    let failed = step.blame.is_some_and(|blame| blame != Class::Client);
    let error = failed.then(|| {
        attributes.text(Fact::ErrorType, step.sign.map_or("_OTHER", names::error_type));
        step.detail.clone().unwrap_or_default()
    });
    let at = |ns: u64| told.at.unix_ns + ns;
    Span {
        trace_id: trace.id,
        id: trace.client_span(nth),
        parent: Some(trace.server_span()),
        parent_is_remote: false,
        state: trace.state.clone(),
        name: format!("{operation} {}", shown(&step.model)),
        kind: Kind::Client,
        start_unix_ns: at(step.begun_ns),
        end_unix_ns: at(step.ended_ns.unwrap_or(told.record.total_ns)),
        attributes: attributes.list,
        error,
    }
}

/// What is known of the last attempt alone: its is the answer, if there is one.
fn last(attributes: &mut Attributes, told: &Told, step: &Step, endpoint: Endpoint) {
    let record = &told.record;
    let status = step.status.or((step.blame.is_none() && record.status != GONE).then_some(record.status));
    if let Some(status) = status {
        attributes.fact(Fact::Status, Value::Whole(status.into()));
    }
    if let Some(id) = &record.generation {
        attributes.text(Fact::ResponseId, id);
    }
    if let (true, Some(first)) = (told.stream, record.first_output_ns) {
        let seconds = first.saturating_sub(step.begun_ns) as f64 / 1e9;
        attributes.fact(Fact::TimeToFirstChunk, Value::Real(seconds));
    }
    let is_billed =
        record.used != Used { cost_nano_usd: None, cost_source: record.used.cost_source, ..Used::default() };
    if is_billed && endpoint != Endpoint::CountTokens {
        attributes.used(&record.used);
    }
}

/// What a client wrote, in bounds.
fn shown(model: &str) -> String {
    model.chars().take(MODEL_CHARS_MAX).collect()
}
