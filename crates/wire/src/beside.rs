//! Which models a request sets to work beside the one that it names: by tools that run at the provider, and plug-ins.
//!
//! For whoever may use certain models only. What is not known to use no other model is taken for something that does.

use serde::Deserialize;
use serde_json::Value;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// Models that are named.
    pub models: Vec<String>,
    /// Tools and plug-ins that choose for themselves.
    pub choosers: Vec<String>,
    /// Types of all tools, and names of all plug-ins.
    pub kinds: Vec<String>,
}

#[derive(Deserialize)]
struct Parts {
    tools: Option<Value>,
    plugins: Option<Value>,
}

/// Reads a JSON body. `None` if it cannot be read in one way only.
pub fn read(body: &[u8]) -> Option<Beside> {
    let parts: Parts = serde_json::from_slice(body).ok()?;
    let mut beside = Beside::default();
    for (list, name, harmless) in
        [(&parts.tools, "type", TOOLS as &[&str]), (&parts.plugins, "id", PLUGINS as &[&str])]
    {
        for one in list.as_ref().and_then(Value::as_array).into_iter().flatten() {
            beside.add(one, name, harmless);
        }
    }
    Some(beside)
}

/// How the types begin of tools that use no other model: the client's own first.
const TOOLS: &[&str] = &[
    "function",
    "custom",
    "local_shell",
    "apply_patch",
    "bash_",
    "text_editor_",
    "computer",
    "memory_",
    "builtin_function",
    "shell",
    "web_search",
    "web_fetch",
    "browser_search",
    "code_",
    "file_search",
    "mcp",
    "tool_search",
    "openrouter:web_search",
    "openrouter:web_fetch",
    "openrouter:datetime",
];
const PLUGINS: &[&str] = &["web", "file-parser", "response-healing", "context-compression"];
/// Those that use the model which they name, and one of their own where they name none.
const NAMING: &[&str] = &["image_generation", "advisor_"];

impl Beside {
    fn add(&mut self, one: &Value, name: &str, harmless: &[&str]) {
        // One without a type is a function of the client's, in Anthropic's words.
        let kind = one[name].as_str().unwrap_or(if name == "type" { "custom" } else { "" });
        self.kinds.push(kind.to_owned());
        let begins = |list: &[&str]| list.iter().any(|start| kind.starts_with(start));
        if matches!(kind, "function" | "custom") {
            return;
        }
        if let ("namespace", Some(tools)) = (kind, one["tools"].as_array()) {
            return tools.iter().for_each(|tool| self.add(tool, name, harmless));
        }
        let before = self.models.len();
        self.named(one);
        let names_one = self.models.len() > before;
        if !(begins(harmless) || begins(NAMING) && names_one) {
            self.choosers.push(kind.to_owned());
        }
    }

    /// Models by whatever field that is called after them.
    fn named(&mut self, value: &Value) {
        match value {
            Value::Array(list) => list.iter().for_each(|inner| self.named(inner)),
            Value::Object(object) => {
                for (name, value) in object {
                    match value {
                        Value::String(model) if name.contains("model") => self.models.push(model.clone()),
                        Value::Array(list) if name.contains("model") => {
                            self.models.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                            self.named(value);
                        }
                        _ => self.named(value),
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> (Vec<String>, Vec<String>) {
        let Beside { models, choosers, .. } = read(body.as_bytes()).unwrap();
        (models, choosers)
    }

    #[test]
    fn tools_of_the_client_and_of_the_model_itself_use_no_other() {
        let body = r#"{"model":"m","plugins":[{"id":"web"}],"tools":[{"type":"function","function":{"name":"f",
            "parameters":{"properties":{"model":{"default":"x"}},"examples":[{"model":"x"}]}}},{"name":"g","input_schema":{}},
            {"type":"web_search_20250305"},{"type":"code_interpreter","container":{"type":"auto"}}]}"#;
        assert_eq!(of(body), (vec![], vec![]));
        assert_eq!(of("{}"), (vec![], vec![]));
        assert_eq!(read(br#"{"tools":[],"t\u006fols":[{"type":"fusion"}]}"#), None);
    }

    #[test]
    fn models_that_are_named_and_those_that_are_chosen_are_told() {
        for (body, models, choosers) in [
            (r#"{"tools":[{"type":"advisor_20260301","model":"dear"}]}"#, &["dear"][..], &[][..]),
            (r#"{"tools":[{"type":"advisor_20260301"}]}"#, &[], &["advisor_20260301"]),
            (r#"{"tools":[{"type":"image_generation"}]}"#, &[], &["image_generation"]),
            (
                r#"{"tools":[{"type":"openrouter:fusion","parameters":{"analysis_models":["a","b"],"model":"c"}}]}"#,
                &["a", "b", "c"],
                &["openrouter:fusion"],
            ),
            (
                r#"{"plugins":[{"id":"auto-router","allowed_models":["dear/*"]}]}"#,
                &["dear/*"],
                &["auto-router"],
            ),
            (r#"{"plugins":[{"id":"web","model":"dear"}]}"#, &["dear"], &[]),
            (r#"{"plugins":[{}]}"#, &[], &[""]),
            (
                r#"{"tools":[{"type":"namespace","tools":[{"type":"function","x":{"model":"y"}},{"type":"advisor_1"}]}]}"#,
                &[],
                &["advisor_1"],
            ),
            (r#"{"tools":[{"type":"namespace"}]}"#, &[], &["namespace"]),
        ] {
            let strings = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            assert_eq!(of(body), (strings(models), strings(choosers)), "{body}");
        }
    }
}
