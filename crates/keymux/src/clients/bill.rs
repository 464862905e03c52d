//! What a request came to, and who pays: the provider's own figure where it sends one, else tokens times the price
//! table, else what was counted on the way, else all that was held. Charged and written down as one figure, so that the
//! ledger and the budgets cannot part.

use super::{Client, Passed};
use crate::errors::{Kind, Problem};
use crate::happening::{self, Happening};
use crate::serve::Gateway;
use crate::story::Outcome;
use keymux_config::prices::{At, Price, Usage};
use keymux_policy::budget::{Charge, Owner};
use keymux_policy::tenants::Paid;
use keymux_store::{CostSource, Record, Reservation, Used};
use keymux_wire::usage::Usage as Said;
use std::sync::Arc;

/// A request's money while it goes on.
#[derive(Default)]
pub struct Bill {
    passed: Option<Passed>,
    bound_nano_usd: u64,
    /// The price of what the last attempt asked for.
    price: Option<Arc<Price>>,
    /// The tier that served it, as the provider says.
    tier: Option<Box<str>>,
    sent_unix_s: u64,
    /// An attempt is out of which nothing was heard yet; a guess of its input tokens.
    out: Option<u64>,
}

impl Bill {
    /// The request may begin; what it took comes back when this ends.
    pub fn passed(&mut self, passed: Passed, bound_nano_usd: Option<u64>) {
        self.passed = Some(passed);
        self.bound_nano_usd = bound_nano_usd.unwrap_or(0);
    }

    /// An attempt goes out.
    pub fn sent(&mut self, price: Option<Arc<Price>>, input_tokens_guess: u64, unix_ns: u64) {
        self.price = price;
        self.tier = None;
        self.sent_unix_s = unix_ns / 1_000_000_000;
        self.out = Some(input_tokens_guess);
    }

    /// It is over, and told of.
    pub fn heard(&mut self) {
        self.out = None;
    }

    /// What the provider says it used, in all kinds.
    pub fn said(&mut self, said: &Said, used: &mut Used) {
        self.tier.clone_from(&said.service_tier);
        used.cache_write_tokens = said.cache_write_tokens;
        used.input_audio_tokens = said.input_audio_tokens;
        used.reasoning_tokens = said.reasoning_tokens;
        used.output_audio_tokens = said.output_audio_tokens;
    }

    /// Writes down what an attempt may cost, before it goes out. The attempt before it, if there was one, came to
    /// nothing, and what was held for it is held for this one.
    ///
    /// # Errors
    /// It cannot be written: then the attempt must not go out.
    pub fn reserve(&self, gateway: &Gateway, record: &mut Record) -> Result<(), Problem> {
        let Some(passed) = self.passed.as_ref().filter(|passed| passed.holds_money()) else { return Ok(()) };
        let Some(store) = &gateway.store else { return Ok(()) };
        let reservation = Reservation {
            request: record.id.clone(),
            client: record.client.clone(),
            team: record.team.clone(),
            model: record.model.as_str().into(),
            provider: record.provider.clone(),
            key: record.key.clone(),
            account: record.account.clone(),
            endpoint: record.endpoint.clone(),
            at_unix_ms: passed.opened_unix_ms(),
            cost_nano_usd: self.bound_nano_usd,
        };
        let unwritten = || {
            let message = "What this request may cost cannot be written down now, and without that its key's budget would not hold.";
            Problem::new(Kind::JournalUnavailable, message)
        };
        // Before the next reservation, or a crash between the two would charge more than is held.
        if let Some(hold) = record.holds.last()
            && !store.settle(*hold, 0)
        {
            return Err(unwritten());
        }
        match store.reserve(&reservation) {
            Ok(hold) => record.holds.push(hold),
            Err(error) => {
                tracing::warn!(%error, "a reservation cannot be written");
                return Err(unwritten());
            }
        }
        Ok(())
    }

