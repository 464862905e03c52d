//! The `[traces]` section, over what OpenTelemetry's variables say.

use super::provider::{Defaults, inherited_proxy, is_header_name};
use super::secrets;
use crate::problem::{At, Findings, Place};
use crate::secret::Secret;
use crate::text::traces::{self, SecretPairs};
use crate::traces::{Collector, SpanNames, Traces};
use crate::url::{BadUrl, BaseUrl, percent_decoded};
use crate::world::World;

const PATH: &str = "/v1/traces";
/// Headers that every request to a collector has.
const RESERVED: [&str; 6] =
    ["host", "content-type", "content-length", "connection", "transfer-encoding", "user-agent"];

pub(super) fn resolve(
    typed: Option<At<traces::Traces>>,
    defaults: &Defaults<'_>,
    world: &World<'_>,
    found: &mut Findings,
) -> Traces {
    let typed = typed.unwrap_or_default().value;
    let url = match typed.endpoint {
        Some(written) => from_file(&written, found),
        None => from_env(world, found),
    };
    let collector = url.map(|url| Collector {
        headers: match typed.headers {
            Some(written) => headers(written.value, world, found),
            None => env_headers(world, found),
        },
        proxy: inherited_proxy(&url, defaults),
        url,
    });
    // What says how to trace says nothing where nobody does.
    let var = |name| collector.as_ref().and_then(|_| world.var(name));
    let sample = match typed.sample {
        Some(ratio) => ratio.0,
        None => var("OTEL_TRACES_SAMPLER").map_or(1.0, |sampler| env_sample(&sampler, world, found)),
    };
    let opted_in = var("OTEL_SEMCONV_STABILITY_OPT_IN")
        .is_some_and(|words| words.split(',').any(|word| word.trim() == "gen_ai_latest_experimental"));
    let names = if opted_in { SpanNames::Latest } else { SpanNames::Known };
    let resource = var("OTEL_RESOURCE_ATTRIBUTES")
        .map(|list| pairs("OTEL_RESOURCE_ATTRIBUTES", &list, found))
        .unwrap_or_default();
    let own = |name: &str| resource.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let service = typed.service.map(|name| name.value).or_else(|| var("OTEL_SERVICE_NAME"));
    let service = service.or_else(|| own("service.name")).unwrap_or_else(|| "keymux".to_owned());
    let resource = resource.into_iter().filter(|(name, _)| name != "service.name").collect();
    Traces { collector, sample, names: typed.names.map_or(names, |n| n.value), service, resource }
}

fn from_file(written: &At<String>, found: &mut Findings) -> Option<BaseUrl> {
    if written.value == "none" {
        return None;
    }
    match BaseUrl::parse(written) {
        Ok(url) if url.path.is_empty() => Some(BaseUrl { path: PATH.to_owned(), ..url }),
        Ok(url) => Some(url),
        Err(error) => {
            let hint = match error {
                BadUrl::Credentials => "put them into `headers`: { authorization = \"env:NAME\" }",
                _ => "write \"http://host:4318\", or \"none\"",
            };
            found.error(written.place, format!("spans cannot be sent there: {error}"), hint);
            None
        }
    }
}

/// Where the environment says that spans go.
fn from_env(world: &World<'_>, found: &mut Findings) -> Option<BaseUrl> {
    let is = |name, value: &str| world.var(name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let (name, behind) = match world.var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
        Some(_) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""),
        None => ("OTEL_EXPORTER_OTLP_ENDPOINT", PATH),
    };
    let text = world.var(name)?;
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = protocols.iter().find_map(|name| Some((name, world.var(name)?)));
    if let Some((name, _)) = protocol.filter(|(_, protocol)| protocol.trim() == "grpc") {
        let message = format!("no spans are sent: {name} is grpc, and keymux speaks OTLP over HTTP");
        let hint = "set it to http/protobuf, with the collector's HTTP port (mostly 4318) in the endpoint; or \
                    set traces.endpoint";
        found.warning(Place::NONE, message, hint);
        return None;
    }
    match BaseUrl::parse(text.trim()) {
        Ok(url) => Some(BaseUrl { path: format!("{}{behind}", url.path), ..url }),
        // It was meant for many programs: none of them has to fail for it.
        Err(error) => {
            let message = format!("no spans are sent: {name} is no address: {error}");
            found.warning(Place::NONE, message, "write it as http://host:4318, or set traces.endpoint");
            None
        }
    }
}

