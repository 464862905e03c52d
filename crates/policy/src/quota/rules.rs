//! By which rule a provider charges tokens, told by what its answers say is left. Documents are silent about it, differ
//! from each other or are out of date; a rule that charges too much leaves paid quota unused, and one that charges too
//! little draws refusals for ever.
//!
//! Each rule has a mirror of the limit, charged when requests end with what it says they cost. Every answer allows each
//! mirror an interval, and one that is outside it is moved to its edge. The right rule's hardly moves; a wrong one's is
//! moved again and again, in proportion to what it was charged. Who else uses the account moves all of them, and then
//! none is right: only one that explains nearly everything replaces one that does not. (Who takes in proportion to us
//! looks like a rule that charges more, and while that lasts it is true of what is left.)
//!
//! Buckets only, and only where the answers show that it is one, whatever was declared: what a window is charged comes in
//! bursts behind its beginning, on which side of it is not known, and nothing comes back in between.

use super::bucket::Bucket;
use super::estimate::{Fate, ModelStats, need, settled};
use super::told::{Answer, Told};
use crate::ask::Size;
use crate::fleet::{Charging, Dimension, OutputCharge};
use crate::outcome::Used;
use crate::time::{Now, s_of};

/// The rules that differ once a request has ended. What is charged as it is produced is then what is refunded down to.
const RULES: [OutputCharge; 3] =
    [OutputCharge::MaxTokensRefunded, OutputCharge::MaxOfBoth, OutputCharge::SumOfBoth];
/// Requests that must have ended before anything is concluded; what lies twice as many back counts half.
const ENOUGH: u32 = 32;
/// The ends of what was observed are known up to what is in flight: as many times that must have been charged.
const OPEN_TIMES: f64 = 4.0;
/// The share of its charges by which a mirror is moved at least where the rule is wrong, and at most where it is right.
const WRONG: f64 = 0.2;
const RIGHT: f64 = 0.1;

/// What a request is charged by each rule.
pub(crate) type Charges = [f64; RULES.len()];

#[derive(Clone, Copy, Debug, Default)]
struct Mirror {
    level: f64,
    charged: f64,
    /// How far it was moved, ups and downs against each other: what was in flight is known on the average only.
    moved: f64,
}

/// An answer about what is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) left: f64,
    pub(crate) rounding: f64,
    pub(crate) reset_ns: Option<u64>,
    pub(crate) sent_ns: u64,
    /// By the rule in force: reserved by what is in flight, and taken since the request was sent.
    pub(crate) open: f64,
    pub(crate) since: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Rules {
    mirrors: [Mirror; RULES.len()],
    ended: u32,
    /// When the mirrors were looked at last.
    at_ns: u64,
    shape: Told,
    /// The next answer tells where the mirrors stand, and nothing else.
    adrift: bool,
}

impl Rules {
    pub(crate) fn new(now: Now) -> Self {
        let at_ns = now.mono_ns;
        Self { mirrors: Default::default(), ended: 0, at_ns, shape: Told::default(), adrift: true }
    }

    /// A request ended.
    pub(crate) fn ended(&mut self, now: Now, bucket: &Bucket, charges: &Charges) {
        self.carry(now, bucket);
        if self.ended >= 2 * ENOUGH {
            self.ended /= 2;
            for mirror in &mut self.mirrors {
                (mirror.charged, mirror.moved) = (mirror.charged / 2.0, mirror.moved / 2.0);
            }
        }
        self.ended += 1;
        for (mirror, charge) in self.mirrors.iter_mut().zip(charges) {
            mirror.level -= charge;
            mirror.charged += charge;
        }
    }

