//! Which keys are meant, and which are probed. What fits nothing is an error that names what there is.

use crate::checks::Probe;
use keymux_config::Config;

/// Names that an error lists.
const SHOWN_MAX: usize = 12;

/// The keys that are meant, in the order of the configuration.
pub(super) fn keys(
    names: &[String],
    providers: &[String],
    config: &Config,
) -> Result<Vec<(usize, usize)>, String> {
    let known = |name: &String| config.providers.iter().any(|p| *p.name == **name);
    if let Some(strange) = providers.iter().find(|name| !known(name)) {
        return Err(format!("--provider {strange}: there is no such provider; there is {}", listed(config)));
    }
    let meant = |provider: &str| providers.is_empty() || providers.iter().any(|name| name == provider);
    let mut all = Vec::new();
    let mut paths = Vec::new();
    for (p, provider) in config.providers.iter().enumerate().filter(|(_, p)| meant(&p.name)) {
        for (k, key) in provider.keys.iter().enumerate() {
            all.push((p, k));
            paths.push((format!("{}/{}", provider.name, key.name), key.name.clone()));
        }
    }
    let fits = |name: &str, at: usize| paths[at].0 == name || *paths[at].1 == *name;
    if let Some(strange) = names.iter().find(|name| !(0..all.len()).any(|at| fits(name, at))) {
        let some: Vec<&str> = paths.iter().take(SHOWN_MAX).map(|(path, _)| path.as_str()).collect();
        let more = if paths.len() > SHOWN_MAX { ", …" } else { "" };
        return Err(format!("there is no key {strange}; there is {}{more}", some.join(", ")));
    }
    let wanted = |at: &usize| names.is_empty() || names.iter().any(|name| fits(name, *at));
    Ok((0..all.len()).filter(wanted).map(|at| all[at]).collect())
}

fn listed(config: &Config) -> String {
    config.providers.iter().map(|p| &*p.name).collect::<Vec<_>>().join(", ")
}

/// The paid calls that are wished for, one a provider. A model without a provider is meant for the only one there is,
/// among those that were asked for.
pub(super) fn probes(models: &[String], config: &Config, providers: &[String]) -> Result<Vec<Probe>, String> {
    let mut probes: Vec<Probe> = Vec::new();
    for text in models {
        let named = text
            .split_once(':')
            .and_then(|(name, model)| Some((config.providers.iter().position(|p| *p.name == *name)?, model)));
        let among = |name: &str| providers.is_empty() || providers.iter().any(|p| p == name);
        let mut only = config.providers.iter().enumerate().filter(|(_, p)| among(&p.name));
        let (provider, model) = match (named, only.next(), only.next()) {
            (Some(named), _, _) => named,
            (None, Some((index, _)), None) => (index, text.as_str()),
            _ => {
                return Err(format!(
                    "--probe {text}: say whose model that is, as PROVIDER:{text}; there is {}",
                    listed(config)
                ));
            }
        };
        if model.is_empty() || probes.iter().any(|p| p.provider == provider) {
            return Err(format!("--probe {text}: give one model for each provider"));
        }
        probes.push(Probe { provider, model: model.into() });
    }
    Ok(probes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_config::{World, from_toml};

    fn config() -> Config {
        let text = r#"
[[provider]]
name = "openai"
keys = [{ name = "a", secret = "literal:sk-test-a" }, { name = "b", secret = "literal:sk-test-b" }]
[[provider]]
name = "openrouter"
keys = [{ name = "a", secret = "literal:sk-test-c" }]
"#;
        let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        let world = World { env: &|_| None, env_names: &[], read: &read, run: &|_| Err(String::new()) };
        from_toml("test", text, &world).unwrap()
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn keys_are_named_alone_with_their_provider_or_not_at_all() {
        let config = config();
        let chosen = |names: &[&str], providers: &[&str]| keys(&texts(names), &texts(providers), &config);
        assert_eq!(chosen(&[], &[]).unwrap(), [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(chosen(&["a"], &[]).unwrap(), [(0, 0), (1, 0)]);
        assert_eq!(chosen(&["openai/a", "b"], &[]).unwrap(), [(0, 0), (0, 1)]);
        assert_eq!(chosen(&[], &["openrouter"]).unwrap(), [(1, 0)]);
        assert!(chosen(&["b"], &["openrouter"]).unwrap_err().contains("there is openrouter/a"));
        assert!(chosen(&[], &["opnai"]).unwrap_err().contains("there is openai, openrouter"));
    }

    #[test]
    fn a_probe_belongs_to_one_provider() {
        let config = config();
        let probed = |models: &[&str], providers: &[&str]| probes(&texts(models), &config, &texts(providers));
        let one = |provider, model: &str| vec![Probe { provider, model: model.into() }];
        assert_eq!(probed(&["openai:m"], &[]).unwrap(), one(0, "m"));
        assert_eq!(probed(&["vendor/m:free"], &["openrouter"]).unwrap(), one(1, "vendor/m:free"));
        assert!(probed(&["m"], &[]).unwrap_err().contains("PROVIDER:m"));
        assert!(probed(&["openai:"], &[]).is_err());
        assert!(probed(&["openai:m", "openai:n"], &[]).unwrap_err().contains("one model for each"));
    }
}
