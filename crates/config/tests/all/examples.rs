//! The examples are good, and the documentation is what the code says.

use crate::world::{Table, good};
use keymux_config::{diff, reference, schema};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn example(name: &str) -> String {
    std::fs::read_to_string(root().join("examples").join(name)).unwrap()
}

#[test]
fn every_example_is_good() {
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(&path).unwrap();
            match Table::plentiful().toml(&text) {
                Ok(config) => {
                    let shown: Vec<&str> = config.warnings.iter().map(|w| w.message.as_str()).collect();
                    let expected: &[&str] = match path.file_name().unwrap().to_str().unwrap() {
                        "fallback-tiers.toml" => {
                            &["the tiers of \"claude-sonnet-4-5\" serve different endpoints: \
                              chat/completions only by tier 2, responses only by tier 2"]
                        }
                        _ => &[],
                    };
                    assert_eq!(shown, expected, "{}", path.display());
                }
                Err(problems) => panic!("{}", problems.render(&path.display().to_string(), &text, false)),
            }
            seen += 1;
        }
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn everything_says_what_nothing_says() {
    let nothing = good(&example("minimal.toml"));
    let everything = good(&example("everything.toml"));
    let text: Vec<String> = diff(&nothing, &everything).iter().map(ToString::to_string).collect();
    assert_eq!(text, Vec::<String>::new());
    assert_eq!(nothing.describe(), everything.describe());
}

/// Lines that are commented out must be right as well.
#[test]
fn what_everything_leaves_out_is_good_too() {
    let uncommented: String = example("everything.toml")
        .lines()
        .map(|line| {
            let bare = line.trim_start_matches("# ").trim_start();
            let setting = line.starts_with('#')
                && (bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')));
            let inside = line.starts_with("#     ") || line == "#   ]" || line.starts_with("#   {");
            if line.starts_with("#   keys =") {
                "[[provider]]\nname = \"openai\"\nkeys = [{ name = \"a\", account = \"team\", secret = \"env:KEY_A\" }, { name = \"b\", account = \"team\", secret = \"env:KEY_B\" }]\n".to_owned()
            } else if setting || inside {
                format!("{}\n", line.trim_start_matches("# "))
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let config = good(&uncommented);
    assert_eq!(config.providers[1].accounts[0].limits.len(), 12);
    assert_eq!(config.routes[0].default_max_tokens, Some(4096));
    assert!(config.server.tls.is_some() && config.server.token.is_some());
    let hook = &config.webhooks[0];
    assert_eq!((hook.topics.len(), hook.url.to_string()), (12, "https://hooks.example.com/…".to_owned()));
}

/// Every setting appears in everything.toml, set or commented out.
#[test]
fn everything_leaves_no_setting_out() {
    let text = example("everything.toml");
    let mut names = Vec::new();
    let mut schema = schema();
    // Refused as long as nothing enforces them: no example may have them.
    for section in ["team", "client", "price", "prices"] {
        assert!(schema["properties"].as_object_mut().unwrap().remove(section).is_some(), "{section}");
    }
    collect(&schema, &mut names);
    assert!(names.len() > 90, "{}", names.len());
    for name in names {
        let known = [format!("{name} ="), format!("[{name}"), format!(".{name}]"), format!("{name}:")];
        assert!(known.iter().any(|k| text.contains(k.as_str())), "{name} is not in everything.toml");
    }
}

fn collect(schema: &serde_json::Value, names: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(|p| p.as_object()) {
        assert_eq!(schema["additionalProperties"], false, "objects are closed");
        for (name, property) in properties {
            names.push(name.clone());
            collect(property, names);
        }
    }
    for inner in ["items", "oneOf"] {
        match schema.get(inner) {
            Some(serde_json::Value::Array(list)) => list.iter().for_each(|s| collect(s, names)),
            Some(one) => collect(one, names),
            None => {}
        }
    }
}

#[test]
fn the_schema_describes_every_setting() {
    let schema = schema();
    let listen = &schema["properties"]["server"]["properties"]["listen"];
    assert_eq!(listen["default"], "127.0.0.1:4000");
    assert!(listen["description"].as_str().unwrap().starts_with("Address for clients"));
    let strategy = &schema["properties"]["route"]["items"]["properties"]["strategy"];
    assert_eq!(strategy["enum"][0], "headroom");
    let limits =
        &schema["properties"]["provider"]["items"]["properties"]["keys"]["items"]["properties"]["limits"];
    assert_eq!(limits["items"]["properties"]["rpm"]["exclusiveMinimum"], 0);
}

/// The tables between the marks of docs/configuration.md are generated; `UPDATE_DOCS=1` writes them anew.
#[test]
fn the_reference_is_fresh() {
    const BEGIN: &str =
        "<!-- generated: the reference; UPDATE_DOCS=1 cargo test -p keymux-config reference -->\n";
    const END: &str = "<!-- end of the generated part -->";
    let path = root().join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark at the beginning");
    let (old, after) = rest.split_once(END).expect("the mark at the end");
    let new = format!("\n{}", reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{new}{END}{after}")).unwrap();
        return;
    }
    assert!(
        old == new,
        "docs/configuration.md is stale: run UPDATE_DOCS=1 cargo test -p keymux-config reference"
    );
}
