//! The policy behind its one mutex, and the waiters that are parked beside it. The lock is never held over an await
//! and never while a waiter is handed its decision. A lease leaves here only inside [`Held`], whose drop settles it,
//! so that no path can leak a slot: not a panic, not a client that disconnects.

use crate::clock::Clock;
use crate::live::KeyEntry;
use keymux_policy::blame::Class;
use keymux_policy::checks::Found;
use keymux_policy::event::Event;
use keymux_policy::fleet::{Fleet, KeyId};
use keymux_policy::lease::Settled;
use keymux_policy::{
    Ask, Decision, End, Hang, Lease, Measurement, Next, Now, Outcome, Policy, Refusal, RefusalKind, Ticket,
    Woken,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};

/// The scheduler of this process.
pub struct Scheduler {
    core: Mutex<Core>,
    clock: Clock,
    /// When the alarm task will poll next (monotonic); `u64::MAX` while nobody waits.
    armed_mono_ns: AtomicU64,
    rearm: Notify,
    /// Rises when something is found to hang.
    hung: watch::Sender<u64>,
}

struct Core {
    policy: Policy,
    parked: HashMap<u64, oneshot::Sender<Answer>>,
    woken: Vec<Woken>,
    /// As last told to those who are asked about.
    hung: u64,
}

/// What the scheduler says to a request.
pub enum Answer {
    /// Go there now.
    Go(Held),
    /// Wait.
    Wait(Waiting),
    /// Not now.
    Refuse(Refusal),
    /// The attempt that just ended was the last: its answer is the request's.
    Done(Settled),
}

impl Scheduler {
    /// A scheduler over `fleet`.
    pub fn new(clock: Clock, fleet: Fleet, seed: u64) -> Arc<Self> {
        let policy = Policy::new(clock.now(), fleet, seed);
        let core = Core { policy, parked: HashMap::new(), woken: Vec::new(), hung: 0 };
        Arc::new(Self {
            core: Mutex::new(core),
            clock,
            armed_mono_ns: AtomicU64::new(u64::MAX),
            rearm: Notify::new(),
            hung: watch::Sender::new(0),
        })
    }

    /// The clock that the scheduler goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A request arrives.
    pub fn submit(self: &Arc<Self>, now: Now, ask: Ask) -> Answer {
        let (core, decision) = self.act_at(now, |policy, now| policy.submit(now, ask));
        self.answer(core, as_next(decision))
    }

    fn finish(self: &Arc<Self>, now: Now, lease: Lease, outcome: Outcome) -> Answer {
        let (core, next) = self.act_at(now, |policy, now| policy.finish(now, lease, outcome));
        self.answer(core, next)
    }

    fn cancel(self: &Arc<Self>, ticket: Ticket) {
        let (mut core, ()) = self.act(|policy, now| policy.cancel(now, ticket));
        let parked = core.parked.remove(&ticket.as_u64());
        self.release(core);
        drop(parked);
    }

    /// Replaces the configuration.
    pub fn reconfigure(self: &Arc<Self>, fleet: Fleet) {
        let (core, ()) = self.act(|policy, now| policy.reconfigure(now, fleet));
        self.release(core);
    }

    /// An operator says that a key works: its bench and its breakers are lifted.
    pub fn restore(self: &Arc<Self>, key: KeyId) {
        let (core, ()) = self.act(|policy, now| policy.restore(now, key));
        self.release(core);
    }

    /// A round of checks has ended.
    pub fn checked(self: &Arc<Self>, round: &[Found]) {
        let (core, ()) = self.act(|policy, now| policy.checked(now, round));
        self.release(core);
    }

    /// A check found out whose a key is.
    pub fn owned_by(self: &Arc<Self>, key: KeyId, owner: u64) {
        let (core, ()) = self.act(|policy, now| policy.owned_by(now, key, owner));
        self.release(core);
    }

    /// Benched keys that live requests will probe before so much time has passed.
    pub fn due_for_check(&self, within_ns: u64) -> Vec<KeyId> {
        let now = self.clock.now();
        self.lock().policy.due_for_check(now, within_ns)
    }

    /// The same for one model of it, and nothing else. Tells whether the key has anything to do with the model.
    pub fn restore_model(self: &Arc<Self>, key: KeyId, model: &str) -> bool {
        let (core, known) = self.act(|policy, now| policy.restore_model(now, key, model));
        self.release(core);
        known
    }

    /// Attempts of this key that are in flight.
    pub fn in_flight(&self, key: KeyId) -> u32 {
        self.lock().policy.in_flight(key)
    }

