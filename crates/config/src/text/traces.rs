//! The `[traces]` section.

use super::leaf::{Ratio, SecretText};
use super::node::{Node, Value};
use super::read::{Typed, choice, section, wrong};
use crate::problem::{At, Findings};
use crate::traces::SpanNames;
use serde_json::json;

section! {
    /// Where spans of requests go, as OpenTelemetry. Without an endpoint there are none. The variables `OTEL_…` count wherever the file does not say otherwise. Prompts and answers are never in them.
    Traces in "[traces]" {
        /// Where spans are sent, by OTLP over HTTP (protobuf): `"http://127.0.0.1:4318"`. Without a path, `/v1/traces` is meant. `"none"` for none, whatever the environment says. By default `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, else `OTEL_EXPORTER_OTLP_ENDPOINT` with `/v1/traces` behind it.
        endpoint: String,
        /// Headers to send spans with, each with where its value stands, as for secrets: `{ authorization = "env:COLLECTOR_AUTH" }`. By default `OTEL_EXPORTER_OTLP_TRACES_HEADERS` or `OTEL_EXPORTER_OTLP_HEADERS`.
        headers: SecretPairs,
        /// Share of requests that are traced, of those that come without a trace of their caller's: a caller's own decision (the flag in its `traceparent`) always counts. By default `OTEL_TRACES_SAMPLER` with `OTEL_TRACES_SAMPLER_ARG`, else all.
        sample: Ratio = "1.0",
        /// Which names attributes have: those of the GenAI conventions up to 1.41, which most backends know, or the newest. By default `"known"`, unless `OTEL_SEMCONV_STABILITY_OPT_IN` holds `gen_ai_latest_experimental`.
        names: SpanNames = "\"known\"",
        /// What the spans' service is called. By default `OTEL_SERVICE_NAME`, else `keymux`.
        service: String = "\"keymux\"",
    }
}

choice! { SpanNames, "set of names",
    "known" => SpanNames::Known,
    "latest" => SpanNames::Latest,
}

/// A table of names, and of where their values stand, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct SecretPairs(pub(crate) Vec<(At<String>, At<SecretText>)>);

impl Typed for SecretPairs {
    const WANTED: &'static str =
        "a table of names and where their values stand: { authorization = \"env:NAME\" }";
    fn kind() -> String {
        "table of secrets".to_owned()
    }
    fn schema() -> serde_json::Value {
        json!({ "type": "object", "additionalProperties": SecretText::schema() })
    }
    fn read(node: Node, found: &mut Findings) -> Option<Self> {
        let Value::Table(entries) = node.value else { return wrong(&node, found) };
        let mut pairs = Vec::new();
        for entry in entries {
            let place = entry.node.place;
            if let Some(value) = SecretText::read(entry.node, found) {
                pairs.push((entry.name, At { value, place }));
            }
        }
        Some(Self(pairs))
    }
}
