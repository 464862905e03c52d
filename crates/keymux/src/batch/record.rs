//! The lines of the output, in the form of OpenAI's Batch API.

use serde_json::Value;
use serde_json::value::RawValue;

/// The answer of a provider, be it an error.
pub fn answered(id: &str, custom_id: &str, status: u16, body: &[u8]) -> Vec<u8> {
    let mut text = begun(id, Some(custom_id), body.len());
    text.extend(format!("\"response\":{{\"status_code\":{status},\"request_id\":\"{id}\",\"body\":").bytes());
    match serde_json::from_slice::<&RawValue>(body) {
        // Line ends have their place between the parts of JSON, never inside one.
        Ok(json) => text.extend(json.get().bytes().filter(|byte| !matches!(byte, b'\n' | b'\r'))),
        Err(_) => text.extend(Value::from(String::from_utf8_lossy(body)).to_string().bytes()),
    }
    text.extend_from_slice(b"},\"error\":null}\n");
    text
}

/// A line without an answer, and why.
pub fn refused(id: &str, custom_id: Option<&str>, number: u64, (code, message): (&str, &str)) -> Vec<u8> {
    let mut text = begun(id, custom_id, message.len());
    let message = Value::from(message);
    text.extend(
        format!(
            "\"response\":null,\"error\":{{\"code\":\"{code}\",\"message\":{message},\"line\":{number}}}}}\n"
        )
        .bytes(),
    );
    text
}

fn begun(id: &str, custom_id: Option<&str>, room: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(room + 256);
    let custom_id = custom_id.map_or(Value::Null, Value::from);
    text.extend(format!("{{\"id\":\"batch_req_{id}\",\"custom_id\":{custom_id},").bytes());
    text
}

/// What an error says, in short.
pub fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let message = value["error"]["message"].as_str().or(value["message"].as_str()).unwrap_or_default();
    message.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Value {
        assert_eq!(text.iter().position(|b| *b == b'\n'), Some(text.len() - 1), "one line, and whole");
        serde_json::from_slice(text).unwrap()
    }

    #[test]
    fn an_answer_over_several_lines_becomes_one_and_stays_what_it_is() {
        let body = b"{\r\n \"a\": \"x\\ny\",\n \"n\": 1.50\n}\n";
        let text = answered("km-1", "a\"b", 200, body);
        assert!(String::from_utf8_lossy(&text).contains("1.50"), "numbers are as they came");
        let line = parsed(&text);
        assert_eq!(line["custom_id"], "a\"b");
        assert_eq!(line["error"], Value::Null);
        assert_eq!(line["response"]["status_code"], 200);
        assert_eq!(line["response"]["request_id"], "km-1");
        assert_eq!(line["response"]["body"]["a"], "x\ny");
    }

    #[test]
    fn what_is_no_json_is_kept_as_text() {
        let line = parsed(&answered("i", "a", 502, b"<html>\n\xff"));
        assert_eq!(line["response"]["body"], "<html>\n\u{fffd}");
    }

    #[test]
    fn a_refusal_names_its_line() {
        let line = parsed(&refused("i", None, 7, ("invalid_json", "it is \"no\"\nobject")));
        assert_eq!((&line["custom_id"], &line["response"]), (&Value::Null, &Value::Null));
        assert_eq!(line["error"]["code"], "invalid_json");
        assert_eq!(line["error"]["line"], 7);
        assert_eq!(line["error"]["message"], "it is \"no\"\nobject");
    }
}
