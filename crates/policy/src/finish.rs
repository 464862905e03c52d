//! An attempt ended: settle what it held, judge it, and say what happens next.

use crate::Policy;
use crate::blame::{self, Class};
use crate::lease::{Lease, Next, Settled, Ticket};
use crate::outcome::{End, Evidence, Outcome, Phase, Sign};
use crate::pick::{Line, Scan};
use crate::poll::draws_on_budget;
use crate::quota::{Fate, Meter, estimate, rules};
use crate::refusal::{Refusal, RefusalKind};
use crate::request::{Last, Request};
use crate::time::{MS, Now, SECOND};

/// Pause before a new round over targets that all failed; doubled for each round.
const PAUSE_NS: u64 = 250 * MS;
/// Other accounts that are asked for a model that one does not know, or whose limits may be larger.
const ELSEWHERE_MAX: usize = 3;

impl Policy {
    /// An attempt ended: settles everything that the lease holds, and says what to do next.
    #[expect(clippy::needless_pass_by_value, reason = "the lease is spent")]
    pub fn finish(&mut self, now: Now, lease: Lease, mut outcome: Outcome) -> Next {
        let now = self.tick(now);
        if let End::Failed(evidence) = outcome.end {
            outcome.end = End::Failed(evidence.within_reason());
        }
        let Some(mut request) = self.requests.take(lease.slot) else {
            return Next::Done(Settled { blame: Some(Class::Local) });
        };
        if !std::mem::take(&mut request.flight.live) {
            self.requests.put_back(request);
            return Next::Done(Settled { blame: Some(Class::Local) });
        }
        let class = match &outcome.end {
            End::Done => None,
            End::Failed(evidence) => Some(blame::judge(evidence)),
            End::Dropped => Some(Class::Client),
        };
        self.learn_from(now, &mut request, &outcome, class);
        self.settle(now, &mut request, &outcome, class);
        let target = request.flight.target;
        let (account, key) = (self.pool.targets[target].account, self.pool.targets[target].key);
        let stale = match &outcome.end {
            End::Failed(evidence) if blame::is_stale(evidence) && !outcome.committed => {
                !request.same_key_retried
            }
            _ => false,
        };
        if let Some(class) = class {
            self.count_failed(target, class);
        }
        match &outcome.end {
            End::Done => self.went_well(now, &mut request),
            End::Failed(evidence) if !stale => {
                if evidence.status.is_some() {
                    self.pool.targets[target].silent = 0;
                }
                self.went_badly(now, &mut request, class.unwrap_or(Class::Local), evidence);
            }
            End::Failed(_) | End::Dropped => self.end_probes(now, &mut request),
        }
        self.count_out(&request.flight);
        self.release(account, Some(key));
        let next = match (&outcome.end, class) {
            (End::Failed(evidence), Some(class)) if !outcome.committed && class != Class::Client => {
                self.again(now, request, evidence, class, stale)
            }
            _ => self.done(request, class),
        };
        if let Some(model) = self.pool.targets.get(target).map(|t| t.model) {
            self.pool.forget_if_unused(model);
        }
        next
    }

    fn done(&mut self, request: Box<Request>, blame: Option<Class>) -> Next {
        self.totals.done += 1;
        self.close(request);
        Next::Done(Settled { blame })
    }

    fn learn_from(&mut self, now: Now, request: &mut Request, outcome: &Outcome, class: Option<Class>) {
        if let Some(took) =
            outcome.first_output_ns.filter(|_| !request.flight.first_output && class.is_none())
        {
            self.time_first_output(now, request, took);
        }
        let target = &self.pool.targets[request.flight.target];
        let stats = &mut self.pool.models[target.model].stats;
        if class.is_none() {
            stats.learn_turn(now.mono_ns.saturating_sub(request.flight.sent));
            if let Some(used) = &outcome.used {
                stats.learn(&request.ask.size, used);
            }
        }
    }

