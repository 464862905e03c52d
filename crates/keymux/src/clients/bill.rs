//! What a request came to, and who pays: the provider's own figure where it sends one, else tokens times the price
//! table, else what was counted on the way and some more, else all that was held. Charged and written down as one
//! figure, so that the ledger and the budgets cannot part. Why so stands in `docs/decisions` on answers without a bill.

use super::{Client, Passed};
use crate::alarm::{Alarm, Late};
use crate::errors::{Kind, Problem};
use crate::happening::{self, Happening};
use crate::serve::Gateway;
use crate::story::Outcome;
use keymux_config::prices::{At, Price, Usage};
use keymux_policy::budget::{Charge, Owner};
use keymux_policy::tenants::Paid;
use keymux_store::{CostSource, Record, Reservation, Used};
use keymux_wire::usage::Usage as Said;
use std::fmt::Display;
use std::sync::Arc;

/// Tokens of a stream that were made and never came: a tenth of a second of a fast one.
const ON_THE_WAY_TOKENS: u64 = 32;

/// What a budget is charged for tokens that were counted and not told: half as many again.
fn cautious(tokens: u64) -> u64 {
    tokens.saturating_add(tokens.div_ceil(2))
}

/// An attempt, as far as its cost goes.
#[derive(Default)]
pub struct Call {
    /// What its target charges.
    pub price: Option<Arc<Price>>,
    /// A guess of its input tokens.
    pub input_tokens: u64,
    /// Its answer is made to its end, and billed, also if nobody waits for it any more.
    pub goes_on: bool,
}

/// A request's money while it goes on.
#[derive(Default)]
pub struct Bill {
    passed: Option<Passed>,
    bound_nano_usd: u64,
    /// The last attempt.
    call: Call,
    begun_unix_s: u64,
    /// It was sent, and nothing was heard of it yet.
    out: bool,
    /// It was ended here before its end.
    cancelled: bool,
    /// The tier that served it, and its input tokens, as the provider says.
    tier: Option<Box<str>>,
    told_input: bool,
}

impl Bill {
    /// The request may begin; what it took comes back when this ends.
    pub fn passed(&mut self, passed: Passed, bound_nano_usd: Option<u64>) {
        self.passed = Some(passed);
        self.bound_nano_usd = bound_nano_usd.unwrap_or(0);
    }

    /// An attempt begins.
    pub fn begun(&mut self, call: Call, unix_ns: u64) {
        self.call = call;
        self.begun_unix_s = unix_ns / 1_000_000_000;
        (self.out, self.cancelled, self.told_input, self.tier) = (false, false, false, None);
    }

    /// To be set when it is on its way to its provider.
    pub fn is_sent(&mut self) -> &mut bool {
        &mut self.out
    }

    /// keymux ends it before its end. What its provider makes of that it cannot know.
    pub fn cancelled(&mut self) {
        self.cancelled = true;
    }

    /// It is over, and told of.
    pub fn heard(&mut self) {
        self.out &= self.cancelled;
    }

    /// What the provider says it used, in all kinds.
    pub fn said(&mut self, said: &Said, used: &mut Used) {
        self.tier.clone_from(&said.service_tier);
        self.told_input = said.input_tokens > 0;
        used.cache_write_tokens = said.cache_write_tokens;
        used.input_audio_tokens = said.input_audio_tokens;
        used.reasoning_tokens = said.reasoning_tokens;
        used.output_audio_tokens = said.output_audio_tokens;
    }

    /// Writes down what an attempt may cost, before it goes out. The attempt before it, if there was one, came to
    /// nothing, and what was held for it is held for this one. Returns whether there was something to write; then time
    /// has passed.
    ///
    /// # Errors
    /// It cannot be written: then the attempt must not go out.
    pub async fn reserve(
        &self,
        gateway: &Gateway,
        record: &mut Record,
        (until_ns, alarm): (u64, &mut Alarm),
    ) -> Result<bool, Problem> {
        let Some(passed) = self.passed.as_ref().filter(|passed| passed.holds_money()) else {
            return Ok(false);
        };
        let Some(store) = &gateway.store else { return Ok(false) };
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
        // Before the next reservation, or a crash between the two would charge more than is held.
        if let Some(hold) = record.holds.last()
            && !store.settle(*hold, 0)
        {
            return Err(unwritten("the log is full"));
        }
        let hold = store.reserve(reservation).map_err(unwritten)?;
        // At once: should this be the end of the request, its row ends the reservation too.
        record.holds.push(hold);
        match alarm.before(until_ns, store.written(hold)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(unwritten(error)),
            Err(Late) => Err(unwritten("the disk took longer than the request may")),
        }
    }

