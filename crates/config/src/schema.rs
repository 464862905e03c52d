//! The JSON Schema of the file and the tables of its reference, both from the declarations in `text/file.rs`.

use crate::describe;
use crate::presets::{self, PresetAuth};
use crate::text::read::{Field, Section, Typed as _, Words as _, sentence};
use crate::text::{file, ledger, money, traces, webhook};
use keymux_policy::fleet::EndpointSet;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The JSON Schema (2020-12) of a configuration file, for editors. Every object is closed.
pub fn schema() -> Value {
    let mut schema = file::File::schema();
    if let Some(object) = schema.as_object_mut() {
        object.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".into(), json!("keymux configuration"));
    }
    schema
}

/// The tables of `docs/configuration.md`: every section, every setting, its kind, default and meaning.
pub fn reference() -> String {
    let mut out = String::new();
    section::<file::File>("At the top of the file", &mut out);
    section::<file::Server>("`[server]`", &mut out);
    section::<file::Tls>("`[server.tls]`", &mut out);
    section::<file::Log>("`[log]`", &mut out);
    section::<ledger::Ledger>("`[ledger]`", &mut out);
    section::<traces::Traces>("`[traces]`", &mut out);
    section::<file::Checks>("`[checks]`", &mut out);
    section::<file::Provider>("`[[provider]]`", &mut out);
    section::<file::Key>("An entry of `keys`", &mut out);
    section::<file::Account>("`[[provider.account]]`", &mut out);
    section::<file::Limit>("An entry of `limits`", &mut out);
    section::<file::Charging>("`[provider.charging]`", &mut out);
    section::<file::Route>("`[[route]]`", &mut out);
    section::<file::TargetTable>("A target as a table", &mut out);
    section::<money::Team>("`[[team]]`", &mut out);
    section::<money::Client>("`[[client]]`", &mut out);
    section::<webhook::Webhook>("`[[webhook]]`", &mut out);
    section::<money::Prices>("`[prices]`", &mut out);
    section::<money::Price>("`[[price]]`", &mut out);
    section::<money::PriceStep>("An entry of `above`", &mut out);
    section::<file::Timeouts>("`[timeouts]`, `[provider.timeouts]`, `[route.timeouts]`", &mut out);
    section::<file::Settings>("`[settings]`", &mut out);
    section::<file::Breaker>("`[breaker]`", &mut out);
    section::<file::Retry>("`[retry]`", &mut out);
    section::<file::Room>("`[room]`", &mut out);
    preset_rows(&mut out);
    out
}

fn section<T: Section>(heading: &str, out: &mut String) {
    let _ = writeln!(out, "### {heading}\n\n{}\n", sentence(T::ABOUT));
    out.push_str("| setting | kind | default | meaning |\n| --- | --- | --- | --- |\n");
    for field in T::fields() {
        row(&field, out);
    }
    out.push('\n');
}

fn preset_rows(out: &mut String) {
    out.push_str(
        "### What a preset brings\n\n`charges` is how `max_tokens` and output count against limits.\n\n",
    );
    out.push_str("| preset | variables | address | key in | endpoints | charges |\n| --- | --- | --- | --- | --- | --- |\n");
    for preset in presets::PRESETS {
        let key = match preset.auth {
            PresetAuth::Bearer => "`Authorization`".to_owned(),
            PresetAuth::Header(name) => format!("`{name}`"),
            PresetAuth::None => "none".to_owned(),
        };
        let base = preset.base.map_or("to be set".to_owned(), |base| format!("`{base}`"));
        let endpoints = describe::endpoints(EndpointSet::of(preset.endpoints));
        let _ = writeln!(
            out,
            "| `{}` | `{}_…` | {base} | {key} | {} | {} |",
            preset.name,
            preset.prefix,
            endpoints.join(", "),
            preset.charging.output.word()
        );
    }
    out.push('\n');
}

fn row(field: &Field, out: &mut String) {
    let default = field.default.map_or_else(String::new, |d| format!("`{d}`"));
    let cell = |text: &str| text.replace('|', "\\|");
    let _ = writeln!(
        out,
        "| `{}` | {} | {} | {} |",
        field.name,
        cell(&(field.kind)()),
        cell(&default),
        cell(&field.meaning())
    );
}
