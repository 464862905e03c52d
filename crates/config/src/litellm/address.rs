//! Where a deployment is: LiteLLM's `provider/model` and `api_base` become a preset or an address, and the name by which
//! the provider knows the model.

use super::deployment::Both;
use super::fields::{Env, REFERENCE};
use super::notes::Notes;
use super::vendors::{self, Reach, VENDORS, Vendor};
use crate::presets;
use crate::url::BaseUrl;

/// Which server it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The preset; without one it speaks `OpenAI`'s dialect.
    pub(super) preset: Option<&'static str>,
    /// Where it answers; `None`: where the preset says.
    pub(super) base: Option<BaseUrl>,
}

/// What was found out.
pub(super) struct Read {
    pub(super) address: Address,
    /// The upstream's name of the model.
    pub(super) model: String,
    /// Where LiteLLM looks for a key by itself.
    pub(super) variable: Option<&'static str>,
    /// Whether it is the provider's own address, where made-up keys are no use.
    pub(super) official: bool,
}

/// Why there is none, and what to do instead.
pub(super) type No = (String, String);

pub(super) fn no(why: impl Into<String>, instead: impl Into<String>) -> No {
    (why.into(), instead.into())
}

pub(super) fn read(both: &mut Both<'_, '_>, env: &Env<'_>, notes: &mut Notes) -> Result<Read, No> {
    let given = text(both, &["model"], env)?;
    let Some(given) = given.map(|g| g.trim().to_owned()).filter(|g| !g.is_empty()) else {
        return Err(no("says no litellm_params.model", "write provider/model, and import again"));
    };
    let base = text(both, &["api_base", "base_url"], env)?;
    let custom = text(both, &["custom_llm_provider"], env)?;
    let (vendor, model) = vendor(&given, custom.as_deref(), base.as_deref())?;
    let model = upstream(vendor, model, both, notes);
    if model.is_empty() || model.trim() != model || model.chars().any(char::is_control) {
        return Err(no("names no model behind its provider", "write provider/model, and import again"));
    }
    let address = match vendor.reach {
        Reach::No((why, instead)) => return Err(no(why, instead)),
        Reach::Preset(preset) => of_preset(vendor, preset, base.as_deref(), env)?,
        Reach::OpenAi(known) => {
            let base = match base {
                Some(base) => parsed(&base)?,
                None => match known {
                    Some(known) => parsed(known)?,
                    None => default_base(vendor, env)?,
                },
            };
            Address { preset: None, base: Some(base) }
        }
    };
    if address.preset == Some("azure") {
        tell_of_azure(both, &address, notes);
    }
    let official = match &address.base {
        None => true,
        Some(base) => {
            matches!(vendor.reach, Reach::OpenAi(Some(known)) if parsed(known).is_ok_and(|k| k == *base))
        }
    };
    Ok(Read { address, model, variable: vendor.variable, official })
}

/// The first of these settings that is there, with the environment looked up.
fn text(both: &mut Both<'_, '_>, names: &[&str], env: &Env<'_>) -> Result<Option<String>, No> {
    for name in names {
        let Some(found) = both.take(name) else { continue };
        let Some(text) = found.node.text() else {
            return Err(no(format!("has a {name} that is no text"), "write one value, and import again"));
        };
        return match env.resolve(text) {
            Ok(text) => Ok(Some(text)),
            Err(variable) => Err(no(
                format!("takes its {name} from the environment variable {variable}, which is not set here"),
                format!("import again with {variable} set: in keymux only keys can stay in the environment"),
            )),
        };
    }
    Ok(None)
}

/// Whose model it is, by the rules of LiteLLM: a provider that is named, one in front of a slash, one whose address it
/// is, one that has models of such names.
fn vendor(given: &str, custom: Option<&str>, base: Option<&str>) -> Result<(&'static Vendor, String), No> {
    const INSTEAD: &str =
        "if it speaks OpenAI's dialect, write openai/MODEL with its api_base, and import again";
    if let Some(custom) = custom {
        let Some(vendor) = vendors::named(custom) else {
            return Err(no(format!("is at a provider that is not known here, {custom}"), INSTEAD));
        };
        let model = given.strip_prefix(custom).and_then(|rest| rest.strip_prefix('/'));
        return Ok((vendor, model.unwrap_or(given).to_owned()));
    }
    let (prefix, rest) = given.split_once('/').unwrap_or(("", given));
    if let Some(vendor) = vendors::named(prefix) {
        return Ok((vendor, rest.to_owned()));
    }
    let base = base.and_then(|base| BaseUrl::parse(base).ok());
    let by_address =
        base.and_then(|base| VENDORS.iter().find(|v| own_base(v).is_some_and(|own| own == base)));
    if let Some(vendor) = by_address.or_else(|| vendors::of_bare(given)) {
        return Ok((vendor, given.to_owned()));
    }
    if given == "*" {
        return Err(no(
            "leaves the provider to the name that the client sends, and then takes any key of the environment",
            "name each provider with a wildcard of its own (openai/*); clients then ask for `provider:model`",
        ));
    }
    if prefix.is_empty() {
        return Err(no("names no provider", INSTEAD));
    }
    Err(no(format!("is at a provider that is not known here, {prefix}"), INSTEAD))
}

