//! Reads a request as a vendor would: credentials, body, and from the body what matters for limits and money.

use serde_json::Value;

use crate::call::{Call, ToolAsk};
use crate::dialect::{Dialect, Endpoint};
use crate::refusal::{Refusal, Why};
use crate::rng::hash;
use crate::steer::Steer;

/// A request as it came, the provider's mount cut off from the path.
#[derive(Clone, Copy, Debug)]
pub struct HttpRequest<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// Names in lower case.
    pub headers: &'a [(String, String)],
    /// Whole.
    pub body: &'a [u8],
}

impl<'a> HttpRequest<'a> {
    pub(crate) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The credential, from any of the headers that the vendor reads.
    pub(crate) fn secret(&self, dialect: Dialect) -> Option<&'a str> {
        let bearer = self
            .header("authorization")
            .and_then(|v| v.strip_prefix("Bearer ").or_else(|| v.strip_prefix("bearer ")))
            .map(str::trim);
        match dialect {
            Dialect::Openai => bearer.or_else(|| self.header("api-key")),
            Dialect::Openrouter | Dialect::Anthropic => self.header("x-api-key").or(bearer),
        }
    }
}

/// A body, understood. Owns what a [`Call`] borrows.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "mirrors the flags of the vendors' requests")]
pub(crate) struct Ask {
    pub(crate) model: String,
    stream: bool,
    include_usage: bool,
    input_tokens: u64,
    max_tokens: Option<u64>,
    n: u32,
    prompt: Option<u64>,
    cache_control: bool,
    max_price: [Option<f64>; 2],
    previous_response: Option<String>,
    store: bool,
    tool: Option<ToolAsk>,
    json_answer: bool,
    inputs: u32,
    dimensions: Option<u32>,
    base64: bool,
    steer: Option<Box<Steer>>,
}

impl Ask {
    /// Fills a call with what the body says.
    pub(crate) fn fill<'a>(&'a self, call: &mut Call<'a>) {
        call.model = &self.model;
        call.stream = self.stream;
        call.include_usage = self.include_usage;
        call.input_tokens = self.input_tokens;
        call.max_tokens = self.max_tokens;
        call.n = self.n;
        call.prompt = self.prompt;
        call.cache_control = self.cache_control;
        call.max_price = self.max_price;
        call.previous_response = self.previous_response.as_deref();
        call.store = self.store;
        call.tool.clone_from(&self.tool);
        call.json_answer = self.json_answer;
        call.inputs = self.inputs;
        call.dimensions = self.dimensions;
        call.base64 = self.base64;
        call.steer.clone_from(&self.steer);
    }
}

fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Refusal {
    Refusal::new(Why::Invalid { message: message.into(), param }, "invalid_request")
}

/// Reads the body of a POST.
pub(crate) fn read(request: &HttpRequest<'_>, endpoint: Endpoint, dialect: Dialect) -> Result<Ask, Refusal> {
    let content_type = request.header("content-type").unwrap_or_default();
    if content_type.starts_with("multipart/form-data") {
        return read_multipart(request.body);
    }
    let body: Value = serde_json::from_slice(request.body)
        .map_err(|e| invalid(format!("We could not parse the JSON body of your request: {e}"), None))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let number = |name: &str| body.get(name).and_then(Value::as_u64);
    let flag = |name: &str| body.get(name).and_then(Value::as_bool);
    // OpenRouter takes a list of models in their order, with or without a first one before it.
    let list = || body.pointer("/models/0").and_then(Value::as_str).map(str::to_owned);
    let listed = || if dialect == Dialect::Openrouter { list() } else { None };
    let model = text("model").filter(|m| !m.is_empty()).or_else(listed);
    let default = matches!(endpoint, Endpoint::Moderations | Endpoint::Images).then(|| "default".to_owned());
    let model =
        model.or(default).ok_or_else(|| invalid("you must provide a model parameter", Some("model")))?;
    let required = match endpoint {
        Endpoint::Chat | Endpoint::Messages | Endpoint::CountTokens => Some("messages"),
        Endpoint::Embeddings | Endpoint::Moderations => Some("input"),
        Endpoint::Completions | Endpoint::Images => Some("prompt"),
        _ => None,
    };
    if let Some(field) = required.filter(|field| body.get(field).is_none_or(Value::is_null)) {
        return Err(invalid(format!("Missing required parameter: '{field}'."), Some(field)));
    }
    let max_tokens = number("max_completion_tokens")
        .or_else(|| number("max_tokens"))
        .or_else(|| number("max_output_tokens"));
    if endpoint == Endpoint::Messages && max_tokens.is_none() {
        return Err(invalid("Field required", Some("max_tokens")));
    }
    let words = Words::of(&body);
    let steer = match words.last_user.as_deref().and_then(Steer::find) {
        Some(Ok(steer)) => Some(Box::new(steer)),
        Some(Err(message)) => return Err(invalid(message, None)),
        None => None,
    };
    let narrow = |value: Option<u64>| value.and_then(|v| u32::try_from(v).ok());
    let default_tokens = if endpoint.writes() { None } else { Some(0) };
    Ok(Ask {
        model,
        stream: flag("stream").unwrap_or(false),
        include_usage: body
            .pointer("/stream_options/include_usage")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        input_tokens: steer.as_ref().and_then(|s| s.input_tokens).unwrap_or((words.bytes / 4).max(1)),
        max_tokens: max_tokens.or(default_tokens),
        n: narrow(number("n")).unwrap_or(1).clamp(1, 128),
        prompt: Some(words.prefix),
        cache_control: memmem(request.body, b"\"cache_control\""),
        max_price: if dialect == Dialect::Openrouter { max_price(&body) } else { [None; 2] },
        previous_response: text("previous_response_id"),
        store: flag("store").unwrap_or(true),
        tool: tool(&body, steer.as_deref(), words.last_user.as_deref()),
        json_answer: wants_json(&body),
        inputs: inputs(&body),
        dimensions: narrow(number("dimensions")),
        base64: body.get("encoding_format").and_then(Value::as_str) == Some("base64"),
        steer,
    })
}