    /// Gives back what was not used. A call that goes on at the provider after its client left keeps its slot until
    /// it will probably be over.
    fn settle(&mut self, now: Now, request: &mut Request, outcome: &Outcome, class: Option<Class>) {
        let target = &self.pool.targets[request.flight.target];
        let charging = self.pool.provider(target.provider).charging;
        let turn = self.pool.models[target.model].stats.turn().ns;
        let fate = fate(outcome, class);
        let actual = estimate::settled(&request.flight.need, charging, fate, outcome.used.as_ref());
        let over = request.flight.sent.saturating_add(turn);
        let runs_on = class == Some(Class::Client)
            && charging.runs_on_after_cancel
            && fate == Fate::Broken
            && over > now.mono_ns;
        self.note_end(request, &actual, fate == Fate::Refused);
        let pool = &mut self.pool;
        let stats = &pool.models[pool.targets[request.flight.target].model].stats;
        for held in request.held.drain(..) {
            let domain = pool.domains.get_mut(held.domain).filter(|d| d.serial == held.serial);
            let Some(domain) = domain else { continue };
            if runs_on && matches!(domain.meter, Meter::Slots { .. }) {
                self.late.push(std::cmp::Reverse((over, held.domain, held.serial)));
                continue;
            }
            if let (Some(mirrors), Meter::Bucket(bucket)) = (&mut domain.rules, &domain.meter) {
                let (size, used) = (&request.ask.size, outcome.used.as_ref());
                mirrors.ended(now, bucket, &rules::charges(size, charging, stats, fate, used));
            }
            domain.settle(now, held.epoch, held.amount, actual.of(domain.dimension));
        }
    }

    /// A failed attempt of which the client has seen nothing.
    fn again(
        &mut self,
        now: Now,
        mut request: Box<Request>,
        evidence: &Evidence,
        class: Class,
        stale: bool,
    ) -> Next {
        let target = request.flight.target;
        let account = self.pool.targets[target].account;
        let seen = !matches!(class, Class::Quota | Class::Key | Class::Account | Class::Capacity);
        request.last =
            Some(Last { class, sign: evidence.sign, target, relayable: evidence.status.is_some() && seen });
        request.refusals += u32::from(class == Class::Quota);
        request.overloads += u32::from(class == Class::Capacity);
        if class == Class::Request {
            return self.elsewhere(now, request, evidence, account);
        }
        if request.spent() >= self.pool.settings.retry.attempts_max {
            return self.give_up(now, request);
        }
        if stale {
            request.same_key_retried = true;
            let scan = self.look(now, &request, Line::Front, Some(target));
            if let Some(best) = scan.best {
                return Next::Go(self.admit(now, request, &best, scan.skipped));
            }
        }
        let forbidden = request.forbidden.iter().any(|f| f.target == target);
        if forbidden || matches!(class, Class::Target | Class::Local) {
            request.tried.push(target);
        }
        request.avoid = Some(account);
        let mut scan = self.look(now, &request, Line::Front, None);
        let new_round = scan.best.is_none() && self.may_begin_round(&request, &scan);
        // A new round draws when its pause is over.
        if !new_round
            && (scan.best.is_some() || scan.wait.is_some())
            && draws_on_budget(class)
            && !self.may_retry(now, &mut request)
        {
            return self.wait_or_give_up(now, request, &scan);
        }
        if let Some(best) = scan.best {
            return Next::Go(self.admit(now, request, &best, std::mem::take(&mut scan.skipped)));
        }
        if new_round {
            let pause = self.rng.jitter(PAUSE_NS << (request.round - 1).min(6));
            request.place.not_before = now.mono_ns.saturating_add(pause);
            request.place.new_round = true;
        }
        if class == Class::Capacity && request.overloads >= self.pool.settings.retry.overloads_max {
            return self.give_up(now, request);
        }
        self.wait_or_give_up(now, request, &scan)
    }

    /// Draws on the retry budget; when it is spent, the request waits with its old place.
    fn may_retry(&mut self, now: Now, request: &mut Request) -> bool {
        let Err(at) = self.budget.draw(now.mono_ns, &self.pool.settings.retry) else { return true };
        request.place.not_before = at;
        if self.budget_said != at {
            self.budget_said = at;
            self.events.push(now, crate::event::What::RetryBudgetSpent);
        }
        false
    }

