//! What an answer says was made for it at the provider: containers in which code ran, and pictures.

use memchr::memmem;
use serde_json::Value;

/// The ids of what was made, in a whole answer or one event of a stream. Only where the provider itself says so: what a
/// model wrote and what is echoed of the request may name what is others'.
pub fn made(data: &[u8]) -> Vec<String> {
    let mut ids = Vec::new();
    let has = |word: &str| memmem::find(data, word.as_bytes()).is_some();
    if !has("\"container") && !has("\"image_generation_call\"") {
        return ids;
    }
    let Ok(top) = serde_json::from_slice::<Value>(data) else { return ids };
    for holder in [Some(&top), top.get("message"), top.get("delta")].into_iter().flatten() {
        let container = holder.get("container").and_then(|container| container.get("id"));
        ids.extend(container.and_then(Value::as_str).map(str::to_owned));
    }
    let outputs =
        [Some(&top), top.get("response")].into_iter().flatten().filter_map(|r| r["output"].as_array());
    for item in outputs.flatten().chain(top.get("item")) {
        let kind = item["type"].as_str().unwrap_or_default();
        let id = match kind {
            "image_generation_call" => &item["id"],
            "function_call" | "custom_tool_call" => &Value::Null,
            _ if !kind.ends_with("_call") => &Value::Null,
            _ if item["container_id"].is_string() => &item["container_id"],
            _ => &item["environment"]["container_id"],
        };
        ids.extend(id.as_str().map(str::to_owned));
    }
    ids
}
