//! What a field or a tool is given decides whether it can cost more: values that switch it off, or leave it to the client.

use crate::head::folded;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// Fields with which a provider does what nothing bounds: it searches, calls others, runs code, sums up what was said
/// before it answers (and bills both), computes where it is dearer.
pub(super) const UNBOUNDED: [&str; 12] = [
    "plugins",
    "web_search_options",
    "mcp_servers",
    "container",
    "preset",
    "context_management",
    "inference_geo",
    // xAI, Alibaba, Google.
    "search_parameters",
    "enable_search",
    "search_options",
    "extra_body",
    // Groq.
    "compound_custom",
];

/// Whether what was found unbounded is a field, and no tool.
pub fn is_field(name: &str) -> bool {
    UNBOUNDED.contains(&name) || matches!(name, "best_of" | "prompt")
}

/// A value that asks for none of it.
pub(super) fn costs_nothing_more(name: &str, raw: &str) -> bool {
    let Ok(given) = serde_json::from_str::<Value>(raw) else { return false };
    let clears = |edit: &Value| edit["type"].as_str().is_some_and(|kind| kind.starts_with("clear_"));
    if given.as_array().is_some_and(Vec::is_empty) {
        return true;
    }
    match name {
        "plugins" => given.as_array().is_some_and(|plugins| plugins.iter().all(is_free)),
        "context_management" => given["edits"].as_array().is_some_and(|edits| edits.iter().all(clears)),
        "inference_geo" => given == "global",
        "search_parameters" => is_off(raw) || given == Value::Bool(false),
        "extra_body" => only_thinks(raw) || given == Value::Bool(false),
        _ => given == Value::Bool(false),
    }
}

/// A plug-in of `OpenRouter`'s that is switched off, mends or shortens text, or reads files without a fee.
fn is_free(plugin: &Value) -> bool {
    let free = match plugin["id"].as_str() {
        Some("response-healing" | "context-compression") => true,
        Some("file-parser") => {
            matches!(plugin["pdf"]["engine"].as_str(), Some("native" | "pdf-text" | "cloudflare-ai"))
        }
        _ => false,
    };
    free || plugin["enabled"] == false
}

/// xAI's search.
fn is_off(search: &str) -> bool {
    Members::of(search).is_some_and(|search| search.text("mode").as_deref() == Some("off"))
}

/// What Google takes beside `OpenAI`'s fields, as far as it changes no bound: thoughts are output, and capped with it.
fn only_thinks(extra: &str) -> bool {
    let only = |raw, name| Members::of(raw).filter(|members| members.are_of(&[name]))?.0.remove(name);
    only(extra, "google")
        .and_then(|google| only(google.get(), "thinking_config"))
        .and_then(|thinks| Members::of(thinks.get()))
        .is_some_and(|thinks| thinks.are_of(&["thinking_budget", "thinking_level", "include_thoughts"]))
}

/// Whether the client itself runs what is called in this environment of a shell. Its skills are named, and no more.
pub(super) fn is_local(environment: &str) -> bool {
    let Some(environment) = Members::of(environment) else { return false };
    let named = |skill: &&RawValue| {
        Members::of(skill.get()).is_some_and(|skill| skill.are_of(&["name", "description", "path"]))
    };
    environment.text("type").as_deref() == Some("local")
        && environment.are_of(&["type", "skills"])
        && environment.0.get("skills").is_none_or(|skills| {
            serde_json::from_str::<Vec<&RawValue>>(skills.get()).is_ok_and(|skills| skills.iter().all(named))
        })
}