    /// All that could be tried in this round was, and another round is allowed.
    fn may_begin_round(&self, request: &Request, scan: &Scan) -> bool {
        let retriable = |target: &usize| request.forbidden.iter().all(|f| f.target != *target);
        scan.tried > 0
            && request.tried.iter().any(retriable)
            && request.round < self.pool.settings.retry.rounds_max
    }

    fn wait_or_give_up(&mut self, now: Now, request: Box<Request>, scan: &Scan) -> Next {
        match self.sit_down(now, request, scan, scan.try_at) {
            Ok((id, forecast_mono_ns)) => Next::Wait { ticket: Ticket(id), forecast_mono_ns },
            Err((request, _)) => self.give_up(now, request),
        }
    }

    /// Nothing more can be tried in time: the client gets the last answer if that is one for it to see.
    fn give_up(&mut self, now: Now, mut request: Box<Request>) -> Next {
        let Some(last) = request.last else { return self.done(request, Some(Class::Local)) };
        if last.relayable {
            return self.done(request, Some(last.class));
        }
        request.tried.clear();
        let scan = self.look(now, &request, Line::Behind, None);
        let mut refusal = self.refuse(now, &mut request, &scan);
        if self.draining {
            refusal = Refusal { kind: RefusalKind::Draining, retry_after_ns: None };
        } else if matches!(last.class, Class::Target | Class::Local | Class::Provider | Class::Request) {
            let after = refusal.retry_after_ns.map(|after| after.max(SECOND));
            refusal = Refusal { kind: self.exhausted(last), retry_after_ns: after };
        }
        self.totals.refused += 1;
        self.close(request);
        Next::Refuse(refusal)
    }

    /// The request's own fault: relayed, unless another account may know the model or have larger limits, or another
    /// provider be cheaper. Nobody's health is touched, and nothing waits.
    fn elsewhere(
        &mut self,
        now: Now,
        mut request: Box<Request>,
        evidence: &Evidence,
        account: crate::fleet::AccountId,
    ) -> Next {
        let too_dear = evidence.sign == Sign::TooDear;
        let walks = too_dear || matches!(evidence.sign, Sign::ModelUnknown | Sign::TooLargeForLimit);
        if too_dear {
            // Those behind a provider are the same for all its accounts.
            request.barred_models.push(self.pool.targets[request.flight.target].provider_model);
        } else {
            request.barred.push(account);
        }
        if !walks
            || request.barred.len() > ELSEWHERE_MAX
            || request.spent() >= self.pool.settings.retry.attempts_max
        {
            return self.done(request, Some(Class::Request));
        }
        let scan = self.look(now, &request, Line::Front, None);
        match scan.best {
            Some(best) if self.budget.draw(now.mono_ns, &self.pool.settings.retry).is_ok() => {
                Next::Go(self.admit(now, request, &best, scan.skipped))
            }
            _ => self.done(request, Some(Class::Request)),
        }
    }
}

/// What became of the attempt, as far as charging goes.
fn fate(outcome: &Outcome, class: Option<Class>) -> Fate {
    match &outcome.end {
        End::Done => Fate::Answered,
        End::Dropped => Fate::Broken,
        End::Failed(evidence) => match (evidence.phase, class) {
            (Phase::Connect, _) | (_, Some(Class::Local)) if evidence.status.is_none() => Fate::Unsent,
            (_, Some(Class::Quota)) => Fate::Refused,
            // Whether a call counts that found the model overloaded is told nowhere: only one that was turned away by a
            // limit, the model's own for all comers, surely does not.
            (_, Some(Class::Capacity)) if evidence.status == Some(429) => Fate::Refused,
            (Phase::Stream, _) | (_, Some(Class::Client)) => Fate::Broken,
            (Phase::Hold | Phase::Head, _) if evidence.status.is_none() => Fate::Broken,
            _ => Fate::Failed,
        },
    }
}
