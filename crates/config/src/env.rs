//! A configuration from the environment alone: one provider for each preset whose variables are set.

use crate::config::Config;
use crate::presets::{self, Preset};
use crate::problem::{At, Findings, Place, Problems};
use crate::resolve;
use crate::text::file::{File, Key, Provider, Server};
use crate::text::leaf::{Address, MaybeAddress, SecretText, parse_address};
use crate::text::ledger::{DatabaseText, Ledger};
use crate::world::World;
use std::collections::HashMap;

/// Reads the environment: for each preset `<PREFIX>_API_KEY`, `<PREFIX>_API_KEYS` (separated by commas),
/// `<PREFIX>_KEY_1` and so on (gaps are fine; `<PREFIX>_API_KEY_1` is the same), `<PREFIX>_BASE_URL`; and
/// `KEYMUX_LISTEN`, `KEYMUX_ADMIN`, `KEYMUX_TOKEN`, `KEYMUX_ADMIN_TOKEN`, `KEYMUX_DATA_DIR`,
/// `KEYMUX_DATABASE_URL`, `KEYMUX_DEFAULT_PROVIDER`.
pub fn from_env(world: &World<'_>) -> Result<Config, Problems> {
    let mut found = Findings::default();
    let providers: Vec<At<Provider>> = presets::PRESETS
        .iter()
        .filter_map(|preset| provider(preset, world, &mut found))
        .map(At::nowhere)
        .collect();
    let providers = with_addresses(providers, world, &mut found);
    if providers.is_empty() && !found.has_errors() {
        found.error(Place::NONE, "there is no provider key in the environment", no_key_hint());
    }
    let file = File {
        default_provider: world.var("KEYMUX_DEFAULT_PROVIDER").map(At::nowhere),
        server: Some(At::nowhere(server(world, &mut found))),
        ledger: world.var(DATABASE_URL).map(|_| At::nowhere(ledger())),
        provider: Some(At::nowhere(providers)),
        ..File::default()
    };
    let config = if found.has_errors() { None } else { resolve::resolve(file, world, &mut found) };
    let problems = found.located("");
    match config {
        Some(config) => Ok(Config { warnings: problems.list, ..config }),
        None => Err(problems),
    }
}

const DATABASE_URL: &str = "KEYMUX_DATABASE_URL";

fn ledger() -> Ledger {
    let url = SecretText::Env { name: DATABASE_URL.to_owned(), item: None };
    Ledger { database: Some(At::nowhere(DatabaseText::From(url))), ..Ledger::default() }
}

fn no_key_hint() -> String {
    let prefixes: Vec<&str> = presets::PRESETS.iter().filter(|p| !p.keyless).map(|p| p.prefix).collect();
    format!(
        "set OPENROUTER_API_KEY, OPENROUTER_API_KEYS (separated by commas) or OPENROUTER_KEY_1, OPENROUTER_KEY_2, … \
         (likewise for {}), name a file by --config, or try `keymux demo`, which needs no key",
        prefixes.iter().skip(1).copied().collect::<Vec<_>>().join(", ")
    )
}

fn server(world: &World<'_>, found: &mut Findings) -> Server {
    let mut server = Server::default();
    if let Some(text) = world.var("KEYMUX_LISTEN") {
        server.listen = address(&text, "KEYMUX_LISTEN", found).map(|a| At::nowhere(Address(a)));
    }
    if let Some(text) = world.var("KEYMUX_ADMIN") {
        let admin = if text == "none" { Some(None) } else { address(&text, "KEYMUX_ADMIN", found).map(Some) };
        server.admin = admin.map(|a| At::nowhere(MaybeAddress(a)));
    }
    let secret = |name: &str| {
        world.var(name).map(|_| At::nowhere(SecretText::Env { name: name.to_owned(), item: None }))
    };
    server.token = secret("KEYMUX_TOKEN");
    server.admin_token = secret("KEYMUX_ADMIN_TOKEN");
    server
}

fn address(text: &str, name: &str, found: &mut Findings) -> Option<std::net::SocketAddr> {
    let mut why = Findings::default();
    let address = parse_address(text.trim(), Place::NONE, &mut why);
    if let Some(problem) = why.located("").list.into_iter().next() {
        found.error(Place::NONE, format!("{name}: {}", problem.message), problem.hint.unwrap_or_default());
    }
    address
}

/// The provider of a preset, if its variables ask for it.
fn provider(preset: &Preset, world: &World<'_>, found: &mut Findings) -> Option<Provider> {
    let keys = keys(preset, world, found);
    let base_url = base_url(preset, world);
    let wanted = !keys.is_empty() || (preset.keyless && base_url.is_some());
    wanted.then(|| Provider {
        name: Some(At::nowhere(preset.name.to_owned())),
        keys: Some(At::nowhere(keys)),
        base_url: base_url.map(At::nowhere),
        ..Provider::default()
    })
}

