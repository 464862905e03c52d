//! The lines of clients behind their one mutex, and the waiters that are parked beside it: what `scheduler.rs` is to
//! the policy. What a request took leaves here only inside [`Passed`], whose drop gives it back.

use super::Dues;
use crate::clock::Clock;
use keymux_policy::Now;
use keymux_policy::budget::{BudgetView, Charge, Owner, Payers, Spent};
use keymux_policy::tenants::{Admission, Called, Denial, Entered, Paid, Tenants, Turn, Want};
use keymux_policy::throttle::Standing;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// The limits and budgets of this process.
pub struct Turnstile {
    core: Mutex<Core>,
    clock: Clock,
    /// What was spent before this process is known, or there is no ledger that knows.
    spend_known: AtomicBool,
    /// When the alarm will poll next (monotonic); `u64::MAX` while nobody waits for a time.
    armed_mono_ns: AtomicU64,
    rearm: Notify,
}

#[derive(Default)]
struct Core {
    tenants: Tenants,
    parked: HashMap<Turn, oneshot::Sender<Result<Passed, Denial>>>,
    called: Vec<Called>,
}

/// What the turnstile says to a request.
pub enum Entry {
    /// It may begin.
    Go(Passed),
    /// It waits.
    Wait(Waiting),
    /// It may not.
    Refuse(Denial),
}

impl Turnstile {
    /// One without clients. `stored`: there is a ledger, and what it says of earlier spending is still to come.
    pub fn new(clock: Clock, stored: bool) -> Arc<Self> {
        Arc::new(Self {
            core: Mutex::default(),
            clock,
            spend_known: AtomicBool::new(!stored),
            armed_mono_ns: AtomicU64::new(u64::MAX),
            rearm: Notify::new(),
        })
    }

    /// Gives everybody their limits and budgets.
    pub fn set(self: &Arc<Self>, dues: &[Dues]) {
        let core = self.act(|tenants, now, _| {
            for due in dues {
                tenants.set(now, due.owner, &due.limits, due.budget);
            }
        });
        self.release(core.0);
    }

    /// What was spent before this process.
    pub fn restore(self: &Arc<Self>, spent: &[(Owner, Spent)]) {
        let (core, ()) = self.act(|tenants, now, _| {
            for (owner, spent) in spent {
                tenants.restore_spent(now, *owner, *spent);
            }
        });
        self.spend_known.store(true, Ordering::Release);
        self.release(core);
    }

    /// Whether budgets can be held to: what was spent before is known.
    pub fn knows_spend(&self) -> bool {
        self.spend_known.load(Ordering::Acquire)
    }

    /// A request wants to begin.
    pub fn enter(self: &Arc<Self>, want: Want) -> Entry {
        let (mut core, entered) = self.act(|tenants, now, _| tenants.enter(now, want));
        let entry = match entered {
            Entered::Go(admission) => Entry::Go(Passed::new(self, admission)),
            Entered::Refuse(denial) => Entry::Refuse(denial),
            Entered::Wait(turn) => {
                let (tx, rx) = oneshot::channel();
                core.parked.insert(turn, tx);
                Entry::Wait(Waiting { turnstile: self.clone(), turn: Some(turn), rx })
            }
        };
        self.release(core);
        entry
    }

    /// From now on nobody waits; who waits is refused.
    pub fn drain(self: &Arc<Self>) {
        let (core, ()) = self.act(|tenants, _, called| tenants.drain(called));
        self.release(core);
    }

    /// How the limits of requests and tokens stand that bind a client first.
    pub fn standing(&self, payers: Payers) -> Vec<Standing> {
        let now = self.clock.now();
        self.lock().tenants.standing(now, payers)
    }

    /// How a budget stands; `None`: there is no such owner.
    pub fn budget(&self, owner: Owner) -> Option<BudgetView> {
        let now = self.clock.now();
        self.lock().tenants.budget(now, owner)
    }

    /// What all budgets of a client can pay for once everything that is held is refunded; `None`: they have no limit.
    pub fn affordable(&self, payers: Payers) -> Option<u64> {
        let now = self.clock.now();
        self.lock().tenants.affordable(now, payers)
    }