    /// An answer came, newer than all before it. Tells the rule by which the provider charges, if another is in force.
    pub(crate) fn heard(
        &mut self,
        now: Now,
        bucket: &Bucket,
        in_force: OutputCharge,
        said: &Said,
    ) -> Option<OutputCharge> {
        self.carry(now, bucket);
        if let Some(reset) = said.reset_ns {
            let (used, rounding) = (bucket.capacity - said.left, said.rounding.max(1.0));
            self.shape.hear(Answer { sent: said.sent_ns, now: now.mono_ns, used, rounding, reset });
        }
        let refill = bucket.rate * s_of(now.mono_ns.saturating_sub(said.sent_ns));
        let current = RULES.iter().position(|rule| rule.keeps() && *rule == in_force).unwrap_or(0);
        let known = self.mirrors[current].charged;
        for mirror in &mut self.mirrors {
            // What is in flight is known by the rule in force alone.
            let times = if known > 0.0 { (mirror.charged / known).max(1.0) } else { 1.0 };
            if self.adrift {
                mirror.level = said.left;
                continue;
            }
            let low = mirror.level - times * said.open - said.rounding;
            let high = mirror.level + times * said.since + refill + said.rounding;
            let by = said.left - said.left.clamp(low, high);
            mirror.level += by;
            mirror.moved += by;
        }
        self.adrift = false;
        self.better_than(current, said)
    }

    fn better_than(&self, current: usize, said: &Said) -> Option<OutputCharge> {
        // Others who use the account only ever take.
        let enough = if self.mirrors[current].moved > 0.0 { ENOUGH / 4 } else { ENOUGH };
        let vague = OPEN_TIMES * said.open.max(said.rounding);
        let off = |mirror: &Mirror| mirror.moved.abs() / mirror.charged.max(1.0);
        let in_force = &self.mirrors[current];
        let known = self.shape.is_bucket() && self.ended >= enough;
        if !known || in_force.charged < vague || off(in_force) < WRONG {
            return None;
        }
        let explains = |mirror: &Mirror| {
            // As wide as its intervals were.
            let times = (mirror.charged / in_force.charged).max(1.0);
            mirror.charged >= times * vague && off(mirror) < RIGHT
        };
        let all = self.mirrors.iter().zip(RULES).filter(|(mirror, _)| explains(mirror));
        all.min_by(|(a, _), (b, _)| off(a).total_cmp(&off(b))).map(|(_, rule)| rule)
    }

    /// The mirror's level by a rule, for whoever adopts it; what is in flight is not taken from it. Looks anew from here.
    pub(crate) fn adopt(&mut self, rule: OutputCharge) -> Option<f64> {
        let at = RULES.iter().position(|r| *r == rule)?;
        self.ended = 0;
        for mirror in &mut self.mirrors {
            (mirror.charged, mirror.moved) = (0.0, 0.0);
        }
        (!std::mem::replace(&mut self.adrift, true)).then(|| self.mirrors[at].level)
    }

    /// What came back since it was looked at last.
    fn carry(&mut self, now: Now, bucket: &Bucket) {
        let refill = bucket.rate * s_of(now.mono_ns.saturating_sub(self.at_ns));
        self.at_ns = self.at_ns.max(now.mono_ns);
        for mirror in &mut self.mirrors {
            mirror.level = (mirror.level + refill).min(bucket.capacity);
        }
    }
}

