use proptest::prelude::*;
use serde_json::Value;

use super::{
    BodyKind, Field, Head, HeadError, PriceMax, multipart_model, parse, parse_provider,
    parse_providers_header,
};

fn chat(body: &str) -> Result<Box<Head<'_>>, HeadError> {
    parse(body.as_bytes(), BodyKind::Chat)
}

fn refusal(body: &str) -> HeadError {
    chat(body).expect_err(body)
}

#[test]
fn every_known_field_is_found_with_its_span() {
    let body = r#" {
        "messages": [{"role":"user","content":"\"model\":\"dear\" {[}]"}], "model" : "vendor\/na\u006de" ,
        "stream":true, "stream_options":{"include_usage":false}, "max_tokens":10,"max_completion_tokens":20,
        "max_output_tokens":30, "n":2, "provider":{"order":["a"]}, "models":["x"], "previous_response_id":"resp_1",
        "conversation":"conv_1", "session_id":"s", "prompt_cache_key":"k", "user":"u", "store":false,
        "service_tier":"flex", "input":"i", "prompt":"p", "system":"y", "instructions":"z", "tools":[1], "container":"c", "other":{"model":1}
    }
    "#;
    let head = chat(body).unwrap();
    let model = head.model.as_ref().unwrap();
    assert_eq!(model.value, "vendor/name");
    assert_eq!(&body[model.span.clone()], r#""vendor\/na\u006de""#);
    assert!(head.stream);
    assert_eq!(head.include_usage(), Some(false));
    assert_eq!(
        (head.max_tokens, head.max_completion_tokens, head.max_output_tokens),
        (Some(10), Some(20), Some(30))
    );
    assert_eq!((head.n, head.store), (Some(2), Some(false)));
    assert_eq!(head.previous_response_id.as_deref(), Some("resp_1"));
    assert_eq!(head.session_id.as_deref(), Some("s"));
    assert_eq!(head.prompt_cache_key.as_deref(), Some("k"));
    assert_eq!((head.user.as_deref(), head.service_tier.as_deref()), (Some("u"), Some("flex")));
    for (field, raw) in [
        (&head.messages, r#"[{"role":"user","content":"\"model\":\"dear\" {[}]"}]"#),
        (&head.provider, r#"{"order":["a"]}"#),
        (&head.models, r#"["x"]"#),
        (&head.conversation, r#""conv_1""#),
        (&head.input, r#""i""#),
        (&head.prompt, r#""p""#),
        (&head.system, r#""y""#),
        (&head.instructions, r#""z""#),
        (&head.tools, "[1]"),
        (&head.container, r#""c""#),
    ] {
        let field = field.as_ref().unwrap();
        assert_eq!(field.raw, raw);
        assert_eq!(&body[field.span.clone()], raw);
    }
    assert_eq!(&body[head.object_end..=head.object_end], "}");
    assert_eq!(head.object_end, body.trim_end().len() - 1);
    assert!(!head.is_empty_object);
    for field in Field::ALL {
        let span = head.field_span(*field).unwrap();
        assert!(serde_json::from_str::<Value>(&body[span.value]).is_ok(), "{}", field.name());
    }
}

#[test]
fn null_is_absent_but_keeps_its_place() {
    let head = chat(r#"{"model":"m","stream":null,"max_tokens":null,"n":null,"store":null,"user":null,"provider":null,
        "stream_options":null,"messages":null,"previous_response_id":null,"conversation":null,"service_tier":null}"#)
    .unwrap();
    assert!(!head.stream && head.max_tokens.is_none() && head.n.is_none() && head.store.is_none());
    assert!(head.previous_response_id.is_none() && head.conversation.is_none() && head.messages.is_none());
    assert!(head.provider.as_ref().unwrap().is_null() && head.stream_options.as_ref().unwrap().is_null());
    assert!(head.field_span(Field::MaxTokens).is_some() && head.field_span(Field::Tools).is_none());
}

#[test]
fn without_a_model_the_first_of_the_list_is_it() {
    let body = r#"{"models": [ "a\u002fb" , "c"]}"#;
    let head = chat(body).unwrap();
    let model = head.model.as_ref().unwrap();
    assert!(head.leads_list && model.value == "a/b" && &body[model.span.clone()] == r#""a\u002fb""#);
    let head = chat(r#"{"models":["a"],"model":"b"}"#).unwrap();
    assert!(!head.leads_list && head.model.unwrap().value == "b");
}

#[test]
fn a_missing_empty_or_strange_model_is_refused() {
    assert_eq!(refusal("{}"), HeadError::MissingModel { models_given: false });
    for list in ["[]", "\"a\"", "[1]", "[\"\"]", "{}", "[null,\"a\"]"] {
        let refused = refusal(&format!(r#"{{"models":{list}}}"#));
        assert_eq!(refused, HeadError::MissingModel { models_given: true }, "{list}");
    }
    assert_eq!(refusal(r#"{"model":""}"#), HeadError::EmptyModel);
    assert_eq!(refusal(r#"{"model":" \n"}"#), HeadError::EmptyModel);
    for value in ["null", "1", "true", "[\"m\"]", "{}", r#""\ud800""#] {
        let error = refusal(&format!(r#"{{"model":{value}}}"#));
        assert_eq!((error.code(), error.param()), ("invalid_type", Some("model")), "{value}");
    }
    let head = parse(b"{ }", BodyKind::Other).unwrap();
    assert!(head.model.is_none() && head.is_empty_object);
    assert_eq!(head.object_end, 2);
}

#[test]
fn duplicates_of_every_known_field_are_refused_however_they_are_written() {
    for field in Field::ALL {
        let name = field.name();
        let escaped = name.chars().fold(String::new(), |text, c| text + &format!("\\u{:04x}", u32::from(c)));
        let last: String = format!("{}\\u00{:02X}", &name[..name.len() - 1], name.as_bytes()[name.len() - 1]);
        for (one, two) in [(name, name), (name, &escaped), (&escaped, name), (&last, &escaped)] {
            let body = format!(r#"{{"{one}":null,"x":{{"{name}":0}},"{two}":null}}"#)
                .replace(r#""model":null"#, r#""model":"m""#);
            let body = if name == "model" { format!(r#"{{"{one}":"m","{two}":"n"}}"#) } else { body };
            let error = refusal(&body);
            assert_eq!(error, HeadError::Duplicate { key: name.into() }, "{body}");
            assert_eq!((error.code(), error.param()), ("duplicate_key", Some(name)));
        }
    }
    // Even the very same value, and in options that are spliced.
    assert_eq!(refusal(r#"{"model":"m","model":"m"}"#).code(), "duplicate_key");
    let error =
        refusal(r#"{"model":"m","stream_options":{"include_usage":true,"includ\u0065_usage":false}}"#);
    assert_eq!(error.param(), Some("stream_options.include_usage"));
    // Unknown fields may be given twice: that is not ours to judge.
    assert!(chat(r#"{"x":1,"model":"m","x":2}"#).is_ok());
}

#[test]
fn names_that_differ_only_in_case_are_refused() {
    for name in
        ["Model", "MODEL", "m\\u004Fdel", "max_Token\\u017f", "ma\u{17f}_tokens", "Provider", "N", "\u{212a}"]
    {
        let body = format!(r#"{{"model":"m","{name}":"dear"}}"#);
        let got = chat(&body);
        if name == "\u{212a}" || name.starts_with("ma\u{17f}") {
            assert!(got.is_ok(), "{name}");
        } else {
            let error = got.expect_err(name);
            assert_eq!(error.code(), "ambiguous_key", "{name}");
        }
    }
    assert!(refusal(r#"{"Model":"m"}"#).to_string().contains("write `model`"));
}

#[test]
fn wrong_types_are_refused() {
    for (field, value) in [
        ("stream", "\"true\""),
        ("stream", "1"),
        ("max_tokens", "\"10\""),
        ("max_tokens", "1.5"),
        ("max_tokens", "1e3"),
        ("max_tokens", "99999999999999999999"),
        ("max_completion_tokens", "[]"),
        ("max_output_tokens", "{}"),
        ("n", "true"),
        ("n", "0.5"),
        ("store", "\"no\""),
        ("previous_response_id", "7"),
        ("service_tier", "[]"),
    ] {
        let error = refusal(&format!(r#"{{"model":"m","{field}":{value}}}"#));
        assert_eq!((error.code(), error.param()), ("invalid_type", Some(field)), "{field}: {value}");
    }
    // "No limit" of local servers; and what is only a hint is not worth a refusal.
    assert_eq!(chat(r#"{"model":"m","max_tokens":-1}"#).unwrap().max_tokens, None);
    assert_eq!(chat(r#"{"model":"m","user":5}"#).unwrap().user, None);
}

#[test]
fn what_is_no_json_object_is_refused_with_its_place() {
    assert_eq!(parse(b"{\"model\":\"\xff\"}", BodyKind::Chat), Err(HeadError::InvalidUtf8 { offset: 10 }));
    for body in [
        "",
        "  ",
        "{",
        "{\"model\":\"m\"",
        "{\"model\":\"m\"} x",
        "{\"model\":\"m\"}{}",
        "{\"model\":\"m\",}",
        "{'model':'m'}",
        "{\"model\":\"m\",\"x\":01}",
        "{\"model\":\"m\",\"x\":\"\u{1}\"}",
        "{\"model\":\"m\",\"x\":[1,]}",
        "model=m",
        "\u{feff}{}",
        "{\"model\":\"m\",\"x\":\"\\x\"}",
        "{\"model\":\"m\",\"x\":nul}",
        "{\"model\":\"m\",\"x\":NaN}",
    ] {
        assert_eq!(refusal(body).code(), "invalid_json", "{body}");
    }
    for (body, found) in [
        ("[]", "an array"),
        ("\"x\"", "a string"),
        ("null", "null"),
        ("-1", "a number"),
        ("true", "a boolean"),
    ] {
        assert_eq!(refusal(body), HeadError::NotAnObject { found });
    }
    let error = refusal("{\n  \"model\": \"m\",\n  \"x\": }");
    let HeadError::InvalidJson { line, column, ref reason } = error else { panic!("{error:?}") };
    assert_eq!((line, column), (3, 8));
    assert!(!reason.contains("line"), "{reason}");
    assert!(error.to_string().contains("line 3, column 8"));
    // Broken JSON after a fault of ours: whichever comes first is told, and both are refusals.
    assert!(chat(r#"{"model":"m","model":"n","x":"#).is_err());
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    assert!(chat(&deep).is_ok());
    let open = format!(r#"{{"model":"m","messages":{}"#, "[{\"a\":".repeat(300_000));
    assert_eq!(refusal(&open).code(), "invalid_json");
}

#[test]
fn output_cap_is_what_the_endpoint_obeys() {
    let body = br#"{"model":"m","max_tokens":5,"max_completion_tokens":7,"max_output_tokens":9}"#;
    let caps = [
        BodyKind::Chat,
        BodyKind::Completions,
        BodyKind::Responses,
        BodyKind::Messages,
        BodyKind::Embeddings,
    ]
    .map(|kind| parse(body, kind).unwrap().output_cap());
    assert_eq!(caps, [Some(7), Some(5), Some(9), Some(5), None]);
}

fn form(parts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(b"--B0\r\n");
        body.extend_from_slice(part.as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--B0--\r\n");
    body
}

const TYPE: &str = "multipart/form-data; boundary=B0";
const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"model\"\r\nContent-Type: audio/wav\r\n\r\nx--B0\r\nname=\"model\"";
const MODEL: &str = "Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1";

#[test]
fn a_forms_model_is_found_with_its_span() {
    for (content_type, parts) in [
        (TYPE, vec![FILE, MODEL]),
        (TYPE, vec![MODEL, FILE]),
        ("Multipart/Form-Data; charset=utf-8; Boundary=\"B0\"", vec!["\r\nno headers", FILE, MODEL]),
        (TYPE, vec!["content-disposition:form-data;NAME=model\r\n\r\nwhisper-1"]),
    ] {
        let body = form(&parts);
        let (name, span) = multipart_model(content_type, &body).unwrap().unwrap();
        assert_eq!(name, "whisper-1");
        assert_eq!(&body[span], b"whisper-1");
    }
    let mut with_preamble = b"preamble\r\n".to_vec();
    with_preamble.extend(form(&[MODEL]));
    assert!(multipart_model(TYPE, &with_preamble).unwrap().is_some());
    assert_eq!(multipart_model(TYPE, &form(&[FILE])), Ok(None));
    assert_eq!(multipart_model("application/json", b"{}"), Ok(None));
}

#[test]
fn a_form_that_readers_could_take_differently_is_refused() {
    let odd = |parts: &[&str]| multipart_model(TYPE, &form(parts)).unwrap_err().code();
    assert_eq!(odd(&[MODEL, FILE, MODEL]), "duplicate_key");
    assert_eq!(
        odd(&["Content-Disposition: form-data; name=\"model\"; filename=\"x\"\r\n\r\na"]),
        "invalid_type"
    );
    assert_eq!(odd(&["Content-Disposition: form-data; name*=utf-8''model\r\n\r\na"]), "invalid_type");
    assert_eq!(
        odd(&[
            "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ=="
        ]),
        "invalid_type"
    );
    assert_eq!(
        odd(&["Content-Disposition: form-data; name=\"x\"; name=\"model\"\r\n\r\na"]),
        "invalid_multipart"
    );
    assert_eq!(odd(&["Content-Disposition: form-data; name=\"model\"\r\n\r\n "]), "missing_model");
    assert_eq!(multipart_model("multipart/form-data", b"").unwrap_err().code(), "invalid_multipart");
    // Some readers take a line that only begins like the boundary for one.
    assert_eq!(
        odd(&["Content-Disposition: form-data; name=\"x\"\r\n\r\na\r\n--B0x\r\nb", MODEL]),
        "invalid_multipart"
    );
    let whole = form(&[FILE, MODEL]);
    for end in 0..whole.len() - 4 {
        assert!(multipart_model(TYPE, &whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn provider_preferences_from_body_and_header() {
    let prefs = parse_provider(
        r#" {"order":["a","b"],"only":null,"sort":"price","ignore":["c"],"allow_fallbacks":false} "#,
    )
    .unwrap();
    assert_eq!(prefs, parse_providers_header(" order = a , b;ignore=c; fallbacks=no;").unwrap());
    assert_eq!(parse_provider("null").unwrap(), parse_providers_header("").unwrap());
    for (raw, code) in [
        ("[]", "invalid_type"),
        (r#"{"order":"a"}"#, "invalid_type"),
        (r#"{"only":[1]}"#, "invalid_type"),
        (r#"{"allow_fallbacks":"no"}"#, "invalid_type"),
        (r#"{"max_price":2}"#, "invalid_type"),
        (r#"{"max_price":{"prompt":-1}}"#, "invalid_type"),
        (r#"{"max_price":{"prompt":"cheap"}}"#, "invalid_type"),
        (r#"{"max_price":{},"max_price":{}}"#, "duplicate_key"),
        (r#"{"only":["a"],"onl\u0079":["b"]}"#, "duplicate_key"),
    ] {
        assert_eq!(parse_provider(raw).unwrap_err().code(), code, "{raw}");
    }
    assert_eq!(parse_provider(r#"{"only":["a"],"only":["b"]}"#).unwrap_err().param(), Some("provider.only"));
    for text in ["order", "order=", "sort=price", "only=a;only=b", "fallbacks=maybe", "order=,"] {
        assert_eq!(parse_providers_header(text).unwrap_err().code(), "invalid_header", "{text}");
    }
}

#[test]
fn the_dearest_price_is_read_from_numbers_and_strings() {
    let raw = r#"{"max_price":{"prompt":1,"completion":"2.5","image":"7","request":0.000000001}}"#;
    let read = parse_provider(raw).unwrap().price_max;
    let told = PriceMax {
        prompt: Some(1_000_000_000),
        completion: Some(2_500_000_000),
        request: Some(1),
        image: Some(7_000_000_000),
    };
    assert_eq!(read, told);
    for nothing in [r#"{"max_price":null}"#, r#"{"max_price":{}}"#, "{}"] {
        assert_eq!(parse_provider(nothing).unwrap().price_max, PriceMax::default(), "{nothing}");
    }
}

/// JSON text with white space, escapes and nesting, and whether it holds no name twice at the top is up to the caller.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~\u{e9}\u{4e2d}\"\\\\\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z\"\\\\]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes, BodyKind::Other);
        let _ = multipart_model("multipart/form-data; boundary=-", &bytes);
        let _ = multipart_model(&String::from_utf8_lossy(&bytes), &bytes);
        let _ = parse_provider(&String::from_utf8_lossy(&bytes));
        let _ = parse_providers_header(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(text in "[{}\\[\\]:,\"\\\\u0-9a-f modelstrn-]{0,60}") {
        if let Ok(head) = parse(text.as_bytes(), BodyKind::Other) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            prop_assert_eq!(text.as_bytes()[head.object_end], b'}');
        }
    }

    #[test]
    fn what_is_read_is_what_serde_reads(other in json_value(), messages in json_value(), model in "[a-z/:@~.\"\\\\-]{1,20}",
                                        max in proptest::option::of(any::<u64>()), pretty in any::<bool>()) {
        let mut value = serde_json::json!({"messages": messages, "model": model, "zz": other});
        if let Some(max) = max {
            value["max_tokens"] = max.into();
        }
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let head = chat(&text).unwrap();
        prop_assert_eq!(head.model.as_ref().unwrap().value.as_ref(), model);
        prop_assert_eq!(head.max_tokens, max);
        match &head.messages {
            Some(span) => prop_assert_eq!(serde_json::from_str::<Value>(span.raw).unwrap(), messages),
            None => prop_assert!(messages.is_null()),
        }
    }
}
