//! Where spans go: the file over OpenTelemetry's variables, and what is said of both where they are wrong.

use crate::world::{Table, bad, good};
use keymux_config::{Config, SpanNames, diff};

const ONE: &str =
    "[[provider]]\nname = \"openrouter\"\nkeys = [{ name = \"a\", secret = \"literal:sk-test-a\" }]\n";

fn with(vars: &[(&str, &str)], traces: &str) -> Config {
    Table::vars(vars).toml(&format!("{ONE}[traces]\n{traces}")).expect("good")
}

fn url(config: &Config) -> Option<String> {
    config.traces.collector.as_ref().map(|collector| collector.url.to_string())
}

fn headers(config: &Config) -> Vec<(&str, &str)> {
    let collector = config.traces.collector.as_ref().unwrap();
    collector.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
}

fn warnings(config: &Config) -> String {
    config.warnings.iter().map(|w| w.message.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn without_an_endpoint_there_are_none() {
    let config = good(ONE);
    assert_eq!(url(&config), None);
    assert!(!config.describe().contains("traces"));
    assert!(!config.providers[0].trace_context, "trace ids stay in the house");
}

#[test]
fn an_endpoint_without_a_path_gets_the_usual_one() {
    for (written, meant) in [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
        ("https://otel.example.com/api/otlp/v1/traces", "https://otel.example.com/api/otlp/v1/traces"),
    ] {
        let config = with(&[], &format!("endpoint = \"{written}\""));
        assert_eq!(url(&config).as_deref(), Some(meant));
        assert!(config.describe().contains(meant));
    }
}

#[test]
fn the_variables_of_opentelemetry_count_and_the_file_goes_over_them() {
    let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let own = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let vars = [
        (all, "http://127.0.0.1:4318/base/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20sk-test-collector, x-team = blue"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_SERVICE_NAME", "edge"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental"),
    ];
    let config = with(&vars, "");
    assert_eq!(warnings(&config), "");
    assert_eq!(url(&config).as_deref(), Some("http://127.0.0.1:4318/base/v1/traces"));
    assert_eq!(headers(&config), [("authorization", "Bearer sk-test-collector"), ("x-team", "blue")]);
    assert!((config.traces.sample - 0.25).abs() < 1e-9);
    assert_eq!((config.traces.service.as_str(), config.traces.names), ("edge", SpanNames::Latest));
    assert_eq!(config.traces.resource, [("deployment.environment.name".to_owned(), "test".to_owned())]);
    assert!(
        !format!("{config:?}{}", config.describe()).contains("sk-test-collector"),
        "it cannot be printed"
    );

    let file = "endpoint = \"http://127.0.0.1:9/x\"\nsample = 1\nservice = \"mine\"\nnames = \"known\"\n\
                headers = { x-key = \"literal:Bearer sk-test-file\" }";
    let config = with(&vars, file);
    assert_eq!(url(&config).as_deref(), Some("http://127.0.0.1:9/x"));
    assert_eq!(headers(&config), [("x-key", "Bearer sk-test-file")]);
    assert!((config.traces.sample - 1.0).abs() < 1e-9);
    assert_eq!((config.traces.service.as_str(), config.traces.names), ("mine", SpanNames::Known));

    assert_eq!(url(&with(&vars, "endpoint = \"none\"")), None);
    for (name, value) in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert_eq!(url(&with(&[(all, "http://127.0.0.1:1"), (name, value)], "")), None, "{name}");
    }
    let config = with(&[(all, "http://127.0.0.1:1"), (own, "http://127.0.0.1:2/spans")], "");
    assert_eq!(url(&config).as_deref(), Some("http://127.0.0.1:2/spans"), "as it is written");
    let from_env = Table::vars(&[("OPENAI_API_KEY", "sk-test-a"), (all, "http://127.0.0.1:4318")]);
    assert_eq!(url(&from_env.environment().unwrap()).as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
}

#[test]
fn variables_that_cannot_be_used_are_told_and_stop_nothing() {
    let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
    for (vars, told, sends) in [
        (vec![(all, "collector:4317")], "no address", false),
        (vec![(all, "http://h:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "is grpc", false),
        (vec![(all, "http://h"), ("OTEL_TRACES_SAMPLER", "always_on")], "decision counts", true),
        (vec![(all, "http://h"), ("OTEL_TRACES_SAMPLER", "jaeger_remote")], "not known here", true),
        (
            vec![
                (all, "http://h"),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", "7"),
            ],
            "no share",
            true,
        ),
        (vec![(all, "http://h"), ("OTEL_EXPORTER_OTLP_HEADERS", "sk-test-bare")], "a part of", true),
        (vec![(all, "http://h"), ("OTEL_EXPORTER_OTLP_HEADERS", "host=x")], "a part of", true),
    ] {
        let config = with(&vars, "");
        let said = warnings(&config);
        assert!(said.contains(told) && !said.contains("sk-test"), "{vars:?}: {said}");
        assert_eq!(url(&config).is_some(), sends, "{vars:?}");
    }
    // Without traces, it is nobody's business how they would be sampled.
    assert_eq!(warnings(&with(&[("OTEL_TRACES_SAMPLER", "jaeger_remote")], "")), "");
}

#[test]
fn mistakes_in_the_file_are_errors() {
    for (traces, told) in [
        ("endpoint = \"collector:4318\"", "spans cannot be sent there"),
        ("endpoint = \"http://user:sk-test-x@h:4318\"", "credentials do not belong"),
        ("sample = 2", "from 0 to 1"),
        ("names = \"newest\"", "unknown set of names"),
        (
            "endpoint = \"http://h\"\nheaders = { authorization = \"Bearer sk-test-x\" }",
            "where it comes from",
        ),
        ("endpoint = \"http://h\"\nheaders = { Host = \"literal:x\" }", "set by keymux itself"),
        ("endpoint = \"http://h\"\nheaders = { \"a b\" = \"literal:x\" }", "not the name of a header"),
        ("endpoint = \"http://h\"\nheaders = { a = \"literal:x\", A = \"literal:y\" }", "set twice"),
        ("end_point = \"http://h\"", "unknown setting"),
    ] {
        let said = bad(&format!("{ONE}[traces]\n{traces}"));
        assert!(said.iter().any(|m| m.contains(told)), "{traces}: {said:?}");
        assert!(said.iter().all(|m| !m.contains("sk-test-x")), "{said:?}");
    }
}

#[test]
fn a_reload_says_that_they_changed() {
    let one = with(&[], "endpoint = \"http://h\"\nheaders = { a = \"literal:x\" }");
    let other = with(&[], "endpoint = \"http://h\"\nheaders = { a = \"literal:y\" }");
    assert!(diff(&one, &one).is_empty());
    assert_eq!(diff(&one, &other).iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["[traces] changed"]);
}