/// What a request that ended is charged of a limit of all tokens, by each rule.
pub(crate) fn charges(
    size: &Size,
    charging: Charging,
    stats: &ModelStats,
    fate: Fate,
    used: Option<&Used>,
) -> Charges {
    RULES.map(|output| {
        let charging = Charging { output, ..charging };
        settled(&need(size, charging, stats, None), charging, fate, used).of(Dimension::TotalTokens)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MS, SECOND};

    const LIMIT: f64 = 3_000_000.0;

    /// One request each `every_ms`, of which all but the last one or two have ended; whoever else uses the account takes
    /// `stranger` with each tenth. The provider charges by the rule `truly` when it gets a request, says what is left
    /// in the head, and ends it a second after. Tells which rule is found.
    fn found(in_force: usize, truly: usize, every_ms: u64, stranger: f64) -> Option<OutputCharge> {
        let at = |ms: u64| Now { mono_ns: ms * MS, unix_ns: SECOND };
        let charges = |n: u64| {
            let input = (100 + 700 * (n % 7)) as f64;
            [input + 300.0, input.max(4_000.0), input + 4_000.0]
        };
        let bucket = Bucket::new(LIMIT, 5_000.0, 0);
        let mut theirs = bucket.clone();
        let mut rules = Rules::new(at(0));
        for n in 0..400 {
            let sent = n * every_ms;
            theirs.take(sent * MS, charges(n)[truly]);
            if n % 10 == 9 {
                theirs.take(sent * MS, stranger);
            }
            let left = theirs.level(sent * MS).max(0.0).floor();
            let in_flight = 1 + n.min(1_000 / every_ms);
            let open = (0..in_flight).map(|back| charges(n - back)[in_force]).sum();
            let reset_ns = Some(crate::time::ns_of((LIMIT - left) / 5_000.0));
            let said = Said { left, rounding: 1.0, reset_ns, sent_ns: sent * MS, open, since: 0.0 };
            let rule = rules.heard(at(sent + 20), &bucket, RULES[in_force], &said);
            if rule.is_some_and(|rule| rule != RULES[in_force]) {
                return rule;
            }
            if let Some(over) = n.checked_sub(1_000 / every_ms) {
                rules.ended(at(sent + 21), &bucket, &charges(over));
            }
        }
        None
    }

    #[test]
    fn the_providers_own_rule_is_found_whichever_is_in_force_and_the_right_one_is_kept() {
        for truly in 0..RULES.len() {
            // Somewhat more than comes back.
            let every_ms = [300, 700, 900][truly];
            for (in_force, rule) in RULES.iter().enumerate() {
                let expected = (in_force != truly).then(|| RULES[truly]);
                assert_eq!(found(in_force, truly, every_ms, 0.0), expected, "{rule:?}");
            }
        }
    }

    #[test]
    fn who_else_uses_the_account_is_not_taken_for_another_rule() {
        for stranger in [5_000.0, 70_000.0] {
            assert_eq!(found(0, 0, 500, stranger), None, "{stranger}");
        }
    }

    #[test]
    fn what_may_be_in_flight_is_no_evidence() {
        let bucket = Bucket::new(LIMIT, 0.0, 0);
        let now = Now { mono_ns: 1, unix_ns: 1 };
        let mut rules = Rules::new(now);
        let mut hear = |left, open, since| {
            let said = Said { left, rounding: 1.0, reset_ns: None, sent_ns: 1, open, since };
            rules.heard(now, &bucket, OutputCharge::MaxOfBoth, &said);
            rules.mirrors[1].moved
        };
        assert_eq!(hear(1_000_000.0, 4_000.0, 0.0).to_bits(), 0, "the first tells where it stands");
        // A hundred were sent; the answer may know of all, or was measured before them and ends after they began.
        assert_eq!(hear(600_000.0, 400_000.0, 0.0).to_bits(), 0);
        assert_eq!(hear(1_400_000.0, 400_000.0, 400_000.0).to_bits(), 0);
        assert!(hear(599_000.0, 400_000.0, 0.0) < -900.0);
        assert!(hear(1_500_000.0, 0.0, 0.0) > 400_000.0);
    }

    #[test]
    fn a_limit_that_is_hardly_used_tells_nothing() {
        for (in_force, rule) in RULES.iter().enumerate() {
            assert_eq!(found(in_force, 0, 20_000, 0.0), None, "{rule:?}");
        }
    }

    #[test]
    fn the_rule_that_is_adopted_comes_with_its_level_once() {
        let bucket = Bucket::new(LIMIT, 0.0, 0);
        let now = Now { mono_ns: 1, unix_ns: 1 };
        let mut rules = Rules::new(now);
        assert_eq!(rules.adopt(OutputCharge::SumOfBoth), None, "no answer has told where it stands");
        let said = Said { left: 9_000.0, rounding: 1.0, reset_ns: None, sent_ns: 1, open: 0.0, since: 0.0 };
        rules.heard(now, &bucket, OutputCharge::MaxOfBoth, &said);
        rules.ended(now, &bucket, &[100.0, 4_000.0, 5_000.0]);
        assert_eq!(rules.adopt(OutputCharge::SumOfBoth), Some(4_000.0));
        assert_eq!(rules.adopt(OutputCharge::MaxTokensRefunded), None, "it waits for the next answer");
    }
}
