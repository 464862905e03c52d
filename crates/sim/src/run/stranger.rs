//! Others on our accounts: their calls go to the provider directly, and nobody tells the gateway.

use super::{Event, Run};
use crate::fleet::{MODEL, Sides};
use crate::rng::Rng;
use crate::spec::{Scenario, SpecError};
use crate::time::theirs;
use crate::traffic::{Arrival, Source};
use keymux_provider::{Call, Dialect, Endpoint};

/// A stranger.
pub(super) struct Stranger {
    source: Source,
    next: Option<Arrival>,
    /// One of the account's keys.
    key: usize,
    max_tokens: Option<u64>,
}

impl Stranger {
    pub(super) fn new(
        spec: &crate::spec::Stranger,
        scenario: &Scenario,
        sides: &Sides,
        rng: Rng,
    ) -> Result<Self, SpecError> {
        let account = sides.accounts.iter().position(|a| a.name == spec.account);
        let key = account.and_then(|a| sides.keys.iter().position(|k| k.account == a));
        let key = key.ok_or_else(|| {
            SpecError::Sense(format!(
                "[[stranger]]: there is no account `{}` (write provider/account)",
                spec.account
            ))
        })?;
        let source = Source::of_stranger(spec, scenario.seconds, rng);
        Ok(Self { source, next: None, key, max_tokens: spec.max_tokens })
    }
}

impl Run<'_> {
    pub(super) fn stranger_next(&mut self, n: usize) {
        let stranger = &mut self.strangers[n];
        stranger.next = stranger.source.next();
        if let Some(next) = stranger.next {
            self.at(next.at_ns, Event::Stranger(n));
        }
    }

    pub(super) fn stranger(&mut self, n: usize) {
        let stranger = &self.strangers[n];
        let Some(arrival) = stranger.next else { return };
        let key = &self.sides.keys[stranger.key];
        let anthropic = self.vendors[key.provider].dialect == Dialect::Anthropic;
        let call = Call {
            provider: key.provider,
            secret: &key.secret,
            endpoint: if anthropic { Endpoint::Messages } else { Endpoint::Chat },
            model: MODEL,
            input_tokens: arrival.input,
            max_tokens: stranger.max_tokens,
            output_tokens: Some(arrival.output.max(1)),
            n: 1,
            ..Call::default()
        };
        let reply = self.world.call(theirs(self.now), &call);
        if reply.open {
            self.tally.stranger(key.account, self.now, arrival.input, arrival.output);
            let end = reply.course.end_at_ns.unwrap_or(0);
            self.at(self.now + end, Event::Over(reply.id, false));
        }
        self.stranger_next(n);
    }
}
