//! Prices of the operator's own, and the table that they go over.

use crate::clients::UnknownPrice;
use crate::config::Provider;
use crate::prices::{Kind, Price, Prices, Rate, Rates, Table};
use crate::problem::{At, Findings, did_you_mean};
use crate::text::money::{self, Usd};
use crate::text::read::Section as _;
use crate::world::World;
use std::sync::Arc;

/// Prices are for so many.
const MILLION: u64 = 1_000_000;

pub(super) fn resolve(
    settings: Option<At<money::Prices>>,
    own: Vec<At<money::Price>>,
    (providers, world): (&[Provider], &World<'_>),
    found: &mut Findings,
) -> (Prices, UnknownPrice) {
    let settings = settings.unwrap_or_default().value;
    let table = settings.file.as_ref().and_then(|file| table(file, world, found));
    let own = own.into_iter().filter_map(|typed| one(typed, providers, found)).collect();
    let unknown = settings.unknown.map_or_else(UnknownPrice::default, |u| u.value);
    (Prices { own, table: table.unwrap_or_else(Table::embedded) }, unknown)
}

fn table(file: &At<String>, world: &World<'_>, found: &mut Findings) -> Option<Arc<Table>> {
    let path = world.path(file);
    let hint = "write one with scripts/prices --out, or leave `file` out for the embedded one";
    let text = (world.read)(&path)
        .map_err(|e| found.error(file.place, format!("cannot read {}: {e}", path.display()), hint))
        .ok()?;
    let table = Table::read(&text);
    let table = table
        .map_err(|e| found.error(file.place, format!("{} is no price table: {e}", path.display()), hint));
    table.ok().map(Arc::new)
}

fn one(
    At { value: typed, place }: At<money::Price>,
    providers: &[Provider],
    found: &mut Findings,
) -> Option<(Box<str>, Price)> {
    let told = typed.unread().contains(&"model");
    let Some(model) = &typed.model else {
        found.missing(told, place, "this price is for no model", "add model = \"provider:model\"");
        return None;
    };
    match model.value.0.split_once(':') {
        // A star in front of the colon may stand for any of them.
        Some((provider, _)) if !provider.contains('*') && !providers.iter().any(|p| *p.name == *provider) => {
            let known: Vec<&str> = providers.iter().map(|p| &*p.name).collect();
            let message = format!("there is no provider \"{}\"", provider.escape_debug());
            found.error(model.place, message, did_you_mean(provider, &known, "there are"));
        }
        None if !model.value.0.contains('*') => {
            let message = format!("\"{}\" names no provider", model.value.0.escape_debug());
            found.error(model.place, message, "write \"provider:model\"");
        }
        _ => {}
    }
    let mut rates = rates(&typed, found);
    if rates.list.is_empty() {
        let unread = !typed.unread().is_empty();
        let hint = "add input and output, in US dollars for a million tokens; 0 for what is free";
        found.missing(unread, model.place, "this price says no price", hint);
    }
    steps(typed.above.as_ref(), &mut rates, found);
    let context_tokens = typed.context.as_ref().map(|n| n.0);
    Some((model.value.0.clone(), Price { context_tokens, ..Price::of_rates(rates) }))
}

fn rates(typed: &money::Price, found: &mut Findings) -> Rates {
    let tokens = [
        (Kind::Input, &typed.input),
        (Kind::Output, &typed.output),
        (Kind::CacheRead, &typed.cache_read),
        (Kind::CacheWrite, &typed.cache_write),
        (Kind::CacheWriteHour, &typed.cache_write_hour),
        (Kind::InputAudio, &typed.input_audio),
        (Kind::OutputAudio, &typed.output_audio),
        (Kind::InputImage, &typed.input_image),
        (Kind::OutputImage, &typed.output_image),
        (Kind::Reasoning, &typed.reasoning),
    ];
    let mut rates = Rates::default();
    for (kind, usd) in tokens {
        rates.list.extend(usd.as_ref().map(|usd| (kind, Rate::flat(usd.0))));
    }
    for (kind, usd) in [(Kind::Requests, &typed.request), (Kind::WebSearches, &typed.web_search)] {
        if let Some(usd) = usd {
            // Dollars for one, kept for a million.
            let whole = usd.0.checked_mul(MILLION);
            if whole.is_none() {
                found.error(
                    usd.place,
                    "this is more than a search or a request costs",
                    "write US dollars for one",
                );
            }
            rates.list.push((kind, Rate::flat(whole.unwrap_or(u64::MAX))));
        }
    }
    rates
}

fn steps(typed: Option<&At<Vec<At<money::PriceStep>>>>, rates: &mut Rates, found: &mut Findings) {
    let mut before = 0;
    for At { value: step, place } in typed.iter().flat_map(|list| &list.value) {
        let Some(tokens) = step.tokens.as_ref() else {
            let hint = "add tokens = 200_000";
            found.missing(step.unread().contains(&"tokens"), *place, "this step begins nowhere", hint);
            continue;
        };
        if tokens.0 <= before {
            let hint = "put the steps in order of their tokens, each once";
            found.error(tokens.place, "the steps do not ascend", hint);
            continue;
        }
        before = tokens.0;
        let named: [(Kind, &str, &Option<At<Usd>>); 5] = [
            (Kind::Input, "input", &step.input),
            (Kind::Output, "output", &step.output),
            (Kind::CacheRead, "cache_read", &step.cache_read),
            (Kind::CacheWrite, "cache_write", &step.cache_write),
            (Kind::CacheWriteHour, "cache_write_hour", &step.cache_write_hour),
        ];
        for (kind, name, usd) in named {
            let Some(usd) = usd else { continue };
            if let Some((_, rate)) = rates.list.iter_mut().find(|(k, _)| *k == kind) {
                rate.above.push((tokens.0, usd.0));
            } else {
                let message = format!("`{name}` has no price below this step");
                found.error(usd.place, message, format!("add {name} to the price itself"));
            }
        }
    }
}
