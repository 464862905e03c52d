//! The table of prices as text, one thing a line:
//!
//! - `keymux-prices 1 DATE SOURCE` is the first line;
//! - `p NAME FALLBACK…` begins a provider, and names providers whose models it serves too;
//! - `m CONTEXT NAMES` begins a model (context in tokens, 0 for unknown): names in [`super::pattern`]'s notation, with
//!   `|` between alternatives;
//! - `r WHEN RATE…` is a standard price, `v VARIANT WHEN RATE…` one of a service tier. `WHEN` is `-` for always, `dN`
//!   from day N since 1970-01-01, `tA-B` daily from minute A to minute B. A rate is the letter of its kind and
//!   dollars for a million, with `,TOKENS>DOLLARS` for longer input; `?` stands for prices that no usage can be held
//!   against.
//!
//! `scripts/prices` writes it. The text is data: it is read whole or not at all.

use super::pattern::{Pattern, with_dashed_date};
use super::price::{Kind, Price, Rate, Rates, When};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// A text that is no table, with the first line that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not a line of a price table: {why}")]
pub struct BadTable {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Prices by provider and model.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The day it was made, as `2026-11-23`.
    pub date: Box<str>,
    /// What it was made from, with its version.
    pub source: Box<str>,
    providers: HashMap<Box<str>, Listed>,
}

#[derive(Clone, Debug, Default)]
struct Listed {
    fallbacks: Vec<Box<str>>,
    prices: Vec<Price>,
    exact: HashMap<Box<str>, usize>,
    patterns: Vec<(usize, Pattern)>,
}

static EMBEDDED: LazyLock<Arc<Table>> =
    LazyLock::new(|| Arc::new(Table::read(include_str!("table.txt")).unwrap_or_default()));

impl Table {
    /// The table of this build.
    pub fn embedded() -> Arc<Self> {
        EMBEDDED.clone()
    }

    /// How many models it prices.
    pub fn len(&self) -> usize {
        self.providers.values().map(|listed| listed.prices.len()).sum()
    }

    /// Whether it prices nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a table.
    pub fn read(text: &str) -> Result<Self, BadTable> {
        let mut lines = (1..).zip(text.lines()).map(|(line, text)| (line, text.trim_end()));
        let first = lines.next().map_or("", |(_, text)| text);
        let bad = |line, why| BadTable { line, why };
        let (date, source) = first
            .strip_prefix("keymux-prices 1 ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| bad(1, "it does not begin with `keymux-prices 1`, a date and a source"))?;
        let mut table = Self { date: date.into(), source: source.into(), ..Self::default() };
        let mut open: Option<(Box<str>, Listed)> = None;
        for (line, text) in lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#')) {
            let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
            if word == "p" {
                let mut names = rest.split(' ').filter(|name| !name.is_empty());
                let name = names.next().ok_or_else(|| bad(line, "a provider needs a name"))?;
                let listed = Listed { fallbacks: names.map(Box::from).collect(), ..Listed::default() };
                table.close(open.replace((name.into(), listed)));
                continue;
            }
            let (_, listed) = open.as_mut().ok_or_else(|| bad(line, "there is no provider yet"))?;
            listed.add(word, rest).map_err(|why| bad(line, why))?;
        }
        table.close(open);
        if table.is_empty() {
            return Err(bad(1, "it prices nothing"));
        }
        Ok(table)
    }

    fn close(&mut self, open: Option<(Box<str>, Listed)>) {
        self.providers.extend(open);
    }

    /// The price of a model that a provider lists. `None`: unknown.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Price> {
        let name = model.to_lowercase();
        let find = |name: &str| {
            let listed = self.providers.get(provider)?;
            let fallbacks = listed.fallbacks.iter().filter_map(|f| self.providers.get(f));
            std::iter::once(listed).chain(fallbacks).find_map(|listed| listed.find(name))
        };
        find(&name).or_else(|| find(&with_dashed_date(&name)?))
    }
}

impl Listed {
    /// The first of the list that fits.
    fn find(&self, name: &str) -> Option<&Price> {
        let exact = self.exact.get(name).copied();
        let fitting = self.patterns.iter().find(|(_, pattern)| pattern.fits(name)).map(|(index, _)| *index);
        let index = match (exact, fitting) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        self.prices.get(index)
    }

    fn add(&mut self, word: &str, rest: &str) -> Result<(), &'static str> {
        const FORM: &str = "it ends too early";
        match word {
            "m" => {
                let (context, names) = rest.split_once(' ').ok_or(FORM)?;
                let context: u64 = context.parse().map_err(|_| "the context is no number")?;
                let index = self.prices.len();
                for pattern in names.split('|').map(Pattern::read) {
                    match pattern.exact() {
                        Some(name) => {
                            self.exact.entry(name.into()).or_insert(index);
                        }
                        None => self.patterns.push((index, pattern)),
                    }
                }
                let context_tokens = (context > 0).then_some(context);
                self.prices.push(Price { context_tokens, ..Price::default() });
            }
            "r" => {
                let (when, rates) = rest.split_once(' ').unwrap_or((rest, ""));
                let entry = (read_when(when)?, read_rates(rates)?);
                self.prices.last_mut().ok_or("there is no model yet")?.standard.push(entry);
            }
            "v" => {
                let (name, rest) = rest.split_once(' ').ok_or(FORM)?;
                let (when, rates) = rest.split_once(' ').ok_or(FORM)?;
                let entry = (name.into(), read_when(when)?, read_rates(rates)?);
                self.prices.last_mut().ok_or("there is no model yet")?.variants.push(entry);
            }
            _ => return Err("it begins with none of p, m, r and v"),
        }
        Ok(())
    }
}

fn read_when(text: &str) -> Result<When, &'static str> {
    const BAD: &str = "the time is none of -, dN and tA-B";
    if text == "-" {
        return Ok(When::Always);
    }
    if let Some(day) = text.strip_prefix('d') {
        return day.parse().map(When::From).map_err(|_| BAD);
    }
    let (from, to) = text.strip_prefix('t').and_then(|t| t.split_once('-')).ok_or(BAD)?;
    let minute = |text: &str| text.parse().ok().filter(|minute| *minute < 1_440).ok_or(BAD);
    Ok(When::Daily(minute(from)?, minute(to)?))
}

fn read_rates(text: &str) -> Result<Rates, &'static str> {
    let mut rates = Rates::default();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        if word == "?" {
            rates.unmetered = true;
            continue;
        }
        let mut letters = word.chars();
        let kind = letters.next().and_then(Kind::of_letter).ok_or("a rate of an unknown kind")?;
        let mut steps = letters.as_str().split(',');
        let base = steps.next().and_then(nano_of_dollars).ok_or("a rate without dollars")?;
        let mut above = Vec::new();
        for step in steps {
            let (start, price) = step.split_once('>').ok_or("a step without >")?;
            let start: u64 = start.parse().map_err(|_| "a step without tokens")?;
            if above.last().is_some_and(|(before, _)| *before >= start) {
                return Err("steps that do not ascend");
            }
            above.push((start, nano_of_dollars(price).ok_or("a step without dollars")?));
        }
        if rates.get(kind).is_some() {
            return Err("two rates of one kind");
        }
        rates.list.push((kind, Rate { base, above }));
    }
    Ok(rates)
}

/// Decimal dollars as nano-dollars, exactly.
pub(super) fn nano_of_dollars(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(part)
}
