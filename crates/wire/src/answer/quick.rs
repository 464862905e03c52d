//! The usual answer, read without a parser: the same facts as serde finds, for a third of the work. `None` wherever
//! something is unusual; then serde has its say.

use super::{Choice, Choices, Content, Member, Raw, Top};
use crate::scan::Scan;

/// The top level of an answer or event.
pub(super) fn top(text: &str) -> Option<Top<'_>> {
    let mut top = Top::default();
    let mut scan = Scan::new(text);
    scan.space();
    scan.object(|scan, name| {
        let slot = match name {
            "type" => &mut top.kind,
            "object" => &mut top.object,
            "id" => &mut top.id,
            "model" => &mut top.model,
            "service_tier" => &mut top.service_tier,
            "usage" => &mut top.usage,
            "error" => &mut top.error,
            "status" => &mut top.status,
            "x_groq" => &mut top.x_groq,
            "response" => &mut top.response,
            "message" => &mut top.message,
            "choices" => {
                let read = choices(scan)?;
                return top.choices.replace(read).is_none().then_some(());
            }
            "delta" => return part(scan, &mut top.delta),
            "content_block" => return part(scan, &mut top.content_block),
            "item" => return part(scan, &mut top.item),
            "part" => return part(scan, &mut top.part),
            _ => return scan.value(),
        };
        raw(scan, slot)
    })?;
    scan.space();
    scan.is_at_end().then_some(top)
}

/// A value that is kept as it was written; `null` is as good as nothing. One given twice is the parser's question.
pub(crate) fn raw<'a>(scan: &mut Scan<'a>, slot: &mut Option<Raw<'a>>) -> Option<()> {
    let (text, _) = scan.raw()?;
    if slot.is_some() {
        return None;
    }
    *slot = (text != "null").then_some(Raw(text));
    Some(())
}

fn choices<'a>(scan: &mut Scan<'a>) -> Option<Choices<'a>> {
    let mut sum = Choices::default();
    scan.list(|scan| {
        let mut choice = Choice::default();
        scan.object(|scan, name| match name {
            "delta" => part(scan, &mut choice.delta),
            "message" => part(scan, &mut choice.message),
            "text" => part(scan, &mut choice.text),
            "finish_reason" => raw(scan, &mut choice.finish_reason),
            "error" => raw(scan, &mut choice.error),
            _ => scan.value(),
        })?;
        sum.add(&choice);
        Some(())
    })?;
    Some(sum)
}

fn part(scan: &mut Scan<'_>, content: &mut Content) -> Option<()> {
    if *content != Content::default() {
        return None;
    }
    if scan.peek()? == b'{' {
        return scan.object(|scan, name| {
            let (text, _) = scan.raw()?;
            content.note(Member::named(name), text);
            Some(())
        });
    }
    let (text, _) = scan.raw()?;
    content.filled = match text.as_bytes() {
        [b'"', ..] => text.len() > 2,
        [b'[', rest @ ..] => rest.trim_ascii_start() != b"]",
        _ => false,
    };
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Dialect;
    use proptest::prelude::*;

    /// All that is asked of an answer.
    fn facts(top: &Top<'_>) -> String {
        let choices = top.choices();
        let parts = [top.delta, top.content_block, top.item, top.part];
        let told = (top.usage(), top.error(Dialect::OpenAi), top.kind(), top.answer_id());
        format!("{told:?} {} {} {} {parts:?}", choices.count, choices.output, choices.finished)
    }

    /// Values as answers have them, and as they should not.
    fn value() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "null",
            "true",
            "0",
            "-1.5",
            "\"\"",
            "\"text\"",
            "\"a\\n\\u00e9\"",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            "\"error\"",
            "\"stop\"",
            "\"failed\"",
            "7",
            "[1]",
            "\"response.created\"",
        ])
        .prop_map(str::to_owned);
        leaf.prop_recursive(3, 24, 4, |inner| {
            let member = (name(), inner.clone()).prop_map(|(name, value)| format!("\"{name}\" :{value}"));
            prop_oneof![
                prop::collection::vec(member, 0..4)
                    .prop_map(|members| format!("{{{}}}", members.join(" , "))),
                prop::collection::vec(inner, 0..3).prop_map(|elements| format!("[{}]", elements.join(","))),
            ]
        })
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "type",
            "object",
            "id",
            "model",
            "service_tier",
            "usage",
            "error",
            "status",
            "choices",
            "x_groq",
            "response",
            "message",
            "delta",
            "content_block",
            "item",
            "part",
            "text",
            "finish_reason",
            "role",
            "content",
            "stop_reason",
            "prompt_tokens",
            "completion_tokens",
            "other",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn it_finds_what_the_parser_finds(members in prop::collection::btree_map(name(), value(), 0..6)) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            if let Some(quick) = top(&text) {
                let slow: Result<Top<'_>, _> = serde_json::from_str(&text);
                // A field that is given twice deeper down is seen by the parser only, and means nothing.
                if let Ok(slow) = slow {
                    prop_assert_eq!(facts(&quick), facts(&slow), "{}", text);
                }
            }
        }
    }

    #[test]
    fn the_usual_answers_need_no_parser() {
        for text in [
            r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a\\\"b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}"#,
            r#"{"type":"response.created","response":{"id":"r","usage":null}}"#,
        ] {
            assert!(top(text).is_some(), "{text}");
        }
    }
}