fn base_url(preset: &Preset, world: &World<'_>) -> Option<String> {
    let azure = || {
        let endpoint =
            world.var(&format!("{}_ENDPOINT", preset.prefix)).filter(|_| preset.name == "azure")?;
        Some(format!("{}/openai/v1", endpoint.trim().trim_end_matches('/').trim_end_matches("/openai/v1")))
    };
    world.var(&format!("{}_BASE_URL", preset.prefix)).map(|url| url.trim().to_owned()).or_else(azure)
}

/// Providers that can be reached. A key of one that needs an address, left over from another program, is no reason to refuse the
/// others; alone, it is.
fn with_addresses(
    providers: Vec<At<Provider>>,
    world: &World<'_>,
    found: &mut Findings,
) -> Vec<At<Provider>> {
    let reachable = |p: &At<Provider>| {
        let preset = p.name.as_ref().and_then(|name| presets::find(name));
        p.base_url.is_some() || preset.is_none_or(|preset| preset.base.is_some())
    };
    let (good, bad): (Vec<_>, Vec<_>) = providers.into_iter().partition(reachable);
    for provider in bad {
        let Some(preset) = provider.name.as_ref().and_then(|name| presets::find(name)) else { continue };
        let prefix = preset.prefix;
        let mut names: Vec<&String> = world.env_names.iter().filter(|n| n.starts_with(prefix)).collect();
        names.sort();
        let name = names.first().map_or(prefix, |n| n.as_str());
        let address = if preset.name == "azure" {
            format!("{prefix}_ENDPOINT=https://RESOURCE.openai.azure.com")
        } else {
            format!("{prefix}_BASE_URL=http://127.0.0.1:8000/v1")
        };
        let hint = format!("set {address}, or unset {name}");
        if good.is_empty() {
            found.error(Place::NONE, format!("{name} is set, but not where {} answers", preset.name), hint);
        } else {
            let message = format!("{name} is set, but not where {} answers: it is left out", preset.name);
            found.warning(Place::NONE, message, hint);
        }
    }
    good
}

/// One place in the environment where a secret may stand.
struct Slot {
    key: String,
    variable: String,
    item: Option<usize>,
}

fn keys(preset: &Preset, world: &World<'_>, found: &mut Findings) -> Vec<At<Key>> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut keys = Vec::new();
    for slot in slots(preset.prefix, world) {
        let value = zeroize::Zeroizing::new((world.env)(&slot.variable).unwrap_or_default());
        let part = match slot.item {
            Some(i) => value.split(',').nth(i).unwrap_or(""),
            None => &value,
        };
        let shown = match slot.item {
            Some(i) => format!("item {} of {}", i + 1, slot.variable),
            None => slot.variable.clone(),
        };
        if part.trim().is_empty() {
            found.warning(Place::NONE, format!("{shown} is empty: it is left out"), "set it, or unset it");
            continue;
        }
        if let Some(first) = seen.get(part.trim()) {
            let message = format!("{first} and {shown} hold the same key: it is used once");
            found.warning(Place::NONE, message, "one key is one quota: unset one of them");
            continue;
        }
        seen.insert(part.trim().to_owned(), shown);
        keys.push(At::nowhere(Key {
            name: Some(At::nowhere(slot.key)),
            secret: Some(At::nowhere(SecretText::Env { name: slot.variable, item: slot.item })),
            ..Key::default()
        }));
    }
    keys
}

/// Where secrets of this prefix stand: the plain variable, the list, then the numbered ones in order.
fn slots(prefix: &str, world: &World<'_>) -> Vec<Slot> {
    let mut slots = Vec::new();
    let plain = format!("{prefix}_API_KEY");
    if (world.env)(&plain).is_some() {
        slots.push(Slot { key: "main".to_owned(), variable: plain.clone(), item: None });
    }
    let list = format!("{prefix}_API_KEYS");
    if let Some(value) = (world.env)(&list).map(zeroize::Zeroizing::new) {
        // A comma at the end is no empty key.
        let items = value.trim().trim_end_matches(',').split(',').count();
        for i in 0..items {
            slots.push(Slot { key: format!("list-{}", i + 1), variable: list.clone(), item: Some(i) });
        }
    }
    let mut numbered: Vec<(u64, Slot)> = Vec::new();
    for (stem, key) in [(format!("{prefix}_KEY_"), "key"), (format!("{prefix}_API_KEY_"), "api-key")] {
        for name in world.env_names {
            let Some(digits) = name.strip_prefix(&stem) else { continue };
            let Some(number) = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
            else {
                continue;
            };
            // The digits as written: _1 and _01 are two keys.
            numbered
                .push((number, Slot { key: format!("{key}-{digits}"), variable: name.clone(), item: None }));
        }
    }
    numbered.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.variable.cmp(&y.variable)));
    slots.extend(numbered.into_iter().map(|(_, slot)| slot));
    slots
}