/// Prices are numbers, or numbers in strings.
fn max_price(body: &Value) -> [Option<f64>; 2] {
    ["/provider/max_price/prompt", "/provider/max_price/completion"].map(|pointer| {
        match body.pointer(pointer)? {
            Value::String(text) => text.trim().parse().ok(),
            number => number.as_f64(),
        }
    })
}

fn memmem(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The texts of a request: how many bytes, what its beginning is, what the user said last.
#[derive(Default)]
struct Words {
    bytes: u64,
    prefix: u64,
    last_user: Option<String>,
}

impl Words {
    fn of(body: &Value) -> Words {
        let mut words = Words::default();
        let mut prefix = String::new();
        for field in ["system", "instructions"] {
            if let Some(value) = body.get(field) {
                let text = flatten(value);
                words.bytes += text.len() as u64;
                prefix.push_str(&text);
            }
        }
        if let Some(tools) = body.get("tools") {
            words.bytes += tools.to_string().len() as u64;
        }
        let list = body.get("messages").or_else(|| body.get("input")).or_else(|| body.get("prompt"));
        let mut settled = false;
        match list {
            Some(Value::Array(items)) => {
                for item in items {
                    let role = item.get("role").and_then(Value::as_str).unwrap_or("user");
                    let text = flatten(item);
                    words.bytes += text.len() as u64;
                    if !settled {
                        prefix.push_str(&text);
                        settled = role != "system" && role != "developer";
                    }
                    if role == "user" {
                        words.last_user = Some(text);
                    }
                }
            }
            Some(other) => {
                let text = flatten(other);
                words.bytes += text.len() as u64;
                prefix.push_str(&text);
                words.last_user = Some(text);
            }
            None => {}
        }
        words.prefix = hash(prefix.as_bytes());
        words
    }
}

/// All text in a message or part, ids and roles left out.
fn flatten(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(flatten).collect::<Vec<_>>().join("\n"),
        Value::Object(map) => ["content", "text", "output", "arguments", "tool_calls"]
            .iter()
            .filter_map(|field| map.get(*field))
            .map(flatten)
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

fn inputs(body: &Value) -> u32 {
    let list = body.get("input").or_else(|| body.get("documents"));
    match list {
        // One input as token numbers is one input.
        Some(Value::Array(items)) if !items.first().is_some_and(Value::is_number) => {
            u32::try_from(items.len()).unwrap_or(u32::MAX).clamp(1, 4096)
        }
        _ => 1,
    }
}

fn wants_json(body: &Value) -> bool {
    let kind = body
        .pointer("/response_format/type")
        .or_else(|| body.pointer("/text/format/type"))
        .and_then(Value::as_str);
    matches!(kind, Some("json_object" | "json_schema"))
}

/// Which tool is called: the one that the request forces, the steering names, or the prompt asks for.
fn tool(body: &Value, steer: Option<&Steer>, last_user: Option<&str>) -> Option<ToolAsk> {
    let tools = body.get("tools")?.as_array()?;
    let name_of = |tool: &Value| {
        tool.pointer("/function/name").or_else(|| tool.get("name")).and_then(Value::as_str).map(str::to_owned)
    };
    let choice = body.get("tool_choice");
    let forced = match choice {
        Some(Value::String(word)) if word == "required" => tools.first().and_then(name_of),
        Some(Value::Object(choice)) => match choice.get("type").and_then(Value::as_str) {
            Some("any") => tools.first().and_then(name_of),
            _ => name_of(&Value::Object(choice.clone())),
        },
        Some(Value::String(word)) if word == "none" => return None,
        _ => None,
    };
    let asked = || {
        last_user.filter(|text| text.contains("use the tool")).and_then(|_| tools.first().and_then(name_of))
    };
    let name = forced.or_else(|| steer.and_then(|s| s.tool.clone())).or_else(asked)?;
    let tool = tools.iter().find(|tool| name_of(tool).as_deref() == Some(&name))?;
    let schema = tool
        .pointer("/function/parameters")
        .or_else(|| tool.get("parameters"))
        .or_else(|| tool.get("input_schema"));
    let arguments = schema.map_or_else(|| Value::Object(serde_json::Map::new()), example);
    Some(ToolAsk { name, arguments: arguments.to_string() })
}

/// A value that fits a JSON schema, as far as simple schemas go.
fn example(schema: &Value) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|list| list.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            Value::Object(
                properties.into_iter().flatten().map(|(name, of)| (name.clone(), example(of))).collect(),
            )
        }
        Some("array") => Value::Array(schema.get("items").map(example).into_iter().collect()),
        Some("integer") => Value::from(7),
        Some("number") => Value::from(0.5),
        Some("boolean") => Value::from(true),
        _ => Value::from("Oslo"),
    }
}