    /// The request is over: it is charged, and its record says what.
    pub fn close(
        &mut self,
        outcome: Outcome,
        (client, gateway): (Option<&Client>, &Gateway),
        record: &mut Record,
    ) {
        self.cancelled |= outcome == Outcome::ClientGone;
        if self.out && self.cancelled {
            // Nobody stayed to hear what came of it: its input at least was read.
            record.used.input_tokens = record.used.input_tokens.max(self.call.input_tokens);
            record.used.estimated = true;
        }
        let passed = self.passed.take();
        let held = passed.as_ref().is_some_and(Passed::holds_money);
        self.price(outcome, held, record);
        let used = &mut record.used;
        let Some(passed) = passed else { return };
        record.charged_unix_ms = passed.opened_unix_ms();
        if record.attempts == 0 {
            // It never went out, and asked nothing of anybody.
            return drop(passed);
        }
        if let (true, Some(store), Some(hold), Some(cost)) =
            (held, gateway.store.as_ref(), record.holds.last(), used.cost_nano_usd)
        {
            // What comes back here others may spend at once, so the log has it first: the row itself may be lost with
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
            for happening in events(&paid, client, record) {
                gateway.tell(happening);
            }
        }
    }

    fn price(&self, outcome: Outcome, held: bool, record: &mut Record) {
        let used = &mut record.used;
        if used.cost_nano_usd.is_some() {
            used.cost_source = CostSource::Provider;
            return;
        }
        let tokens = used.input_tokens + used.output_tokens;
        let nothing = match outcome {
            Outcome::Refused | Outcome::ProviderError => !self.out,
            // Counting is free, and says nothing of what it used.
            Outcome::Answered => record.endpoint.ends_with("count_tokens"),
            Outcome::ClientGone => !self.out && tokens == 0,
            Outcome::Broken => false,
        };
        if nothing {
            (used.cost_nano_usd, used.cost_source) = (Some(0), CostSource::Prices);
        } else if let (Some(price), 1.., false) =
            (&self.call.price, tokens, held && self.cancelled && self.call.goes_on)
        {
            let at = At { unix_s: self.begun_unix_s, tier: self.tier.as_deref(), fast: false };
            used.cost_nano_usd = if held && used.estimated {
                price.cost(&self.at_most(outcome, used), &at).map(|cost| cost.min(self.bound_nano_usd))
            } else {
                price.cost(&told(used), &at)
            };
            if used.cost_nano_usd.is_some() {
                used.cost_source = CostSource::Prices;
            }
        }
    }

    /// Rather more than what was counted, so that a budget is not overrun by what the count missed.
    fn at_most(&self, outcome: Outcome, used: &Used) -> Usage {
        let on_the_way = if outcome == Outcome::Answered { 0 } else { ON_THE_WAY_TOKENS };
        Usage {
            input_tokens: if self.told_input { used.input_tokens } else { cautious(used.input_tokens) },
            output_tokens: cautious(used.output_tokens) + on_the_way,
            ..told(used)
        }
    }
}

fn unwritten(why: impl Display) -> Problem {
    tracing::warn!(%why, "a reservation cannot be written");
    let message = "What this request may cost cannot be written down now, and without that its key's budget would not hold.";
    Problem::new(Kind::JournalUnavailable, message)
}

fn told(used: &Used) -> Usage {
    Usage {
        input_tokens: used.input_tokens,
        output_tokens: used.output_tokens,
        cache_read_tokens: used.cached_input_tokens,
        cache_write_tokens: used.cache_write_tokens,
        input_audio_tokens: used.input_audio_tokens,
        output_audio_tokens: used.output_audio_tokens,
        reasoning_tokens: used.reasoning_tokens,
        ..Usage::default()
    }
}