    /// From now on nobody waits; who waits is refused.
    pub fn drain(self: &Arc<Self>) {
        let (core, ()) = self.act(Policy::drain);
        self.release(core);
    }

    /// Runs a verb, then lets out whom it set free: the policy says so by a wake that is due.
    fn act<T>(&self, verb: impl FnOnce(&mut Policy, Now) -> T) -> (MutexGuard<'_, Core>, T) {
        self.act_at(self.clock.now(), verb)
    }

    /// Likewise, by a clock that was read just now. The policy's own time never goes back.
    fn act_at<T>(&self, now: Now, verb: impl FnOnce(&mut Policy, Now) -> T) -> (MutexGuard<'_, Core>, T) {
        let mut core = self.lock();
        let Core { policy, woken, .. } = &mut *core;
        let said = verb(policy, now);
        if policy.next_wake().is_some_and(|wake| wake <= now.mono_ns) {
            policy.poll(now, woken);
        }
        (core, said)
    }

    /// Requests in the waiting room.
    pub fn waiting(&self) -> usize {
        self.lock().policy.waiting()
    }

    /// The state of everything, for people.
    pub fn view(&self) -> keymux_policy::View {
        let now = self.clock.now();
        self.lock().policy.view(now)
    }

    /// Who is out now.
    pub fn troubles(&self) -> keymux_policy::Troubles {
        let now = self.clock.now();
        self.lock().policy.troubles(now)
    }

    /// By how much estimates of the input were off lately, as a share of what was reported.
    pub fn input_error(&self) -> Option<f64> {
        self.lock().policy.input_error()
    }

    /// The levels and clocks of all limits, for the next process.
    pub fn save(&self) -> keymux_policy::saved::Saved {
        let now = self.clock.now();
        self.lock().policy.save(now)
    }

    /// Takes in what the last process saved.
    pub fn resume(self: &Arc<Self>, saved: &keymux_policy::saved::Saved) {
        let (core, ()) = self.act(|policy, now| policy.resume(now, saved));
        self.release(core);
    }

    /// Hands over the events since the last call.
    pub fn take_events(&self, out: &mut Vec<Event>) {
        self.lock().policy.take_events(out);
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the policy's word into ours, parks a waiter, and lets out whom the verb set free.
    fn answer(self: &Arc<Self>, mut core: MutexGuard<'_, Core>, next: Next) -> Answer {
        let answer = match next {
            Next::Done(settled) => Answer::Done(settled),
            Next::Go(lease) => Answer::Go(Held::new(self, lease)),
            Next::Refuse(refusal) => Answer::Refuse(refusal),
            Next::Wait { ticket, forecast_mono_ns } => {
                let (tx, rx) = oneshot::channel();
                core.parked.insert(ticket.as_u64(), tx);
                Answer::Wait(Waiting { scheduler: self.clone(), ticket: Some(ticket), rx, forecast_mono_ns })
            }
        };
        self.release(core);
        answer
    }

    /// Unlocks, then hands each woken waiter its decision: a receiver that is gone drops its lease, which takes the
    /// lock again.
    fn release(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        let wake = core.policy.next_wake().unwrap_or(u64::MAX);
        self.arm(wake);
        let hung = core.policy.hung();
        if std::mem::replace(&mut core.hung, hung) != hung {
            self.hung.send_replace(hung);
        }
        if core.woken.is_empty() {
            return;
        }
        let woken: Vec<_> = core.woken.drain(..).collect();
        let handed: Vec<_> =
            woken.into_iter().map(|w| (core.parked.remove(&w.ticket.as_u64()), w.decision)).collect();
        drop(core);
        for (parked, decision) in handed {
            let answer = match decision {
                Decision::Go(lease) => Answer::Go(Held::new(self, lease)),
                Decision::Refuse(refusal) => Answer::Refuse(refusal),
                // A woken waiter is let out, never parked again.
                Decision::Wait { .. } => continue,
            };
            if let Some(parked) = parked {
                // An error gives the answer back, and dropping it settles its lease.
                drop(parked.send(answer));
            }
        }
    }

    /// Called under the lock, or a later wake could overwrite an earlier one.
    fn arm(&self, wake_mono_ns: u64) {
        // Under the lock it is as it was left: mostly nobody waits, and nothing has to be said.
        if self.armed_mono_ns.load(Ordering::Acquire) == wake_mono_ns {
            return;
        }
        if self.armed_mono_ns.swap(wake_mono_ns, Ordering::AcqRel) > wake_mono_ns {
            self.rearm.notify_one();
        }
    }

    /// Polls the policy when its next wake is due, for ever. One task on the control runtime.
    pub async fn alarm(self: Arc<Self>) {
        loop {
            let at = self.armed_mono_ns.load(Ordering::Acquire);
            let rearmed = self.rearm.notified();
            if at == u64::MAX {
                rearmed.await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.at(at)) => {
                    // What is due is let out by any verb, be it none.
                    let (core, ()) = self.act(|_, _| ());
                    self.release(core);
                }
                () = rearmed => {}
            }
        }
    }
}