/// The prefix of the provider whose own address this is.
pub(super) fn prefix_of(base: &BaseUrl) -> Option<&'static str> {
    VENDORS.iter().find(|v| own_base(v).is_some_and(|own| own == *base)).map(|v| v.prefix)
}

/// A vendor's own address, as far as it is known.
fn own_base(vendor: &Vendor) -> Option<BaseUrl> {
    let known = match vendor.reach {
        Reach::Preset(name) => presets::find(name)?.base,
        Reach::OpenAi(base) => base,
        Reach::No(_) => None,
    };
    BaseUrl::parse(known?).ok()
}

/// LiteLLM's hints in a name are for itself; short names are filled up as it does.
fn upstream(vendor: &Vendor, model: String, both: &Both<'_, '_>, notes: &mut Notes) -> String {
    if matches!(vendor.prefix, "openai" | "azure") {
        for hint in ["responses/", "o_series/", "gpt5_series/", "chat/"] {
            if let Some(rest) = model.strip_prefix(hint) {
                let spot = both.params.spot.below("model", both.params.spot.line);
                let why = format!("tells LiteLLM to translate ({hint}…), and keymux does not");
                notes.setting(spot, &why, "clients call the endpoint that the model serves");
                return rest.to_owned();
            }
        }
    }
    if vendor.prefix == "fireworks_ai" && !model.starts_with("accounts/") && !model.contains(['#', '*']) {
        return format!("accounts/fireworks/models/{model}");
    }
    model
}

fn parsed(text: &str) -> Result<BaseUrl, No> {
    BaseUrl::parse(text.trim())
        .map_err(|e| no(format!("has an api_base that cannot be used: {e}"), "mend it, and import again"))
}

/// Where LiteLLM looks for an address if none is written.
fn default_base(vendor: &Vendor, env: &Env<'_>) -> Result<BaseUrl, No> {
    let variable = format!("{}_API_BASE", vendor.prefix.to_ascii_uppercase());
    match env.resolve(&format!("{REFERENCE}{variable}")) {
        Ok(base) => parsed(&base),
        Err(_) => Err(no(
            format!("says no api_base, and {variable}, where LiteLLM would look for it, is not set here"),
            format!("write api_base, or import again with {variable} set"),
        )),
    }
}

fn of_preset(vendor: &Vendor, name: &'static str, base: Option<&str>, env: &Env<'_>) -> Result<Address, No> {
    let own = presets::find(name).and_then(|p| p.base).and_then(|base| BaseUrl::parse(base).ok());
    let mut base = match (base, &own) {
        (Some(base), _) => parsed(base)?,
        (None, Some(_)) => return Ok(Address { preset: Some(name), base: None }),
        (None, None) => default_base(vendor, env)?,
    };
    match name {
        "ollama" if matches!(base.path.as_str(), "" | "/api") => "/v1".clone_into(&mut base.path),
        "anthropic" if !base.path.ends_with("/v1") => base.path.push_str("/v1"),
        "azure" => base.path = azure_path(&base),
        "openai" if is_openai(&base.host) && base.path.is_empty() => base.path.push_str("/v1"),
        "openai" if is_openai(&base.host) => {}
        // Any server may be written as openai/…; limits and prices of OpenAI's own are not its.
        "openai" => return Ok(Address { preset: None, base: Some(base) }),
        "gemini" if own.as_ref() != Some(&base) => {
            return Err(no(
                "calls Google's own API at another address, and keymux speaks Google's OpenAI-compatible one",
                "if the address serves that, add a provider with preset = \"gemini\" and its base_url",
            ));
        }
        _ => {}
    }
    let named = BaseUrl {
        host: if base.host == "localhost" { "127.0.0.1".to_owned() } else { base.host.clone() },
        ..base.clone()
    };
    let base = Some(base).filter(|_| own.as_ref() != Some(&named));
    Ok(Address { preset: Some(name), base })
}

fn is_openai(host: &str) -> bool {
    host == "api.openai.com" || host.ends_with(".api.openai.com")
}

/// The path of the API that names the model in the body; LiteLLM's own is by deployment and version.
fn azure_path(base: &BaseUrl) -> String {
    let mut path = String::new();
    for part in base.path.split('/').filter(|part| !part.is_empty()).take_while(|part| *part != "openai") {
        path.push('/');
        path.push_str(part);
    }
    path + "/openai/v1"
}

fn tell_of_azure(both: &mut Both<'_, '_>, address: &Address, notes: &mut Notes) {
    const OWN: &[&str] = &[".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"];
    let host = address.base.as_ref().map_or("", |base| base.host.as_str());
    if !OWN.iter().any(|end| host.ends_with(end)) {
        let spot = both.params.spot.below("api_base", both.params.spot.line);
        let why =
            "is no address of Azure's own: LiteLLM calls /openai/deployments/… there, keymux /openai/v1";
        notes.setting(spot, why, "see that the gateway in front of Azure lets /openai/v1 through");
    }
}
