//! Declared limits: from the shorthands people know to dimension and shape.

use super::small;
use crate::problem::{At, Findings};
use crate::text::file;
use crate::text::leaf::Amount;
use crate::text::names::ShapeName;
use crate::text::read::Section as _;
use keymux_policy::fleet::{Dimension, LimitSpec, ModelSet, Shape};
use keymux_policy::time::{DAY, MINUTE, MS, SECOND};

/// All limits of one list.
pub(super) fn resolve(typed: Option<At<Vec<At<file::Limit>>>>, found: &mut Findings) -> Vec<LimitSpec> {
    let entries = typed.unwrap_or_default().value;
    entries.into_iter().flat_map(|entry| one(entry, found)).collect()
}

fn one(At { value: typed, place }: At<file::Limit>, found: &mut Findings) -> Vec<LimitSpec> {
    let told = !typed.unread().is_empty();
    let models = models(typed.models);
    let shape = typed.shape.as_ref().map_or(ShapeName::Bucket, |s| s.value);
    let offset_s = day_offset(typed.day_begins.as_ref(), shape, found);
    let mut limits = Vec::new();
    let mut add = |dimension, amount: Option<At<Amount>>, period_ns| {
        if let Some(amount) = amount {
            let shape = shape_of(shape, amount.0, period_ns, offset_s);
            limits.push(LimitSpec { dimension, shape, models: models.clone(), preset: false });
        }
    };
    add(Dimension::Requests, typed.rpm, MINUTE);
    add(Dimension::TotalTokens, typed.tpm, MINUTE);
    add(Dimension::InputTokens, typed.itpm, MINUTE);
    add(Dimension::OutputTokens, typed.otpm, MINUTE);
    add(Dimension::Requests, typed.rpd, DAY);
    add(Dimension::TotalTokens, typed.tpd, DAY);
    let nano_usd = typed.usd.map(|usd| At { value: Amount(usd.0 * 1e9), place: usd.place });
    let free = [
        (Dimension::Requests, typed.requests),
        (Dimension::TotalTokens, typed.tokens),
        (Dimension::InputTokens, typed.input_tokens),
        (Dimension::OutputTokens, typed.output_tokens),
        (Dimension::NanoUsd, nano_usd),
    ];
    let any_free = free.iter().any(|(_, amount)| amount.is_some());
    let period_ns = typed.per.as_ref().map_or(MINUTE, |per| per.0 * MS);
    for (dimension, amount) in free {
        add(dimension, amount, period_ns);
    }
    if let Some(slots) = typed.concurrent {
        let shape = Shape::Slots { limit: small(slots.0) };
        limits.push(LimitSpec {
            dimension: Dimension::Concurrent,
            shape,
            models: models.clone(),
            preset: false,
        });
    }
    match (&typed.per, any_free) {
        (None, true) => {
            found.missing(told, place, "this limit does not say its period", "add per = \"60s\"");
        }
        (Some(per), false) => {
            let hint = "write requests, tokens, input_tokens, output_tokens or usd with it; rpm and its like have their own period";
            found.missing(told, per.place, "`per` has nothing to rule here", hint);
        }
        _ if limits.is_empty() => {
            found.missing(
                told,
                place,
                "this limit limits nothing",
                "write one of rpm, tpm, itpm, otpm, rpd, tpd, concurrent, or requests with per",
            );
        }
        _ => {}
    }
    limits
}

fn shape_of(shape: ShapeName, amount: f64, period_ns: u64, offset_s: i32) -> Shape {
    match shape {
        ShapeName::Bucket => {
            Shape::Bucket { capacity: amount, refill_per_s: amount * SECOND as f64 / period_ns as f64 }
        }
        ShapeName::Window if period_ns == DAY => Shape::Day { limit: amount, offset_s },
        ShapeName::Window => Shape::Window { limit: amount, period_ns, anchor_unix_ns: None },
    }
}

/// Seconds after midnight UTC at which the day begins.
fn day_offset(typed: Option<&At<String>>, shape: ShapeName, found: &mut Findings) -> i32 {
    let Some(typed) = typed else { return 0 };
    if shape != ShapeName::Window {
        let hint = "add shape = \"window\", or leave `day_begins` out";
        found.error(typed.place, "a bucket has no day that begins", hint);
    }
    let parsed = typed.split_once(':').and_then(|(hours, minutes)| {
        let digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        let (h, m): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        (digits(hours) && digits(minutes) && h < 24 && m < 60).then_some(h * 3_600 + m * 60)
    });
    parsed.unwrap_or_else(|| {
        let message = format!("\"{}\" is not a time of day", typed.value.escape_debug());
        found.error(typed.place, message, "write hours and minutes in UTC: \"08:00\"");
        0
    })
}

/// Globs as the policy wants them.
pub(super) fn models(typed: Option<At<Vec<At<crate::text::leaf::Glob>>>>) -> ModelSet {
    ModelSet(typed.unwrap_or_default().value.into_iter().map(|glob| glob.value.0).collect())
}

/// Lays `upper` over `lower`: what stands above replaces a limit below for the same dimension, models and period.
pub(super) fn over(lower: &[LimitSpec], upper: Vec<LimitSpec>) -> Vec<LimitSpec> {
    let replaced = |l: &LimitSpec| {
        upper.iter().any(|u| u.dimension == l.dimension && u.models == l.models && period(u) == period(l))
    };
    let mut limits: Vec<LimitSpec> = lower.iter().filter(|l| !replaced(l)).cloned().collect();
    limits.extend(upper);
    limits
}

/// The period in nanoseconds; 0 for slots.
fn period(limit: &LimitSpec) -> u64 {
    match limit.shape {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a period is below 10^17 ns"
        )]
        Shape::Bucket { capacity, refill_per_s } => {
            // Through milliseconds, so that rounding does not tell equal periods apart.
            (capacity / refill_per_s * 1_000.0).round() as u64 * MS
        }
        Shape::Window { period_ns, .. } => period_ns,
        Shape::Day { .. } => DAY,
        Shape::Slots { .. } => 0,
    }
}