    /// The request is over: it is charged, and its record says what.
    pub fn close(
        &mut self,
        outcome: Outcome,
        (client, gateway): (Option<&Client>, &Gateway),
        record: &mut Record,
    ) {
        if let (Some(guess), Outcome::ClientGone) = (self.out, outcome) {
            // Nobody stayed to hear what came of it: its input at least was read.
            record.used.input_tokens = record.used.input_tokens.max(guess);
            record.used.estimated = true;
        }
        self.price(outcome, record);
        let used = &mut record.used;
        let Some(passed) = self.passed.take() else { return };
        record.charged_unix_ms = passed.opened_unix_ms();
        if record.attempts == 0 {
            // It never went out, and asked nothing of anybody.
            return drop(passed);
        }
        let held = passed.holds_money();
        if let (true, Some(store), Some(hold), Some(cost)) =
            (held, gateway.store.as_ref(), record.holds.last(), used.cost_nano_usd)
        {
            // What comes back here others may spend at once, so it is written first: the row itself may be lost with
            // the process, and the attempt would then be charged as it was reserved. A log that cannot be written
            // lets nobody else reserve either.
            store.settle(*hold, cost);
        }
        let tokens = (used.input_tokens + used.output_tokens) as f64;
        let known = tokens > 0.0 || !matches!(outcome, Outcome::Answered | Outcome::Broken);
        let charge = used.cost_nano_usd.map_or(Charge::Unknown, Charge::Cost);
        let paid = passed.leave(known.then_some(tokens), charge);
        if held && used.cost_nano_usd.is_none() {
            used.cost_nano_usd = Some(paid.charged_nano_usd);
            used.cost_source = CostSource::Reserved;
            used.estimated = true;
        }
        if let Some(client) = client {
            for happening in told(&paid, client, record) {
                gateway.tell(happening);
            }
        }
    }

    fn price(&self, outcome: Outcome, record: &mut Record) {
        let used = &mut record.used;
        if used.cost_nano_usd.is_some() {
            used.cost_source = CostSource::Provider;
            return;
        }
        let tokens = used.input_tokens + used.output_tokens;
        let nothing = match outcome {
            Outcome::Refused | Outcome::ProviderError => true,
            // Counting is free, and says nothing of what it used.
            Outcome::Answered => record.endpoint.ends_with("count_tokens"),
            Outcome::ClientGone => tokens == 0,
            Outcome::Broken => false,
        };
        if nothing {
            (used.cost_nano_usd, used.cost_source) = (Some(0), CostSource::Prices);
        } else if let (Some(price), 1..) = (&self.price, tokens) {
            let usage = Usage {
                input_tokens: used.input_tokens,
                output_tokens: used.output_tokens,
                cache_read_tokens: used.cached_input_tokens,
                cache_write_tokens: used.cache_write_tokens,
                input_audio_tokens: used.input_audio_tokens,
                output_audio_tokens: used.output_audio_tokens,
                reasoning_tokens: used.reasoning_tokens,
                ..Usage::default()
            };
            let at = At { unix_s: self.sent_unix_s, tier: self.tier.as_deref(), fast: false };
            used.cost_nano_usd = price.cost(&usage, &at);
            if used.cost_nano_usd.is_some() {
                used.cost_source = CostSource::Prices;
            }
        }
    }
}

/// Budgets that are nearly or wholly spent, and bills that were higher than they could be.
fn told(paid: &Paid, client: &Client, record: &Record) -> Vec<Happening> {
    let mut events = Vec::new();
    for warning in &paid.warnings {
        let whose = match warning.owner {
            Owner::Client(_) => format!("key {}", client.name),
            Owner::Team(_) => format!("team {}", client.team),
        };
        let (spent, limit) =
            (super::denied::dollars(warning.spent_nano_usd), super::denied::dollars(warning.limit_nano_usd));
        let kind =
            if warning.percent < 100 { happening::Kind::BudgetLow } else { happening::Kind::BudgetSpent };
        let text = format!("budget {} % spent: {whose}, {spent} of {limit}", warning.percent);
        events.push(Happening::new(kind, whose, text));
    }
    if let Some(held) = paid.billed_above {
        let (billed, held) = (super::denied::dollars(paid.charged_nano_usd), super::denied::dollars(held));
        let text = format!(
            "billed above its bound: request {}, {} at {}: {billed} instead of at most {held}",
            record.id, record.key, record.provider
        );
        events.push(Happening::new(happening::Kind::BilledAbove, record.provider.to_string(), text));
    }
    events
}