fn as_next(decision: Decision) -> Next {
    match decision {
        Decision::Go(lease) => Next::Go(lease),
        Decision::Wait { ticket, forecast_mono_ns } => Next::Wait { ticket, forecast_mono_ns },
        Decision::Refuse(refusal) => Next::Refuse(refusal),
    }
}

/// An admitted request's lease. Dropped without [`Held::finish`], it settles itself.
pub struct Held {
    scheduler: Arc<Scheduler>,
    // Handed on from step to step, so it lies still.
    lease: Option<Box<Lease>>,
    /// Whose counters tell of it should it be dropped.
    key: Option<Arc<KeyEntry>>,
}

impl Held {
    fn new(scheduler: &Arc<Scheduler>, lease: Lease) -> Self {
        Self { scheduler: scheduler.clone(), lease: Some(Box::new(lease)), key: None }
    }

    /// The attempt begins with this key.
    pub fn begins(&mut self, key: &Arc<KeyEntry>) {
        self.key = Some(key.clone());
    }

    /// What was granted.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_deref()
    }

    /// The head of the answer came.
    pub fn head(&self, measured: &[Measurement]) {
        if let Some(lease) = &self.lease {
            let (core, ()) = self.scheduler.act(|policy, now| policy.head(now, lease, measured));
            self.scheduler.release(core);
        }
    }

    /// The answer's head names the owner of the key.
    pub fn owned_by(&self, owner: u64) {
        if let Some(lease) = &self.lease {
            let (core, ()) = self.scheduler.act(|policy, now| policy.owned_by(now, lease.key, owner));
            self.scheduler.release(core);
        }
    }

    /// The first output came.
    pub fn first_output(&self) {
        if let Some(lease) = &self.lease {
            let (core, ()) = self.scheduler.act(|policy, now| policy.first_output(now, lease));
            self.scheduler.release(core);
        }
    }

    /// Whether the attempt, of whose answer nothing has come, had better be given up.
    pub fn hangs(&self) -> Hang {
        let Some(lease) = &self.lease else { return Hang::Unknown };
        let (core, said) = self.scheduler.act(|policy, now| policy.hangs(now, lease));
        self.scheduler.release(core);
        said
    }

    /// Changes when it is worth asking again whether the attempt hangs.
    pub fn found_hanging(&self) -> watch::Receiver<u64> {
        self.scheduler.hung.subscribe()
    }

    /// The attempt ended.
    pub fn finish(self, outcome: Outcome) -> Answer {
        let now = self.scheduler.clock.now();
        self.finish_at(now, outcome)
    }

    /// The attempt ended just now.
    pub fn finish_at(mut self, now: Now, outcome: Outcome) -> Answer {
        match self.lease.take() {
            Some(lease) => self.scheduler.finish(now, *lease, outcome),
            None => Answer::Done(Settled { blame: None }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let outcome = Outcome { end: End::Dropped, used: None, committed: true, first_output_ns: None };
            drop(self.scheduler.finish(self.scheduler.clock.now(), *lease, outcome));
            if let Some(key) = &self.key {
                key.counters.attempt(Some(Class::Client));
            }
        }
    }
}

/// A place in the waiting room. Dropped, it is given up.
pub struct Waiting {
    scheduler: Arc<Scheduler>,
    ticket: Option<Ticket>,
    rx: oneshot::Receiver<Answer>,
    /// When it will probably go (monotonic).
    pub forecast_mono_ns: u64,
}

