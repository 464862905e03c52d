use super::*;
use crate::error::Dialect;
use crate::head::parse;

fn stored(kind: BodyKind, body: &str) -> Vec<(&'static str, Whose<'static>)> {
    let head = parse(body.as_bytes(), kind).unwrap();
    let owned = |whose: Whose<'_>| match whose {
        Whose::Response(id) => Whose::Response(id.into_owned().into()),
        Whose::Made(id) => Whose::Made(id),
        Whose::MadeBefore(id) => Whose::MadeBefore(id),
        Whose::Unknown => Whose::Unknown,
        Whose::Account => Whose::Account,
    };
    Stored::all(&head).into_iter().map(|s| (s.field, owned(s.whose))).collect()
}

fn made_of(id: &str) -> Whose<'static> {
    Whose::Made(id.to_owned())
}

const UNKNOWN: &[(&str, &str)] = &[
    ("conversation", r#"{"model":"m","conversation":"conv_1","input":"x"}"#),
    ("file_id", r#"{"model":"m","input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#),
    ("file_id", r#"{"model":"m","input":[{"content":[{"file_id":"file-1","type":"input_image"}]}]}"#),
    (
        "file_id",
        r#"{"model":"m","input":[{"type":"computer_call_output","output":{"type":"computer_screenshot","file_id":"f"}}]}"#,
    ),
    ("file_id", r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}"#),
    (
        "file_id",
        r#"{"model":"m","messages":[{"content":[{"type":"tool_result","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}]}"#,
    ),
    ("file_id", r#"{"model":"m","input":[{"content":[{"type":"input_file","file\u005fid":"file-1"}]}]}"#),
    ("file_id", r#"{"model":"m","input":[{"content":[{"t\u0079pe":"input_file","file_id":"file-1"}]}]}"#),
    (
        "vector_store_ids",
        r#"{"model":"m","input":"x","tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#,
    ),
    (
        "file_ids",
        r#"{"model":"m","input":"x","tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}]}"#,
    ),
    (
        "file_id",
        r#"{"model":"m","input":"x","tools":[{"type":"image_generation","input_image_mask":{"file_id":"f"}}]}"#,
    ),
    ("audio", r#"{"model":"m","messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#),
];

const MADE: &[(&str, &str)] = &[
    ("container", r#"{"model":"m","input":"x","tools":[{"type":"code_interpreter","container":"made_1"}]}"#),
    (
        "container",
        r#"{"model":"m","input":"x","tools":[{"type":"code_interpreter","cont\u0061iner":"made_1"}]}"#,
    ),
    (
        "container_id",
        r#"{"model":"m","input":"x","tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"made_1"}}]}"#,
    ),
    ("container", r#"{"model":"m","messages":[],"container":"made_1"}"#),
    ("item_reference", r#"{"model":"m","input":[{"type":"item_reference","id":"made_1"}]}"#),
    ("item_reference", r#"{"model":"m","input":[{"type":"item\u005Freference","id":"made_1"}]}"#),
    ("item_reference", r#"{"model":"m","input":[{"id":"made_1"}]}"#),
    ("item_reference", r#"{"model":"m","input":[{"\u0069\u0064":"made_1","type":null}]}"#),
    ("container", r#"{"model":"m","messages":[],"container":{"id":"made_1"}}"#),
];

const MADE_BEFORE: &[(&str, &str)] = &[
    (
        "container_id",
        r#"{"model":"m","input":[{"type":"code_interpreter_call","id":"ci_1","container_id":"made_1","code":"1"}]}"#,
    ),
    ("image_generation_call", r#"{"model":"m","input":[{"type":"image_generation_call","id":"made_1"}]}"#),
    ("reasoning", r#"{"model":"m","input":[{"type":"reasoning","id":"made_1","summary":[]}]}"#),
    (
        "reasoning",
        r#"{"model":"m","input":[{"type":"reasoning","id":"made_1","content":[],"encrypted_content":null}]}"#,
    ),
    ("web_search_call", r#"{"model":"m","input":[{"type":"web_search_call","id":"made_1"}]}"#),
    ("encrypted_content", r#"{"model":"m","input":[{"type":"reasoning","encrypted_content":"made_1"}]}"#),
    (
        "encrypted_content",
        r#"{"model":"m","input":[{"type":"compaction","id":"cmp_1","encrypted_content":"made_1"}]}"#,
    ),
];

const ACCOUNT: &[(&str, &str)] = &[
    ("prompt", r#"{"model":"m","prompt":{"id":"pmpt_1","variables":{"city":"Oslo"}}}"#),
    (
        "skills",
        r#"{"model":"m","messages":[],"container":{"skills":[{"type":"custom","skill_id":"skill_1"}]}}"#,
    ),
];

#[test]
fn what_lives_at_a_provider_is_seen() {
    let before = Whose::MadeBefore("made_1".to_owned());
    for (list, whose) in [
        (UNKNOWN, Whose::Unknown),
        (MADE, made_of("made_1")),
        (MADE_BEFORE, before),
        (ACCOUNT, Whose::Account),
    ] {
        for (field, body) in list {
            assert_eq!(stored(BodyKind::Responses, body), [(*field, whose.clone())], "{body}");
        }
    }
    // Too deep to be read: nobody knows what is down there.
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let deep = format!(r#"{{"model":"m","input":[{open}{{"type":"input_file","file_id":"f"}}{close}]}}"#);
    assert_eq!(stored(BodyKind::Responses, &deep), [("input", Whose::Unknown)]);
}

#[test]
fn one_thing_of_its_own_hides_no_other() {
    let body = r#"{"model":"m","previous_response_id":"resp_1","input":[{"type":"input_image","file_id":"f"}],
        "prompt":{"id":"p","variables":{"x":{"type":"input_file","file_id":"f"}}},"container":{"id":"c","skills":[{"skill_id":"s"}]},
        "tools":[{"type":"code_interpreter","container":"cntr_1"},{"type":"file_search","vector_store_ids":["v"]}]}"#;
    let found = stored(BodyKind::Responses, body);
    assert_eq!(
        found,
        [
            ("previous_response_id", Whose::Response("resp_1".into())),
            ("container", made_of("c")),
            ("skills", Whose::Account),
            ("prompt", Whose::Account),
            ("file_id", Whose::Unknown),
            ("file_id", Whose::Unknown),
            ("container", made_of("cntr_1")),
            ("vector_store_ids", Whose::Unknown),
        ]
    );
}

#[test]
fn what_only_looks_like_it_is_not() {
    for body in [
        r#"{"model":"m","messages":[{"role":"user","content":"{\"type\":\"file\",\"file_id\":\"f\"}"}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"tool_use","name":"t","input":{"type":"file","file_id":"f"}}]}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"text","file_id":"f"}]}]}"#,
        r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"parameters":{"type":"object","properties":{"file_id":{"type":"string"}}}}}]}"#,
        r#"{"model":"m","messages":[],"tools":[{"name":"f","input_schema":{"type":"object","container":"x","file_id":"y"}}]}"#,
        r#"{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id":null,"file_data":"x"}}]}]}"#,
        r#"{"model":"m","messages":[{"content":"an \u0061udio \u005f"}],"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
        r#"{"model":"m","messages":[{"role":"assistant","audio":null,"content":"audio"}],"audio":{"voice":"alloy"}}"#,
        r#"{"model":"m","messages":[],"container":{"skills":[{"type":"anthropic","skill_id":"pptx"}]}}"#,
        r#"{"model":"m","messages":[],"container":null,"prompt":"text"}"#,
        r#"{"model":"m","input":[{"type":"image_generation_call","id":"ig_1","result":"aGk="},{"type":"function_call","container_id":"c"}]}"#,
    ] {
        assert_eq!(stored(BodyKind::Chat, body), [], "{body}");
    }
    // Whole, whatever their ids are.
    for body in [
        r#"{"model":"m","input":[{"type":"message","id":"msg_1","role":"assistant","content":[]},{"id":"msg_2","role":"user","content":"x"}]}"#,
        r#"{"model":"m","input":[{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{\"id\":1}"}]}"#,
        r#"{"model":"m","input":[{"type":"reasoning","id":"rs_1","content":[{"type":"reasoning_text","text":"x"}]}]}"#,
        r#"{"model":"m","input":[{"role":"user","content":"{\"id\": \"x\"}"}],"tools":[{"id":"x"}]}"#,
    ] {
        assert_eq!(stored(BodyKind::Responses, body), [], "{body}");
    }
}

#[test]
fn what_was_made_is_read_where_the_provider_says_so_and_nowhere_else() {
    for (answer, ids) in [
        (
            r#"{"id":"msg_1","container":{"id":"container_1","expires_at":"x"},"content":[]}"#,
            &["container_1"][..],
        ),
        (r#"{"type":"message_start","message":{"container":{"id":"container_1"}}}"#, &["container_1"]),
        (r#"{"type":"message_delta","delta":{"container":{"id":"container_1"}}}"#, &["container_1"]),
        (
            r#"{"id":"resp_1","output":[{"type":"code_interpreter_call","id":"ci","container_id":"cntr_1"},{"type":"image_generation_call","id":"ig_1"}]}"#,
            &["cntr_1", "ig_1"],
        ),
        (
            r#"{"type":"response.completed","response":{"output":[{"type":"shell_call","environment":{"container_id":"cntr_1"}}]}}"#,
            &["cntr_1"],
        ),
        (
            r#"{"type":"response.output_item.added","item":{"type":"code_interpreter_call","container_id":"cntr_1"}}"#,
            &["cntr_1"],
        ),
        // What the caller or a model could have written there.
        (
            r#"{"metadata":{"container_id":"cntr_1"},"tools":[{"type":"code_interpreter","container":"cntr_1"}],"output":[]}"#,
            &[],
        ),
        (
            r#"{"output":[{"type":"function_call","container_id":"cntr_1"},{"type":"message","content":[{"annotations":[{"container_id":"cntr_1"}]}]}]}"#,
            &[],
        ),
        (r#"{"content":[{"type":"tool_use","input":{"container":{"id":"container_1"}}}]}"#, &[]),
        (
            r#"{"type":"content_block_delta","delta":{"text":"{\"container\":{\"id\":\"container_1\"}}"}}"#,
            &[],
        ),
        (r#"{"container":"not whole"#, &[]),
    ] {
        let watch = Watch { things: true, items: Items::None };
        assert_eq!(made(answer.as_bytes(), watch), ids, "{answer}");
    }
}

#[test]
fn items_are_read_where_the_provider_says_that_it_made_them() {
    let (message, call, seal) = ("msg_0123456789abcdef", "fc_0123456789abcdefgh", "gAAAAABqX1a78BDqk_J4");
    let items = format!(
        r#"[{{"type":"message","id":"{message}","content":[{{"id":"x","text":"y"}}]}},
           {{"type":"function_call","id":"{call}"}},
           {{"type":"reasoning","id":"rs_counted_1","encrypted_content":"{seal}"}},
           {{"type":"reasoning","id":null,"encrypted_content":""}}]"#
    );
    let item = format!(r#"{{"type":"reasoning","id":"{call}","encrypted_content":"{seal}"}}"#);
    for (answer, all, sealed) in [
        (format!(r#"{{"id":"resp_1","output":{items}}}"#), &[message, call, seal][..], &[seal][..]),
        (
            format!(r#"{{"type":"response.completed","response":{{"output":{items}}}}}"#),
            &[message, call, seal],
            &[seal],
        ),
        (format!(r#"{{"type":"response.output_item.done","item":{item}}}"#), &[call, seal], &[seal]),
        (format!(r#"{{"metadata":{{"item":{item}}},"tools":[{{"output":{items}}}],"output":[]}}"#), &[], &[]),
        (format!(r#"{{"type":"response.output_text.delta","item_id":"{message}","delta":"x"}}"#), &[], &[]),
        (format!(r#"{{"output":{items}"#), &[], &[]),
    ] {
        let made = |items| made(answer.as_bytes(), Watch { things: false, items });
        assert_eq!(made(Items::All), all, "{answer}");
        assert_eq!(made(Items::Sealed), sealed, "{answer}");
        assert_eq!(made(Items::None), [""; 0], "{answer}");
    }
}

#[test]
fn answers_are_read_for_what_was_made_only_where_something_may_be() {
    for (kind, body, may) in [
        (BodyKind::Messages, r#"{"model":"m","tools":[{"type":"code_execution_20250825"}]}"#, true),
        (BodyKind::Messages, r#"{"model":"m","tools":[{"type":"web_search_20260209"}]}"#, true),
        (BodyKind::Messages, r#"{"model":"m","container":{"skills":[]}}"#, true),
        (BodyKind::Messages, r#"{"model":"m","tools":[{"name":"f","input_schema":{}}]}"#, false),
        (BodyKind::Responses, r#"{"model":"m","tools":[{"type":"code_interpreter"}]}"#, true),
        (BodyKind::Responses, r#"{"model":"m","tools":[{"type":"shell"}]}"#, true),
        (BodyKind::Responses, r#"{"model":"m","prompt":{"id":"p"}}"#, true),
        (BodyKind::Responses, r#"{"model":"m","tools":[{"type":"function"}],"input":"shell"}"#, false),
        (BodyKind::Chat, r#"{"model":"m","tools":[{"type":"code_interpreter"}]}"#, false),
    ] {
        assert_eq!(Watch::of(&parse(body.as_bytes(), kind).unwrap()).things, may, "{body}");
    }
    for (kind, body, items) in [
        (BodyKind::Responses, r#"{"model":"m"}"#, Items::All),
        (BodyKind::Responses, r#"{"model":"m","store":false}"#, Items::Sealed),
        (BodyKind::Chat, r#"{"model":"m"}"#, Items::None),
    ] {
        let watch = Watch::of(&parse(body.as_bytes(), kind).unwrap());
        assert_eq!(watch.at(Dialect::OpenAi).items, items, "{body}");
        assert_eq!(watch.at(Dialect::OpenRouter).items, Items::None, "{body}");
    }
}
