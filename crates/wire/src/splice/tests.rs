use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    CapField, Edit, apply, inject_include_usage, insert_field, model_for_list, remove_field, remove_fields,
    set_max_tokens, set_model,
};
use crate::head::{BodyKind, Field, parse};

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

fn edited(body: &str, kind: BodyKind, edit: impl Fn(&crate::head::Head<'_>) -> Vec<Edit>) -> String {
    let head = parse(body.as_bytes(), kind).unwrap();
    String::from_utf8(apply(body.as_bytes(), &mut edit(&head))).unwrap()
}

#[test]
fn a_model_takes_the_place_of_its_list() {
    for (body, after) in [
        (r#"{"models":["a","b"]}"#, r#"{"model":"x\"y"}"#),
        (r#"{"n":1, "models" : ["a","b"] , "stream":true}"#, r#"{"n":1, "model":"x\"y" , "stream":true}"#),
    ] {
        let head = parse(body.as_bytes(), BodyKind::Chat).unwrap();
        let edit = model_for_list(body.as_bytes(), &head, "x\"y").unwrap();
        assert_eq!(apply(body.as_bytes(), &mut [edit]), after.as_bytes());
    }
    let body = br#"{"model":"m","models":["a"]}"#;
    assert_eq!(model_for_list(body, &parse(body, BodyKind::Chat).unwrap(), "x"), None);
}

#[test]
fn only_the_models_bytes_change() {
    let body = "{ \"a\" : 1.0e+2 ,\"model\": \"x\\ny\" ,\t\"b\":\"\\u00e9\" }\n";
    let got = edited(body, BodyKind::Chat, |head| set_model(head, "a/\"b\"").into_iter().collect());
    assert_eq!(got, "{ \"a\" : 1.0e+2 ,\"model\": \"a/\\\"b\\\"\" ,\t\"b\":\"\\u00e9\" }\n");
}

#[test]
fn a_removed_field_takes_exactly_one_comma() {
    for (body, want) in [
        (r#"{"provider":{"a":[1,2]},"model":"m"}"#, r#"{"model":"m"}"#),
        (r#"{"model":"m","provider":{}}"#, r#"{"model":"m"}"#),
        (r#"{"model":"m" , "provider" : null , "z":1}"#, r#"{"model":"m" ,  "z":1}"#),
        (r#"{"p\"rovider":1,"pro\u0076ider":2,"model":"m"}"#, r#"{"p\"rovider":1,"model":"m"}"#),
        (r#"{"model":"m","a\\":"}","provider":"\\\",\""}"#, r#"{"model":"m","a\\":"}"}"#),
    ] {
        let got = edited(body, BodyKind::Chat, |head| {
            remove_field(body.as_bytes(), head, Field::Provider).into_iter().collect()
        });
        assert_eq!(got, want);
    }
    let alone = edited(r#"{ "provider":1 }"#, BodyKind::Other, |head| {
        remove_field(br#"{ "provider":1 }"#, head, Field::Provider).into_iter().collect()
    });
    assert_eq!(alone, "{  }");
}

#[test]
fn usage_is_asked_for_without_losing_options() {
    for (body, want) in [
        (r#"{"model":"m"}"#, Some(json!({"include_usage": true}))),
        (r#"{"stream_options":null,"model":"m"}"#, Some(json!({"include_usage": true}))),
        (r#"{"model":"m","stream_options":{}}"#, Some(json!({"include_usage": true}))),
        (r#"{"model":"m","stream_options": { } }"#, Some(json!({"include_usage": true}))),
        (r#"{"model":"m","stream_options":{ "x":[1] }}"#, Some(json!({"include_usage": true, "x": [1]}))),
        (
            r#"{"stream_options":{"x":1,"include_usage" : false},"model":"m"}"#,
            Some(json!({"include_usage": true, "x": 1})),
        ),
        (r#"{"stream_options":{"include_usage":null},"model":"m"}"#, Some(json!({"include_usage": true}))),
        (r#"{"stream_options":{"include_usage":true},"model":"m"}"#, None),
        (r#"{"stream_options":"odd","model":"m"}"#, None),
    ] {
        let head = parse(body.as_bytes(), BodyKind::Chat).unwrap();
        let edit = inject_include_usage(&head, body.as_bytes());
        assert_eq!(edit.is_some(), want.is_some(), "{body}");
        let Some((edit, want)) = edit.zip(want) else { continue };
        let got = apply(body.as_bytes(), &mut [edit]);
        assert_eq!(value(&got)["stream_options"], want, "{body}");
        assert_eq!(parse(&got, BodyKind::Chat).unwrap().include_usage(), Some(true), "{body}");
        assert_eq!(value(&got)["model"], "m");
    }
}

#[test]
fn a_cap_is_lowered_or_put_in_but_never_raised() {
    let cases: &[(BodyKind, &str, CapField, Option<&str>)] = &[
        (BodyKind::Chat, r#"{"model":"m"}"#, CapField::MaxTokens, Some(r#"{"model":"m","max_tokens":9}"#)),
        (
            BodyKind::Chat,
            r#"{"model":"m"}"#,
            CapField::MaxCompletionTokens,
            Some(r#"{"model":"m","max_completion_tokens":9}"#),
        ),
        (BodyKind::Chat, r#"{"max_tokens":5,"model":"m"}"#, CapField::MaxCompletionTokens, None),
        (
            BodyKind::Chat,
            r#"{"max_tokens":50,"model":"m"}"#,
            CapField::MaxCompletionTokens,
            Some(r#"{"max_tokens":9,"model":"m"}"#),
        ),
        (
            BodyKind::Chat,
            r#"{"max_tokens":50,"model":"m","max_completion_tokens":10}"#,
            CapField::MaxTokens,
            Some(r#"{"max_tokens":9,"model":"m","max_completion_tokens":9}"#),
        ),
        (
            BodyKind::Chat,
            r#"{"max_tokens":null,"model":"m"}"#,
            CapField::MaxTokens,
            Some(r#"{"max_tokens":9,"model":"m"}"#),
        ),
        (
            BodyKind::Chat,
            r#"{"max_tokens":null,"model":"m","max_completion_tokens":null}"#,
            CapField::MaxCompletionTokens,
            Some(r#"{"max_tokens":null,"model":"m","max_completion_tokens":9}"#),
        ),
        (
            BodyKind::Chat,
            r#"{"max_tokens":-1,"model":"m"}"#,
            CapField::MaxCompletionTokens,
            Some(r#"{"max_tokens":9,"model":"m"}"#),
        ),
        (
            BodyKind::Responses,
            r#"{"max_tokens":50,"model":"m"}"#,
            CapField::MaxOutputTokens,
            Some(r#"{"max_tokens":50,"model":"m","max_output_tokens":9}"#),
        ),
        (
            BodyKind::Messages,
            r#"{"max_tokens":50,"model":"m"}"#,
            CapField::MaxTokens,
            Some(r#"{"max_tokens":9,"model":"m"}"#),
        ),
        (BodyKind::Embeddings, r#"{"model":"m"}"#, CapField::MaxTokens, None),
    ];
    for (kind, body, field, want) in cases {
        let got = edited(body, *kind, |head| set_max_tokens(body.as_bytes(), head, *field, 9));
        assert_eq!(got, want.unwrap_or(body));
    }
}

#[test]
fn odd_edits_are_cut_to_the_body() {
    let edit = |range, with: &str| Edit { range, with: with.into() };
    assert_eq!(apply(b"abc", &mut [edit(2..9, "X"), edit(0..1, "Y")]), b"YbX");
    assert_eq!(apply(b"abc", &mut [edit(0..2, "X"), edit(1..3, "Y")]), b"XY");
    assert_eq!(apply(b"abc", &mut [edit(7..8, "X")]), b"abcX");
    assert_eq!(apply(b"abc", &mut [edit(1..1, "1"), edit(1..1, "2")]), b"a12bc");
}

/// Members in any order, with white space around them, some known, some not.
fn bodies() -> impl Strategy<Value = (Map<String, Value>, String)> {
    let names = Field::ALL
        .iter()
        .map(|f| f.name().to_owned())
        .filter(|name| !["model", "stream_options"].contains(&name.as_str()));
    let names: Vec<String> = names.chain(["x".into(), "y\"\\".into(), "\u{e9}".into()]).collect();
    let member = (proptest::sample::subsequence(names.clone(), 0..names.len()), any::<u64>());
    (member, proptest::sample::select(vec!["", " ", "\n\t "]), any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|((names, seed), space, at, with_options)| {
            let mut members: Vec<(String, Value)> = names
                .into_iter()
                .enumerate()
                .map(|(i, name)| {
                    let value = match name.as_str() {
                        "stream" | "store" => json!(seed.is_multiple_of(2)),
                        "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "n" => {
                            json!(seed >> (i % 60))
                        }
                        "provider" | "tools" => json!({"a,b": ["}", "\\\"", seed]}),
                        _ => json!("te\\xt\","),
                    };
                    (name, value)
                })
                .collect();
            let turn = usize::try_from(seed % 7).unwrap();
            if !members.is_empty() {
                let by = turn % members.len();
                members.rotate_left(by);
            }
            members.insert(at.index(members.len() + 1), ("model".into(), json!("mo\"del")));
            if with_options {
                members.insert(at.index(members.len() + 1), ("stream_options".into(), json!({"z": 1})));
            }
            let text: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{space}{}{space}:{space}{value}{space}", json!(name)))
                .collect();
            (members.into_iter().collect(), format!("{space}{{{}}}{space}", text.join(",")))
        })
}

proptest! {
    /// Whatever is removed and put in together, the JSON is what editing the value gives, and all bytes that stay
    /// keep their order.
    #[test]
    fn splicing_equals_editing_the_value((mut want, body) in bodies(), remove in proptest::sample::subsequence(Field::ALL.to_vec(), 0..Field::ALL.len()),
                                         name in "[a-z/:\"]{1,12}", inject in any::<bool>(), insert in any::<bool>()) {
        let remove: Vec<Field> = remove.into_iter().filter(|f| !matches!(f, Field::Model | Field::StreamOptions)).collect();
        let head = parse(body.as_bytes(), BodyKind::Chat).unwrap();
        let mut edits = remove_fields(body.as_bytes(), &head, &remove);
        for field in &remove {
            want.remove(field.name());
        }
        edits.extend(set_model(&head, &name));
        want["model"] = json!(name);
        if inject {
            edits.extend(inject_include_usage(&head, body.as_bytes()));
            want.entry("stream_options").or_insert_with(|| json!({}))["include_usage"] = json!(true);
        }
        if insert {
            edits.push(insert_field(&head, "in\"serted", "[1]"));
            want.insert("in\"serted".into(), json!([1]));
        }
        let kept: Vec<u8> = {
            let mut only_removals: Vec<Edit> = edits.iter().map(|e| Edit { range: e.range.clone(), with: Vec::new() }).collect();
            apply(body.as_bytes(), &mut only_removals)
        };
        let got = apply(body.as_bytes(), &mut edits);
        prop_assert_eq!(value(&got), Value::Object(want));
        let mut rest = got.iter();
        prop_assert!(kept.iter().all(|byte| rest.any(|have| have == byte)));
    }
}