fn env_sample(sampler: &str, world: &World<'_>, found: &mut Findings) -> f64 {
    let sampler = sampler.trim();
    let by_parent = sampler.strip_prefix("parentbased_");
    let warned = |message: String, found: &mut Findings| {
        let hint = "use parentbased_always_on, parentbased_always_off or parentbased_traceidratio, or set \
                    traces.sample";
        found.warning(Place::NONE, message, hint);
    };
    if by_parent.is_none() && ["always_on", "always_off", "traceidratio"].contains(&sampler) {
        let message =
            format!("OTEL_TRACES_SAMPLER is {sampler}: a caller's own decision counts all the same");
        warned(message, found);
    }
    match by_parent.unwrap_or(sampler) {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let Some(argument) = world.var("OTEL_TRACES_SAMPLER_ARG") else { return 1.0 };
            let ratio = argument.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.unwrap_or_else(|| {
                warned(
                    "OTEL_TRACES_SAMPLER_ARG is no share from 0 to 1: everything is traced".to_owned(),
                    found,
                );
                1.0
            })
        }
        _ => {
            warned("OTEL_TRACES_SAMPLER is not known here: everything is traced".to_owned(), found);
            1.0
        }
    }
}

fn headers(written: SecretPairs, world: &World<'_>, found: &mut Findings) -> Vec<(String, Secret)> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in written.0 {
        let lower = name.to_ascii_lowercase();
        if !is_header_name(&name) {
            let message = format!("\"{}\" is not the name of a header", name.value.escape_debug());
            found.error(name.place, message, "use letters, digits and -");
        } else if RESERVED.contains(&lower.as_str()) {
            let message = format!("the header {} is set by keymux itself", name.value);
            found.error(name.place, message, "leave it out");
        } else if headers.iter().any(|(known, _)| *known == lower) {
            found.error(name.place, format!("the header {} is set twice", name.value), "keep one of them");
        }
        if let Some(value) = secrets::fetch_header(&value, world, found) {
            headers.push((lower, value));
        }
    }
    headers
}

fn env_headers(world: &World<'_>, found: &mut Findings) -> Vec<(String, Secret)> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    let Some((from, list)) = names.iter().find_map(|name| Some((name, world.var(name)?))) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, value) in pairs(from, &list, found) {
        let name = name.to_ascii_lowercase();
        match Secret::of_header(value) {
            Ok(value) if is_header_name(&name) && !RESERVED.contains(&name.as_str()) => {
                headers.push((name, value));
            }
            _ => unreadable(from, found),
        }
    }
    headers
}

/// A list such as `name=value,name=value`, with values that are percent-encoded where they must be.
fn pairs(from: &str, list: &str, found: &mut Findings) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let pair = pair.split_once('=').filter(|(name, _)| !name.trim().is_empty());
        let decoded = pair.and_then(|(name, value)| {
            Some((name.trim().to_owned(), String::from_utf8(percent_decoded(value.trim())?.to_vec()).ok()?))
        });
        match decoded {
            Some(pair) => pairs.push(pair),
            None => unreadable(from, found),
        }
    }
    pairs
}

/// Names the variable alone: what stands in it may be a credential.
fn unreadable(from: &str, found: &mut Findings) {
    let message = format!("a part of {from} cannot be used and is left out");
    found.warning(Place::NONE, message, "write it as name=value,name=value");
}