/// Budgets that are nearly or wholly spent, and bills that were higher than they could be.
fn events(paid: &Paid, client: &Client, record: &Record) -> Vec<Happening> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::tests::{PRICED, snapshot};

    const BOUND: u64 = 900_000;

    /// A call of a hundred tokens at a dollar a million for input and ten for output, and so many tokens counted.
    fn bill(goes_on: bool, tokens: (u64, u64)) -> (Bill, Record) {
        let snapshot = snapshot(PRICED);
        let price = snapshot.price(snapshot.provider_ids[0], &"m".into());
        let mut bill = Bill { bound_nano_usd: BOUND, ..Bill::default() };
        bill.begun(Call { price, input_tokens: 100, goes_on }, 0);
        *bill.is_sent() = true;
        let (input_tokens, output_tokens) = tokens;
        let used = Used { input_tokens, output_tokens, estimated: true, ..Used::default() };
        (bill, Record { attempts: 1, endpoint: "chat/completions".into(), used, ..Record::default() })
    }

    fn cost((bill, mut record): (Bill, Record), outcome: Outcome, held: bool) -> Option<u64> {
        bill.price(outcome, held, &mut record);
        record.used.cost_nano_usd
    }

    #[test]
    fn what_was_counted_is_charged_with_caution_to_budgets_and_as_it_is_elsewhere() {
        let of = |outcome, held| cost(bill(false, (100, 20)), outcome, held);
        assert_eq!(of(Outcome::Answered, false), Some(100 * 1_000 + 20 * 10_000));
        assert_eq!(of(Outcome::Answered, true), Some(150 * 1_000 + 30 * 10_000));
        assert_eq!(of(Outcome::Broken, true), Some(150 * 1_000 + 62 * 10_000));
        // Never more than was held, or others' money would go.
        assert_eq!(cost(bill(false, (100, 90)), Outcome::Broken, true), Some(BOUND));
        let (mut told, mut record) = bill(false, (100, 20));
        told.said(&Said { input_tokens: 100, ..Said::default() }, &mut record.used);
        assert_eq!(cost((told, record), Outcome::Answered, true), Some(100 * 1_000 + 30 * 10_000));
        let (exact, mut record) = bill(false, (100, 20));
        record.used.estimated = false;
        assert_eq!(cost((exact, record), Outcome::Answered, true), Some(100 * 1_000 + 20 * 10_000));
    }

    #[test]
    fn what_goes_on_after_a_cancel_costs_a_budget_all_that_was_held() {
        for outcome in [Outcome::ClientGone, Outcome::Broken, Outcome::Refused] {
            let cancelled = |goes_on| {
                let (mut bill, record) = bill(goes_on, (100, 20));
                bill.cancelled();
                bill.heard();
                (bill, record)
            };
            // Nobody knows the cost, so it is charged as held.
            assert_eq!(cost(cancelled(true), outcome, true), None, "{outcome:?}");
            assert_eq!(cost(cancelled(true), outcome, false), Some(300_000), "{outcome:?}");
            assert_eq!(cost(cancelled(false), outcome, true), Some(770_000), "{outcome:?}");
        }
        // It ended by itself, or its provider told: nothing is in the dark.
        assert!(cost(bill(true, (100, 20)), Outcome::Answered, true).is_some());
        let (mut told, mut record) = bill(true, (100, 20));
        told.cancelled();
        record.used.cost_nano_usd = Some(7);
        assert_eq!(cost((told, record), Outcome::ClientGone, true), Some(7));
    }

    #[test]
    fn a_failure_and_what_was_never_sent_cost_nothing() {
        let (mut failed, record) = bill(true, (0, 0));
        failed.heard();
        assert_eq!(cost((failed, record), Outcome::Refused, true), Some(0));
        let (mut unsent, record) = bill(true, (0, 0));
        *unsent.is_sent() = false;
        unsent.cancelled();
        assert_eq!(cost((unsent, record), Outcome::ClientGone, true), Some(0));
    }
}
