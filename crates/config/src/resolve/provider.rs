//! A `[[provider]]`: its preset with what the file says laid over it.

use super::{check_name, keys, limits, patch, server};
use crate::config::{Auth, Dialect, ModelsFetch, Provider, Server, Timeouts};
use crate::presets::{self, Preset, PresetAuth};
use crate::problem::{At, Findings, Place, did_you_mean};
use crate::text::file;
use crate::text::leaf::Pairs;
use crate::text::read::{Section as _, Words as _};
use crate::url::{BadUrl, BaseUrl, ProxyUrl, bypasses_proxy, is_loopback};
use crate::world::World;
use keymux_policy::fleet::{Charging, EndpointSet};
use std::sync::Arc;

/// What holds for every provider that does not say otherwise.
pub(super) struct Defaults<'a> {
    pub(super) server: &'a Server,
    pub(super) http_proxy: &'a Option<ProxyUrl>,
    pub(super) timeouts: Timeouts,
}

/// Resolves the provider at this index of the file.
pub(super) fn resolve(
    At { value: typed, place }: At<file::Provider>,
    index: usize,
    defaults: &Defaults<'_>,
    world: &World<'_>,
    found: &mut Findings,
) -> Provider {
    let name = name(&typed, place, index, found);
    let told_of_keys = typed.unread().contains(&"keys");
    let (preset, known) = preset(&typed, &name, place, found);
    let dialect = preset.dialect;
    let base = base(&typed, &preset, dialect, &name, place, found);
    let auth = auth(&typed, &preset, found);
    let provider_limits = limits::over(&preset.limit_specs(), limits::resolve(typed.limits, found));
    let keyless = preset.keyless || auth == Auth::None;
    let owners = keys::Owners { provider: &name, place, keyless, told_of_keys, limits: &provider_limits };
    let (accounts, keys) = keys::resolve(typed.keys, typed.account, &owners, world, found);
    let endpoints = endpoints(typed.endpoints, &preset, found);
    let proxy = match &typed.proxy {
        Some(proxy) => server::proxy(proxy, found),
        None => inherited_proxy(&base, defaults),
    };
    Provider {
        name,
        dialect,
        limit_headers: typed.limit_headers.map_or(preset.headers, |h| h.value),
        headers: headers(typed.headers, found),
        auth,
        endpoints,
        charging: charging(typed.charging, preset.charging),
        accounts,
        keys,
        timeouts: patch(typed.timeouts.as_ref()).over(&defaults.timeouts),
        proxy,
        models: if typed.list_models.is_none_or(|b| b.value) { ModelsFetch::List } else { ModelsFetch::Off },
        trace_context: typed.trace_context.is_some_and(|b| b.value),
        preset: known,
        base,
    }
}

fn name(typed: &file::Provider, place: Place, index: usize, found: &mut Findings) -> Arc<str> {
    if let Some(name) = &typed.name {
        check_name("a provider", name, name.place, found);
        return name.value.as_str().into();
    }
    if let Some(preset) = &typed.preset {
        return preset.value.as_str().into();
    }
    let hint = format!(
        "add name = \"…\": a preset ({}), or any name with `dialect` and `base_url`",
        presets::names().join(", ")
    );
    found.missing(typed.unread().contains(&"name"), place, "this provider has no name", hint);
    format!("provider-{}", index + 1).into()
}