/// The `model` field of a form, and its size.
fn read_multipart(body: &[u8]) -> Result<Ask, Refusal> {
    let text = String::from_utf8_lossy(body);
    let model = text
        .split("name=\"model\"")
        .nth(1)
        .and_then(|rest| rest.split("\r\n\r\n").nth(1))
        .and_then(|rest| rest.split("\r\n").next())
        .filter(|model| !model.is_empty())
        .ok_or_else(|| invalid("you must provide a model parameter", Some("model")))?;
    Ok(Ask {
        model: model.to_owned(),
        input_tokens: (body.len() as u64 / 1000).max(1),
        max_tokens: Some(0),
        n: 1,
        inputs: 1,
        ..Ask::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(endpoint: Endpoint, body: &str) -> Result<Ask, Refusal> {
        read(
            &HttpRequest { method: "POST", path: "", headers: &[], body: body.as_bytes() },
            endpoint,
            Dialect::Openrouter,
        )
    }

    #[test]
    fn tokens_are_a_quarter_of_the_bytes_of_text_and_ids_do_not_count() {
        let ask = ask(
            Endpoint::Chat,
            r#"{"model":"m","messages":[{"role":"system","content":"12345678"},{"role":"user","content":[{"type":"text","text":"1234"},{"type":"text","text":"567"}]}]}"#,
        )
        .unwrap();
        assert_eq!(ask.input_tokens, (8 + 8) / 4);
    }

    #[test]
    fn the_prefix_is_the_system_text_and_the_first_user_text_only() {
        let body = |last: &str, first: &str| {
            format!(
                r#"{{"model":"m","messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"{first}"}},{{"role":"assistant","content":"x"}},{{"role":"user","content":"{last}"}}]}}"#
            )
        };
        let prefix = |last: &str, first: &str| ask(Endpoint::Chat, &body(last, first)).unwrap().prompt;
        assert_eq!(prefix("a", "hello"), prefix("b", "hello"));
        assert_ne!(prefix("a", "hello"), prefix("a", "other"));
    }

    #[test]
    fn a_forced_tool_is_called_with_arguments_of_its_schema() {
        let tools = r#"[{"type":"function","function":{"name":"a","parameters":{}}},{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}]"#;
        let with = |choice: &str| {
            ask(
                Endpoint::Chat,
                &format!(r#"{{"model":"m","messages":[],"tools":{tools},"tool_choice":{choice}}}"#),
            )
            .unwrap()
            .tool
        };
        let tool = with(r#"{"type":"function","function":{"name":"weather"}}"#).unwrap();
        assert_eq!(tool.name, "weather");
        let arguments: Value = serde_json::from_str(&tool.arguments).unwrap();
        assert_eq!(arguments, serde_json::json!({"city":"Oslo","days":7}));
        assert_eq!(with("\"required\"").unwrap().name, "a");
        assert_eq!(with("\"auto\""), None);
        assert_eq!(with("\"none\""), None);
    }

    #[test]
    fn missing_fields_are_named() {
        let message = |endpoint, body| match ask(endpoint, body).unwrap_err().why {
            Why::Invalid { message, param } => (message, param),
            other => panic!("{other:?}"),
        };
        assert_eq!(message(Endpoint::Chat, "{}").1, Some("model"));
        assert_eq!(message(Endpoint::Chat, r#"{"model":"m"}"#).1, Some("messages"));
        assert_eq!(message(Endpoint::Messages, r#"{"model":"m","messages":[]}"#).1, Some("max_tokens"));
        assert!(message(Endpoint::Chat, "{").0.contains("JSON"));
    }

    #[test]
    fn a_form_names_its_model() {
        let headers = [("content-type".to_owned(), "multipart/form-data; boundary=x".to_owned())];
        let body = b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--x--\r\n";
        let request = HttpRequest { method: "POST", path: "", headers: &headers, body };
        assert_eq!(read(&request, Endpoint::Transcriptions, Dialect::Openai).unwrap().model, "whisper-1");
    }
}