/// The members of an object that gives none twice, nor in another case than theirs: who knows which of them would count.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    fn of(raw: &'a str) -> Option<Self> {
        serde_json::from_str(raw).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// There are no others.
    fn are_of(&self, names: &[&str]) -> bool {
        self.0.keys().all(|name| names.contains(&name.as_str()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    let is_usual = *folded(&name) == *name;
                    if members.insert(name, value).is_some() || !is_usual {
                        return Err(A::Error::custom("a name given twice, or in another case"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Read).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use crate::charges::read;

    fn unbounded(body: &str) -> Vec<String> {
        read(body.as_bytes()).unwrap().unbounded
    }

    #[test]
    fn a_shell_is_the_clients_where_its_environment_says_so_and_nothing_else() {
        for tool in [
            r#"{"type":"shell","environment":{"type":"local"}}"#,
            r#"{"environment":{"type":"local","skills":[]},"type":"shell"}"#,
            r#"{"type":"shell","environment":{"type":"local","skills":[{"name":"n","description":"d","path":"p"}]}}"#,
            r#"{"type":"shell","env\u0069ronment":{"t\u0079pe":"loc\u0061l"}}"#,
            r#"{"type":"namespace","tools":[{"type":"shell","environment":{"type":"local"}}]}"#,
        ] {
            assert_eq!(unbounded(&format!(r#"{{"tools":[{tool}]}}"#)), [""; 0], "{tool}");
        }
        for environment in [
            r#"{"type":"container_auto"}"#,
            r#"{"type":"container_reference","container_id":"cntr_1"}"#,
            r#"{"type":"container_auto","type":"local"}"#,
            r#"{"type":"local","type":"container_auto"}"#,
            r#"{"type":"local"},"environment":{"type":"container_auto"}"#,
            r#"{"type":"container_auto"},"environment":{"type":"local"}"#,
            r#"null,"environment":{"type":"local"}"#,
            r#"{"type":"local","network_policy":{"type":"allowlist"}}"#,
            r#"{"type":"local","skills":[{"type":"skill_reference","skill_id":"s"}]}"#,
            r#"{"type":["local"]}"#,
            r#"{"type":"local"},"Environment":{"type":"container_auto"}"#,
            r#"{"type":"local","Type":"container_auto"}"#,
            r#"["local"]"#,
            r#""local""#,
            "{}",
            "null",
        ] {
            let body = format!(r#"{{"tools":[{{"type":"shell","environment":{environment}}}]}}"#);
            assert_eq!(unbounded(&body), ["shell"], "{body}");
        }
    }

    #[test]
    fn an_environment_speaks_for_its_own_tool_and_for_shells_alone() {
        for (tools, found) in [
            (r#"{"type":"shell"}"#, "shell"),
            (r#"{"type":"shell","Environment":{"type":"local"}}"#, "shell"),
            (r#"{"type":"shell"},{"type":"function","environment":{"type":"local"}}"#, "shell"),
            (r#"{"type":"shell","environment":{"type":"local"}},{"type":"shell"}"#, "shell"),
            (r#"{"type":"shell"},{"type":"shell","environment":{"type":"local"}}"#, "shell"),
            (r#"{"environment":{"type":"local"},"tools":[{"type":"shell"}]}"#, "shell"),
            (r#"{"tools":[{"type":"shell"}],"environment":{"type":"local"}}"#, "shell"),
            (r#"{"type":"code_interpreter","environment":{"type":"local"}}"#, "code_interpreter"),
            (r#"{"type":"shell","type":"web_search","environment":{"type":"local"}}"#, "web_search"),
        ] {
            assert_eq!(unbounded(&format!(r#"{{"tools":[{tools}]}}"#)), [found], "{tools}");
        }
        assert_eq!(unbounded(r#"{"environment":{"type":"local"},"tools":[{"type":"shell"}]}"#), ["shell"]);
    }

    #[test]
    fn a_search_is_off_and_what_is_more_than_openais_is_thoughts_where_nothing_contradicts_it() {
        for (name, given) in [
            ("search_parameters", r#"{"mode":"off"}"#),
            ("search_parameters", r#"{"sources":[{"type":"web"}],"mode":"off","max_search_results":5}"#),
            ("extra_body", r#"{"google":{"thinking_config":{}}}"#),
            (
                "extra_body",
                r#"{"google":{"thinking_config":{"thinking_budget":800,"thinking_level":"low","include_thoughts":true}}}"#,
            ),
        ] {
            assert_eq!(unbounded(&format!(r#"{{"{name}":{given}}}"#)), [""; 0], "{given}");
        }
        for (name, given) in [
            ("search_parameters", r#"{"mode":"auto"}"#),
            ("search_parameters", r#"{"mode":"off","mode":"on"}"#),
            ("search_parameters", r#"{"mode":"on","mode":"off"}"#),
            ("search_parameters", r#"{"mode":"off","mo\u0064e":"on"}"#),
            ("search_parameters", r#"{"mode":"off","Mode":"on"}"#),
            ("search_parameters", r#"{"Mode":"off"}"#),
            ("search_parameters", r#"["off"]"#),
            ("search_parameters", "{}"),
            ("extra_body", r#"{"google":{"thinking_config":{},"cached_content":"c"}}"#),
            ("extra_body", r#"{"google":{"thinking_config":{"tools":[]}}}"#),
            ("extra_body", r#"{"google":{"thinking_config":{}},"tools":[]}"#),
            ("extra_body", r#"{"google":{},"google":{"thinking_config":{}}}"#),
            ("extra_body", r#"{"google":{"thinking_config":null}}"#),
            ("extra_body", r#"{"google":[[800]]}"#),
            ("extra_body", r#"{"thinking_config":{}}"#),
            ("search_options", r#"{"mode":"off"}"#),
            ("plugins", r#"{"google":{"thinking_config":{}}}"#),
        ] {
            assert_eq!(unbounded(&format!(r#"{{"{name}":{given}}}"#)), [name], "{given}");
        }
        assert_eq!(
            unbounded(r#"{"search_parameters":{"mode":"off"},"search_parameters":{"mode":"on"}}"#),
            ["search_parameters"]
        );
    }
}
