//! Worlds that come with the kit.

use anyhow::{Context as _, bail};
use keymux_provider::WorldSpec;

/// Names and texts of the worlds that come with the kit.
pub const PRESETS: &[(&str, &str)] =
    &[("demo", include_str!("../specs/demo.toml")), ("e2e", include_str!("../specs/e2e.toml"))];

/// A world that comes with the kit.
pub fn preset(name: &str) -> anyhow::Result<WorldSpec> {
    let Some((_, text)) = PRESETS.iter().find(|(n, _)| *n == name) else {
        let names: Vec<&str> = PRESETS.iter().map(|(n, _)| *n).collect();
        bail!("no preset named '{name}'; there are: {}", names.join(", "));
    };
    spec_from_text(text).with_context(|| format!("preset {name}"))
}

/// Reads a spec as TOML, or as JSON if it begins with a brace.
pub fn spec_from_text(text: &str) -> anyhow::Result<WorldSpec> {
    if text.trim_start().starts_with('{') {
        return Ok(serde_json::from_str(text)?);
    }
    Ok(toml::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_provider::World;

    #[test]
    fn every_preset_is_a_world() {
        for (name, _) in PRESETS {
            World::new(preset(name).unwrap(), 1).unwrap();
        }
        assert!(preset("none").unwrap_err().to_string().contains("demo"));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        assert!(spec_from_text("[[provider]]\nname = \"a\"\ndialekt = \"openai\"").is_err());
    }
}