impl Waiting {
    /// Waits for the decision.
    pub async fn decided(mut self) -> Answer {
        match (&mut self.rx).await {
            Ok(answer) => {
                self.ticket = None;
                answer
            }
            // The scheduler is gone: the process is ending.
            Err(_) => Answer::Refuse(Refusal { kind: RefusalKind::Draining, retry_after_ns: None }),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.scheduler.cancel(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keymux_policy::fleet::{
        AccountId, AccountSpec, Charging, Dimension, Endpoint, EndpointSet, KeyId, KeySpec, LimitSpec,
        ModelSet, OutputCharge, ProviderId, ProviderSpec, Shape,
    };
    use keymux_policy::{ClientId, Destination, Priority, Size, TeamId};

    /// One key that takes one request at a time.
    fn one_slot() -> Fleet {
        limited(Dimension::Concurrent, Shape::Slots { limit: 1 })
    }

    /// One key with one limit.
    fn limited(dimension: Dimension, shape: Shape) -> Fleet {
        let (provider, account) = (ProviderId(0), AccountId(0));
        let charging = Charging {
            output: OutputCharge::AsProduced,
            cached_input_free: false,
            refused_count: false,
            runs_on_after_cancel: false,
        };
        let limit = LimitSpec { dimension, shape, models: ModelSet::default(), preset: false };
        Fleet {
            providers: vec![ProviderSpec {
                id: provider,
                name: "p".into(),
                endpoints: EndpointSet::of(&[Endpoint::ChatCompletions]),
                charging,
            }],
            accounts: vec![AccountSpec {
                id: account,
                provider,
                name: "a".into(),
                named: false,
                limits: vec![limit],
            }],
            keys: vec![KeySpec {
                id: KeyId(0),
                account,
                provider,
                name: "k".into(),
                weight: 1.0,
                enabled: true,
                secret: 0,
                models: ModelSet::default(),
                limits: Vec::new(),
            }],
            ..Fleet::default()
        }
    }

    fn ask(scheduler: &Scheduler, wait_ms: u64) -> Ask {
        Ask {
            to: Destination::Adhoc { provider: ProviderId(0), model: "m".into() },
            endpoint: Endpoint::ChatCompletions,
            client: ClientId::default(),
            team: TeamId::default(),
            class: Priority::Normal,
            weight: 1.0,
            deadline_mono_ns: scheduler.clock.mono_ns() + wait_ms * 1_000_000,
            size: Size::default(),
            cost_max_nano_usd: None,
            session: None,
            bound_to: None,
            allowed: None,
            providers: None,
            stream: false,
        }
    }

    fn go(answer: Answer) -> Held {
        match answer {
            Answer::Go(held) => held,
            _ => panic!("not let through"),
        }
    }

    fn wait(answer: Answer) -> Waiting {
        match answer {
            Answer::Wait(waiting) => waiting,
            _ => panic!("not told to wait"),
        }
    }

    fn in_flight(scheduler: &Scheduler) -> u32 {
        scheduler.view().providers.iter().map(|p| p.in_flight).sum()
    }

    #[test]
    fn a_lease_that_is_dropped_frees_its_slot_and_wakes_who_waits() {
        crate::rt::single().unwrap().block_on(async {
            let scheduler = Scheduler::new(Clock::start(), one_slot(), 1);
            let held = go(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            let waiting = wait(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            drop(held);
            assert_eq!((in_flight(&scheduler), scheduler.waiting()), (1, 0), "or nobody would ever call it");
            let held = go(waiting.decided().await);
            drop(held);
            assert_eq!(in_flight(&scheduler), 0);
        });
    }

    #[test]
    fn a_waiter_that_goes_away_leaves_the_room_and_a_decision_nobody_takes_is_settled() {
        let scheduler = Scheduler::new(Clock::start(), one_slot(), 1);
        let held = go(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
        let gone = wait(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
        let late = wait(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
        drop(gone);
        assert_eq!(scheduler.waiting(), 1);
        // The slot goes to `late`, which is dropped with its decision unread.
        drop(held);
        assert_eq!(in_flight(&scheduler), 1);
        drop(late);
        assert_eq!((in_flight(&scheduler), scheduler.waiting()), (0, 0));
    }

    #[test]
    fn the_alarm_lets_out_who_waits_for_nothing_but_time() {
        crate::rt::single().unwrap().block_on(async {
            let window = Shape::Window { limit: 1.0, period_ns: 50_000_000, anchor_unix_ns: None };
            let scheduler = Scheduler::new(Clock::start(), limited(Dimension::Requests, window), 1);
            drop(crate::rt::spawn(scheduler.clone().alarm()));
            let first = go(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            let waiting = wait(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            // No verb but the alarm's own can let it out: the first lease is held all the time.
            drop(go(waiting.decided().await));
            drop(first);
        });
    }

    #[test]
    fn draining_refuses_who_waits_and_who_comes() {
        crate::rt::single().unwrap().block_on(async {
            let scheduler = Scheduler::new(Clock::start(), one_slot(), 1);
            let _held = go(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            let waiting = wait(scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)));
            scheduler.drain();
            assert!(matches!(waiting.decided().await, Answer::Refuse(_)));
            assert!(matches!(
                scheduler.submit(scheduler.clock.now(), ask(&scheduler, 60_000)),
                Answer::Refuse(_)
            ));
        });
    }
}