    /// Requests that wait here.
    pub fn waiting(&self) -> usize {
        self.lock().tenants.waiting()
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a verb, then calls whom it set free.
    fn act<T>(
        &self,
        verb: impl FnOnce(&mut Tenants, Now, &mut Vec<Called>) -> T,
    ) -> (MutexGuard<'_, Core>, T) {
        let now = self.clock.now();
        let mut core = self.lock();
        let Core { tenants, called, .. } = &mut *core;
        let said = verb(tenants, now, called);
        if tenants.next_wake().is_some_and(|wake| wake <= now.mono_ns) {
            tenants.poll(now, called);
        }
        (core, said)
    }

    /// Unlocks, then hands each waiter that was called its word: a receiver that is gone drops its admission, which
    /// takes the lock again.
    fn release(self: &Arc<Self>, mut core: MutexGuard<'_, Core>) {
        let wake = core.tenants.next_wake().unwrap_or(u64::MAX);
        // Under the lock, or a later wake could overwrite an earlier one.
        if self.armed_mono_ns.swap(wake, Ordering::AcqRel) > wake {
            self.rearm.notify_one();
        }
        if core.called.is_empty() {
            return;
        }
        let called: Vec<_> = core.called.drain(..).collect();
        let handed: Vec<_> =
            called.into_iter().map(|called| (core.parked.remove(&called.turn), called.said)).collect();
        drop(core);
        for (parked, said) in handed {
            let said = said.map(|admission| Passed::new(self, admission));
            if let Some(parked) = parked {
                // An error gives the word back, and dropping it gives back what it holds.
                drop(parked.send(said));
            }
        }
    }

    /// Calls waiters when their time has come, for ever. One task on the control runtime.
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
                    let (core, ()) = self.act(|_, _, _| ());
                    self.release(core);
                }
                () = rearmed => {}
            }
        }
    }
}

/// What a request took of its limits and budgets. Dropped, it never began, and all of it comes back.
pub struct Passed {
    turnstile: Arc<Turnstile>,
    admission: Option<Admission>,
}

impl Passed {
    fn new(turnstile: &Arc<Turnstile>, admission: Admission) -> Self {
        Self { turnstile: turnstile.clone(), admission: Some(admission) }
    }

    /// The instant whose budget periods bear the cost, in milliseconds since 1970.
    pub fn opened_unix_ms(&self) -> u64 {
        self.admission.as_ref().map_or(0, |admission| admission.opened().unix_ns / 1_000_000)
    }

    /// Whether money is held.
    pub fn holds_money(&self) -> bool {
        self.admission.as_ref().is_some_and(Admission::holds_money)
    }

    /// The request is over, having used so many tokens (`None`: nobody knows).
    pub fn leave(mut self, used_tokens: Option<f64>, charge: Charge) -> Paid {
        let Some(admission) = self.admission.take() else { return Paid::default() };
        let (core, paid) =
            self.turnstile.act(|tenants, now, _| tenants.leave(now, admission, used_tokens, charge));
        self.turnstile.release(core);
        paid
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            let (core, ()) = self.turnstile.act(|tenants, now, _| tenants.give_back(now, admission));
            self.turnstile.release(core);
        }
    }
}

/// A place in a line. Dropped, it is given up.
pub struct Waiting {
    turnstile: Arc<Turnstile>,
    turn: Option<Turn>,
    rx: oneshot::Receiver<Result<Passed, Denial>>,
}

impl Waiting {
    /// Waits for the word.
    pub async fn called(mut self) -> Result<Passed, Denial> {
        match (&mut self.rx).await {
            Ok(said) => {
                self.turn = None;
                said
            }
            // The turnstile is gone: the process is ending.
            Err(_) => Err(Denial::Draining),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            let (mut core, ()) = self.turnstile.act(|tenants, _, _| tenants.cancel(turn));
            let parked = core.parked.remove(&turn);
            self.turnstile.release(core);
            drop(parked);
        }
    }
}