/// What to start from, and the preset's name if it is one.
fn preset(
    typed: &file::Provider,
    name: &str,
    place: Place,
    found: &mut Findings,
) -> (Preset, Option<&'static str>) {
    let wanted = typed.preset.as_ref().map_or(name, |p| p.value.as_str());
    let known = presets::find(wanted);
    if let (Some(named), None) = (&typed.preset, known) {
        let message = format!("there is no preset \"{}\"", named.value.escape_debug());
        found.error(named.place, message, did_you_mean(named, &presets::names(), "there are"));
    }
    match (known, typed.dialect.as_ref().map(|d| d.value)) {
        (Some(preset), None) => (*preset, Some(preset.name)),
        (Some(preset), Some(dialect)) if preset.dialect == dialect => (*preset, Some(preset.name)),
        // Another dialect of the same vendor (DeepSeek speaks Anthropic's, too), which has its own address.
        (Some(preset), Some(dialect)) => {
            (Preset { keyless: preset.keyless, ..presets::of_dialect(dialect) }, Some(preset.name))
        }
        (None, Some(dialect)) => (presets::of_dialect(dialect), None),
        (None, None) => {
            if typed.name.is_some() && typed.preset.is_none() {
                let hint = match crate::problem::nearest(wanted, presets::names()) {
                    Some(near) => format!(
                        "did you mean \"{near}\"? Else add dialect = \"openai\" and base_url = \"https://…/v1\""
                    ),
                    None => format!(
                        "add dialect = \"openai\" and base_url = \"https://…/v1\"; presets are {}",
                        presets::names().join(", ")
                    ),
                };
                let place = typed.name.as_ref().map_or(place, |n| n.place);
                found.missing(
                    typed.unread().contains(&"dialect") || typed.unread().contains(&"preset"),
                    place,
                    format!(
                        "\"{}\" is no preset, and the provider does not say its dialect",
                        wanted.escape_debug()
                    ),
                    hint,
                );
            }
            (presets::of_dialect(Dialect::OpenAi), None)
        }
    }
}

fn base(
    typed: &file::Provider,
    preset: &Preset,
    dialect: Dialect,
    name: &str,
    place: Place,
    found: &mut Findings,
) -> BaseUrl {
    let nowhere = BaseUrl { https: true, host: String::new(), port: 443, path: String::new() };
    let Some(written) = &typed.base_url else {
        if let Some(base) = preset.base {
            return BaseUrl::parse(base).unwrap_or(nowhere);
        }
        let place = typed.name.as_ref().map_or(place, |n| n.place);
        let hint = match preset.name {
            "azure" => "add base_url = \"https://RESOURCE.openai.azure.com/openai/v1\"",
            "vllm" => "add base_url = \"http://127.0.0.1:8000/v1\"",
            _ => "add base_url = \"https://…/v1\"",
        };
        // Where the preset is unknown, that has been told.
        let told =
            typed.unread().contains(&"base_url") || (typed.dialect.is_none() && preset.name.is_empty());
        found.missing(told, place, format!("the provider \"{name}\" does not say where it answers"), hint);
        return nowhere;
    };
    match BaseUrl::parse(written) {
        Ok(base) => base_of_dialect(base, dialect, preset, written.place, found),
        Err(e) => {
            let hint = match e {
                BadUrl::Credentials => "put the key into `keys`",
                BadUrl::Query => "leave out everything from the ? or # on",
                _ => "write it like \"https://api.example.com/v1\"",
            };
            found.error(written.place, format!("this base_url cannot be used: {e}"), hint);
            nowhere
        }
    }
}

/// Anthropic's clients are given addresses without `/v1`, which they add themselves; here both forms mean the same.
fn base_of_dialect(
    mut base: BaseUrl,
    dialect: Dialect,
    preset: &Preset,
    at: Place,
    found: &mut Findings,
) -> BaseUrl {
    if dialect == Dialect::Anthropic && !base.path.ends_with("/v1") {
        base.path.push_str("/v1");
    } else if preset.name == "azure" && base.path.is_empty() {
        base.path.push_str("/openai/v1");
    } else if base.path.is_empty() {
        let message = format!(
            "requests will go to {base}/chat/completions; most servers expect a path such as /v1 in front"
        );
        found.warning(at, message, format!("if so, write \"{base}/v1\""));
    }
    base
}

