//! From the model name in a request to where it leads, in constant time. Names may hold `/ : @ ~`, so nothing is
//! split but in front of a first colon, and there only if a provider has that very name.

use crate::config::{Config, Provider, Route};
use crate::presets;
use crate::prices::Price;
use crate::problem::nearest;
use crate::url::BaseUrl;
use std::collections::HashMap;
use std::sync::Arc;

/// Where a model name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Index of a route.
    Route(usize),
    /// A provider's model without a route.
    Adhoc {
        /// Index of the provider.
        provider: usize,
        /// The upstream's name.
        model: String,
    },
    /// Nowhere.
    Unknown {
        /// Names that may have been meant, likeliest first.
        suggestions: Vec<String>,
    },
}

/// Names and what they stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    routes: HashMap<Arc<str>, usize>,
    providers: HashMap<Arc<str>, usize>,
}

impl Names {
    pub(crate) fn new(providers: &[Provider], routes: &[Route]) -> Self {
        Self {
            routes: routes.iter().enumerate().map(|(i, r)| (r.model.clone(), i)).collect(),
            providers: providers.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect(),
        }
    }
}

impl Config {
    /// Where a model name leads. First a route of exactly this name (a route `sonnet` with an `OpenRouter` target also
    /// answers to `sonnet:nitro`, `sonnet:floor` and `sonnet:free`: the suffix goes on to `OpenRouter`); then
    /// `provider:model`; then the default provider, which gets the name unchanged; else nowhere.
    pub fn resolve(&self, model: &str) -> Resolution {
        if let Some(&route) = self.names.routes.get(model) {
            return Resolution::Route(route);
        }
        if let Some((provider, rest)) = model.split_once(':')
            && let Some(&provider) = self.names.providers.get(provider)
        {
            if rest.is_empty() {
                return Resolution::Unknown { suggestions: Vec::new() };
            }
            return Resolution::Adhoc { provider, model: rest.to_owned() };
        }
        match self.default_provider {
            Some(provider) if !model.is_empty() => Resolution::Adhoc { provider, model: model.to_owned() },
            _ => Resolution::Unknown { suggestions: self.suggestions(model) },
        }
    }

    /// What a provider's model costs, by its upstream's name; `None`: unknown. A preset at another address than its
    /// own has no prices but the operator's: a proxy or a region may charge what it likes.
    pub fn price(&self, provider: usize, model: &str) -> Option<&Price> {
        let provider = self.providers.get(provider)?;
        let preset = provider.preset.and_then(presets::find).filter(|preset| {
            preset.base.is_none_or(|base| BaseUrl::parse(base).is_ok_and(|base| base == provider.base))
        });
        self.prices.of(&provider.name, preset.map(|preset| preset.name), model)
    }

    fn suggestions(&self, model: &str) -> Vec<String> {
        const SUGGESTIONS_MAX: usize = 5;
        const NAME_MAX: usize = 128;
        if model.is_empty() || model.len() > NAME_MAX {
            return Vec::new();
        }
        let declared = || self.routes.iter().filter(|r| r.variant_of.is_none()).map(|r| &*r.model);
        let mut suggestions: Vec<String> =
            nearest(model, declared()).map(str::to_owned).into_iter().collect();
        let (prefix, rest) = model.split_once(':').unwrap_or(("", model));
        if let Some(provider) =
            nearest(prefix, self.providers.iter().map(|p| &*p.name)).filter(|_| !prefix.is_empty())
        {
            suggestions.push(format!("{provider}:{rest}"));
        } else {
            suggestions.extend(self.providers.iter().map(|p| format!("{}:{model}", p.name)));
        }
        suggestions.truncate(SUGGESTIONS_MAX);
        suggestions
    }
}
