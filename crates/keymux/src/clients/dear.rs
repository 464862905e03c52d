//! Models that a provider's sellers no longer serve for what the operator's prices say: whoever has a budget is refused
//! them, and only the operator can mend that. Told once an hour of each.

use crate::happening::{Happening, Kind};
use crate::serve::Gateway;
use keymux_policy::Now;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const AGAIN_NS: u64 = 3_600_000_000_000;
/// Models that are remembered. Callers name them, though only such as have a price.
const MODELS_MAX: usize = 100;

/// When it was last told of which model at which provider.
#[derive(Debug, Default)]
pub struct TooDear(Mutex<BTreeMap<(String, String), u64>>);

impl TooDear {
    /// A request at this price was refused. What there is to tell of it.
    fn refused(
        &self,
        now: Now,
        (provider, model): (&str, &str),
        price: &str,
        table: &str,
    ) -> Option<Happening> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at_ns| now.mono_ns < *at_ns + AGAIN_NS);
        let id = (provider.to_owned(), model.to_owned());
        if told.contains_key(&id) || told.len() >= MODELS_MAX {
            return None;
        }
        told.insert(id, now.mono_ns);
        let text = format!(
            "price too low: nobody behind {provider} serves {model} for {price} (US dollars for a million tokens; \
             the table of prices is of {table}), so clients with a budget are refused it; a [[price]] for it mends that"
        );
        Some(Happening::new(Kind::PriceTooLow, format!("{provider} {model}"), text))
    }
}

/// Tells the operator of it, unless that was done of late.
pub fn tell(gateway: &Gateway, target: (&str, &str), price: &str) {
    let snapshot = gateway.live.load();
    let table = &snapshot.config.prices.table.date;
    if let Some(happening) = gateway.too_dear.refused(gateway.clock.now(), target, price, table) {
        gateway.tell(happening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_told_of_once_an_hour_and_not_more_than_some() {
        let dear = TooDear::default();
        let told = |minute: u64, model: &str| {
            let now = Now { mono_ns: minute * 60_000_000_000, unix_ns: 0 };
            dear.refused(now, ("agg", model), "prompt=1", "2026-11-01").map(|told| told.subject)
        };
        assert_eq!(told(0, "m").as_deref(), Some("agg m"));
        assert_eq!(told(1, "n").as_deref(), Some("agg n"));
        assert_eq!((told(59, "m"), told(60, "m").as_deref()), (None, Some("agg m")));
        let some = (0..1_000).filter(|n| told(60, &format!("x{n}")).is_some()).count();
        assert_eq!(some, MODELS_MAX - 2);
        assert!(told(121, "x999").is_some());
    }
}