fn auth(typed: &file::Provider, preset: &Preset, found: &mut Findings) -> Auth {
    let Some(written) = &typed.auth else {
        return match preset.auth {
            PresetAuth::Bearer => Auth::Bearer,
            PresetAuth::Header(name) => Auth::Header(name.to_owned()),
            // A key that is given after all (say for a server behind a gate) goes where keys usually go.
            PresetAuth::None if typed.keys.as_ref().is_some_and(|k| k.iter().any(|k| k.secret.is_some())) => {
                Auth::Bearer
            }
            PresetAuth::None => Auth::None,
        };
    };
    let header = written.strip_prefix("header:");
    match (written.value.as_str(), header) {
        ("bearer", _) => Auth::Bearer,
        ("none", _) => Auth::None,
        (_, Some(name)) if is_header_name(name) => Auth::Header(name.to_ascii_lowercase()),
        (_, Some(_)) => {
            found.error(written.place, "this is not the name of a header", "write \"header:x-api-key\"");
            Auth::Bearer
        }
        (other, None) => {
            let message = format!("unknown way to send a key: \"{}\"", other.escape_debug());
            found.error(written.place, message, "choose \"bearer\", \"none\" or \"header:NAME\"");
            Auth::Bearer
        }
    }
}

fn endpoints(
    typed: Option<At<Vec<At<keymux_policy::fleet::Endpoint>>>>,
    preset: &Preset,
    found: &mut Findings,
) -> EndpointSet {
    let Some(typed) = typed else { return EndpointSet::of(preset.endpoints) };
    if typed.value.is_empty() {
        let words: Vec<&str> = keymux_policy::fleet::Endpoint::WORDS.iter().map(|(word, _)| *word).collect();
        let hint = format!("leave it out, or choose from {}", words.join(", "));
        found.error(typed.place, "a provider without endpoints serves nothing", hint);
    }
    let list: Vec<_> = typed.value.iter().map(|e| e.value).collect();
    EndpointSet::of(&list)
}

fn charging(typed: Option<At<file::Charging>>, base: Charging) -> Charging {
    let typed = typed.unwrap_or_default().value;
    Charging {
        output: typed.output.map_or(base.output, |o| o.value),
        cached_input_free: typed.cached_input_free.map_or(base.cached_input_free, |b| b.value),
        refused_count: typed.refused_count.map_or(base.refused_count, |b| b.value),
        runs_on_after_cancel: typed.runs_on_after_cancel.map_or(base.runs_on_after_cancel, |b| b.value),
    }
}

/// The proxy that holds for this address unless something nearer says otherwise.
pub(super) fn inherited_proxy(base: &BaseUrl, defaults: &Defaults<'_>) -> Option<ProxyUrl> {
    if is_loopback(&base.host) || bypasses_proxy(base, &defaults.server.no_proxy) {
        return None;
    }
    if base.https { defaults.server.proxy.clone() } else { defaults.http_proxy.clone() }
}

/// Headers that are the connection's or the credential's, not the user's to set.
const RESERVED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "accept-encoding",
];
const CREDENTIALS: &[&str] = &["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

fn headers(typed: Option<At<Pairs>>, found: &mut Findings) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in typed.unwrap_or_default().value.0 {
        let lower = name.to_ascii_lowercase();
        if !is_header_name(&name) {
            let message = format!("\"{}\" is not the name of a header", name.value.escape_debug());
            found.error(name.place, message, "use letters, digits and -");
        } else if RESERVED.contains(&lower.as_str()) {
            found.error(
                name.place,
                format!("the header {} is set by keymux itself", name.value),
                "leave it out",
            );
        } else if CREDENTIALS.contains(&lower.as_str()) {
            let hint =
                "put the key into `keys`, and say auth = \"header:NAME\" if it goes into an unusual header";
            found.error(name.place, format!("the header {} carries credentials", name.value), hint);
        } else if headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(&name)) {
            found.error(name.place, format!("the header {} is set twice", name.value), "keep one of them");
        }
        if !is_header_value(&value) {
            let hint = "use ASCII without line breaks, and no blanks around it";
            found.error(
                value.place,
                format!("the value of the header {} cannot be sent", name.value.escape_debug()),
                hint,
            );
        }
        headers.push((name.value, value.value));
    }
    headers
}

/// Whether a header of this name and value may be set for a provider.
pub(crate) fn may_be_header(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    is_header_name(name)
        && !RESERVED.contains(&lower.as_str())
        && !CREDENTIALS.contains(&lower.as_str())
        && is_header_value(value)
}

/// What can be sent unharmed as the value of a header.
fn is_header_value(value: &str) -> bool {
    value.bytes().all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic()) && value.trim() == value
}

/// A token of RFC 9110.
pub(super) fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
