//! Lines of clients and teams: one behaviour each, then at random against limits that are simply counted.

use super::*;
use crate::ask::{ClientId, TeamId};
use crate::budget::Reset;
use crate::fleet::{Dimension, ModelSet, Shape};
use crate::time::{MINUTE, MS};
use proptest::prelude::*;

const TEAM: Owner = Owner::Team(TeamId(1));

fn at(mono_ns: u64) -> Now {
    Now { mono_ns, unix_ns: mono_ns }
}

fn client(n: u64) -> Owner {
    Owner::Client(ClientId(n))
}

fn spec(dimension: Dimension, shape: Shape) -> LimitSpec {
    LimitSpec { dimension, shape, models: ModelSet::default(), preset: false }
}

fn a_minute(dimension: Dimension, n: f64) -> LimitSpec {
    spec(dimension, Shape::Bucket { capacity: n, refill_per_s: n / 60.0 })
}

fn slots(limit: u32) -> LimitSpec {
    spec(Dimension::Concurrent, Shape::Slots { limit })
}

fn money(limit: u64) -> Budget {
    Budget { limit_nano_usd: Some(limit), reset: Reset::Never }
}

fn free() -> Budget {
    Budget::default()
}

/// Of client `n` in the team, for so many tokens, until so many seconds.
fn want(n: u64, tokens: f64, until_s: u64) -> Want {
    let payers = Payers { client: ClientId(n), team: Some(TeamId(1)) };
    Want { payers, tokens, bound_nano_usd: None, deadline_mono_ns: until_s * SECOND }
}

fn paid(n: u64, bound: u64, until_s: u64) -> Want {
    Want { bound_nano_usd: Some(bound), ..want(n, 1.0, until_s) }
}

/// Two clients of one team.
fn tenants(one: &[LimitSpec], team: &[LimitSpec]) -> Tenants {
    let mut tenants = Tenants::default();
    tenants.set(at(0), client(1), one, Some(free()));
    tenants.set(at(0), client(2), &[], Some(free()));
    tenants.set(at(0), TEAM, team, Some(free()));
    tenants.poll(at(0), &mut Vec::new());
    tenants
}

#[track_caller]
fn go(tenants: &mut Tenants, now: Now, want: Want) -> Admission {
    match tenants.enter(now, want) {
        Entered::Go(admission) => admission,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn wait(tenants: &mut Tenants, now: Now, want: Want) -> Turn {
    match tenants.enter(now, want) {
        Entered::Wait(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn denied(tenants: &mut Tenants, now: Now, want: Want) -> Denial {
    match tenants.enter(now, want) {
        Entered::Refuse(denial) => denial,
        other => panic!("{other:?}"),
    }
}

fn poll(tenants: &mut Tenants, now: Now) -> Vec<Called> {
    let mut called = Vec::new();
    tenants.poll(now, &mut called);
    called
}

fn done(tenants: &mut Tenants, now: Now, admission: Admission) -> Vec<Called> {
    let _ = tenants.leave(now, admission, None, Charge::Nothing);
    poll(tenants, now)
}

#[track_caller]
fn only(called: Vec<Called>, turn: Turn) -> Result<Admission, Denial> {
    let mut called = called.into_iter();
    let (Some(one), None) = (called.next(), called.next()) else { panic!("not one") };
    assert_eq!(one.turn, turn);
    one.said
}

#[test]
fn a_slot_goes_to_who_waits_longest_and_a_newcomer_does_not_pass() {
    let mut t = tenants(&[slots(1)], &[]);
    let held = go(&mut t, at(0), want(1, 1.0, 60));
    let first = wait(&mut t, at(1), want(1, 1.0, 60));
    let second = wait(&mut t, at(2), want(1, 1.0, 60));
    // Another client of the team is not kept by them.
    drop(go(&mut t, at(3), want(2, 1.0, 60)));
    let first = only(done(&mut t, at(4), held), first).unwrap();
    let late = wait(&mut t, at(5), want(1, 1.0, 60));
    let second = only(done(&mut t, at(6), first), second).unwrap();
    drop(only(done(&mut t, at(7), second), late).unwrap());
}

#[test]
fn a_large_request_is_not_starved_by_small_ones_of_its_owner() {
    let mut t = tenants(&[a_minute(Dimension::TotalTokens, 600.0)], &[]);
    let all = go(&mut t, at(0), want(1, 600.0, 600));
    let _ = done(&mut t, at(0), all);
    let large = wait(&mut t, at(0), want(1, 300.0, 600));
    // A token would be there after a tenth of a second, but it is the large one's.
    let small = wait(&mut t, at(SECOND), want(1, 1.0, 600));
    assert!(poll(&mut t, at(29 * SECOND)).is_empty());
    let due = t.next_wake().unwrap();
    assert!(due.abs_diff(30 * SECOND) < 100 * MS, "{due}");
    drop(only(poll(&mut t, at(due)), large).unwrap());
    let due = t.next_wake().unwrap();
    drop(only(poll(&mut t, at(due)), small).unwrap());
}

#[test]
fn whose_time_lies_past_the_deadline_hears_so_at_once_and_the_time_is_true() {
    let mut t = tenants(&[a_minute(Dimension::Requests, 60.0)], &[]);
    for _ in 0..60 {
        if let Entered::Go(admission) = t.enter(at(0), want(1, 1.0, 0)) {
            let _ = done(&mut t, at(0), admission);
        }
    }
    let Denial::Limit { short, retry_after_ns } = denied(&mut t, at(0), want(1, 1.0, 0)) else { panic!() };
    assert_eq!((short.owner, short.dimension), (client(1), Dimension::Requests));
    // Five wait: the sixth is told of a time behind all of them.
    for _ in 0..5 {
        wait(&mut t, at(0), want(1, 1.0, 600));
    }
    let Denial::Limit { retry_after_ns: behind, .. } = denied(&mut t, at(0), want(1, 1.0, 1)) else {
        panic!()
    };
    assert!(behind.abs_diff(retry_after_ns + 5 * SECOND) < 100 * MS, "{behind} {retry_after_ns}");
    let mut now = 0;
    while let Some(due) = t.next_wake().filter(|_| t.waiting() > 0) {
        now = due;
        for called in poll(&mut t, at(now)) {
            let admission = called.said.unwrap();
            let _ = t.leave(at(now), admission, None, Charge::Nothing);
        }
    }
    assert!(now <= 5 * SECOND + 100 * MS);
    // The told time holds, and a little earlier does not.
    assert!(matches!(t.enter(at(behind - 200 * MS), want(1, 1.0, 0)), Entered::Refuse(_)));
    drop(go(&mut t, at(behind + MS), want(1, 1.0, 0)));
}

#[test]
fn what_is_short_for_open_holds_waits_for_refunds_and_what_cannot_be_paid_is_refused() {
    let mut t = tenants(&[], &[]);
    t.set(at(0), client(1), &[slots(3)], Some(money(100)));
    let one = go(&mut t, at(0), paid(1, 100, 60));
    let waits = wait(&mut t, at(0), paid(1, 60, 60));
    assert!(
        matches!(denied(&mut t, at(0), paid(1, 101, 60)), Denial::Unaffordable(r) if r.left_nano_usd == 100)
    );
    assert!(matches!(denied(&mut t, at(0), paid(1, 1, 0)), Denial::Held { owner, .. } if owner == client(1)));
    let paid_out = t.leave(at(1), one, None, Charge::Cost(30));
    assert_eq!(paid_out.charged_nano_usd, 30);
    let second = only(poll(&mut t, at(1)), waits).unwrap();
    let third = wait(&mut t, at(1), paid(1, 20, 60));
    // It waits for 10 of the 60; they are spent, so nothing can pay for it any more.
    let _ = t.leave(at(2), second, None, Charge::Cost(60));
    assert!(
        matches!(only(poll(&mut t, at(2)), third), Err(Denial::Unaffordable(r)) if r.left_nano_usd == 10)
    );
    assert_eq!(t.budget(at(2), client(1)).unwrap().spent_nano_usd, 90);
}

#[test]
fn of_200_at_once_against_a_budget_for_ten_ten_go_and_190_are_refused() {
    let mut t = tenants(&[], &[]);
    t.set(at(0), client(1), &[], Some(money(1_000)));
    let mut open = Vec::new();
    for _ in 0..200 {
        match t.enter(at(0), paid(1, 100, 60)) {
            Entered::Go(admission) => open.push(admission),
            Entered::Wait(_) => {}
            Entered::Refuse(denial) => panic!("{denial:?}"),
        }
    }
    assert_eq!((open.len(), t.waiting()), (10, 190));
    let mut refused = 0;
    for admission in open {
        let _ = t.leave(at(1), admission, None, Charge::Cost(100));
        for called in poll(&mut t, at(1)) {
            assert!(matches!(called.said, Err(Denial::Unaffordable(r)) if r.left_nano_usd == 0));
            refused += 1;
        }
    }
    assert_eq!((refused, t.waiting()), (190, 0));
    assert_eq!(t.budget(at(1), client(1)).unwrap().spent_nano_usd, 1_000);
}

#[test]
fn a_deadline_ends_the_wait_and_who_goes_away_leaves_nothing_behind() {
    let mut t = tenants(&[slots(1)], &[]);
    let held = go(&mut t, at(0), want(1, 1.0, 60));
    let first = wait(&mut t, at(0), want(1, 1.0, 10));
    let gone = wait(&mut t, at(0), want(1, 1.0, 60));
    let third = wait(&mut t, at(0), want(1, 1.0, 60));
    t.cancel(gone);
    t.cancel(gone);
    assert_eq!(t.next_wake(), Some(0));
    assert!(poll(&mut t, at(0)).is_empty());
    assert_eq!(t.next_wake(), Some(10 * SECOND));
    let said = only(poll(&mut t, at(10 * SECOND)), first);
    assert!(matches!(said, Err(Denial::Limit { retry_after_ns: 1.., .. })));
    drop(only(done(&mut t, at(11 * SECOND), held), third).unwrap());
    assert_eq!((t.waiting(), t.next_wake()), (0, None));
}

#[test]
fn what_never_began_costs_nothing_not_even_a_request() {
    let mut t = tenants(&[a_minute(Dimension::Requests, 60.0), a_minute(Dimension::TotalTokens, 600.0)], &[]);
    let one = go(&mut t, at(0), paid(1, 5, 60));
    let full: Vec<f64> = t.standing(at(0), want(1, 1.0, 0).payers).iter().map(|s| s.remaining).collect();
    t.give_back(at(0), one);
    let left: Vec<f64> = t.standing(at(0), want(1, 1.0, 0).payers).iter().map(|s| s.remaining).collect();
    assert_eq!((full, left), (vec![59.0, 599.0], vec![60.0, 600.0]));
    assert_eq!(t.budget(at(0), client(1)).unwrap().held_nano_usd, 0);
}

#[test]
fn a_higher_limit_and_a_reset_let_out_who_waits() {
    let mut t = tenants(&[slots(1)], &[]);
    let _held = go(&mut t, at(0), want(1, 1.0, 60));
    let waits = wait(&mut t, at(0), want(1, 1.0, 60));
    t.set(at(1), client(1), &[slots(2)], Some(free()));
    assert_eq!(t.next_wake(), Some(0));
    drop(only(poll(&mut t, at(1)), waits).unwrap());
    // Money that is held over midnight takes nothing from the new day.
    let daily = Some(Budget { limit_nano_usd: Some(10), reset: Reset::Daily });
    let late = crate::time::DAY - SECOND;
    t.set(at(late), client(2), &[], daily);
    let _held = go(&mut t, at(late), paid(2, 10, 1_000_000));
    let waits = wait(&mut t, at(late), paid(2, 10, 1_000_000));
    let _ = poll(&mut t, at(late));
    assert_eq!(t.next_wake(), Some(crate::time::DAY));
    drop(only(poll(&mut t, at(crate::time::DAY)), waits).unwrap());
}

#[test]
fn one_that_is_gone_may_not_begin_and_a_drain_sends_everybody_away() {
    let mut t = tenants(&[slots(1)], &[]);
    let _held = go(&mut t, at(0), want(1, 1.0, 60));
    let waits = wait(&mut t, at(0), want(1, 1.0, 60));
    let mut called = Vec::new();
    t.drain(&mut called);
    assert!(matches!(only(called, waits), Err(Denial::Draining)));
    assert!(matches!(denied(&mut t, at(0), want(2, 1.0, 60)), Denial::Draining));
    let mut t = tenants(&[], &[]);
    t.set(at(0), client(1), &[], None);
    assert!(matches!(denied(&mut t, at(0), paid(1, 0, 60)), Denial::Unaffordable(_)));
}

/// What one step of the random run does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Enter { client: u64, tokens: u64, bound: u64, wait_s: u64 },
    Leave { which: usize, share: u64, fails: bool },
    Cancel { which: usize },
    Later { ms: u64 },
    Slots { client: u64, n: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let enter = (0_u64..3, 1_u64..400, 0_u64..60, 0_u64..90);
    prop_oneof![
        8 => enter.prop_map(|(client, tokens, bound, wait_s)| Step::Enter { client, tokens, bound, wait_s }),
        5 => (any::<usize>(), 0_u64..=100, any::<bool>())
            .prop_map(|(which, share, fails)| Step::Leave { which, share, fails }),
        2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        3 => (0_u64..40_000).prop_map(|ms| Step::Later { ms }),
        1 => (0_u64..3, 1_u32..5).prop_map(|(client, n)| Step::Slots { client, n }),
    ]
}

/// The requests around the lines, counted by hand.
struct World {
    tenants: Tenants,
    now: Now,
    open: Vec<(Want, Admission)>,
    /// In order of arrival.
    waiting: Vec<(Turn, Want)>,
    slots: BTreeMap<u64, u32>,
    spent: BTreeMap<Owner, u64>,
    /// Requests of each client in the last minute, and of the team.
    begun: Vec<(u64, u64)>,
}

const BUDGET: u64 = 400;

/// The clients 0 and 1 are of the team, client 2 of none.
fn payers(client: u64) -> Payers {
    Payers { client: ClientId(client), team: (client < 2).then_some(TeamId(1)) }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            tenants: Tenants::default(),
            now: at(MINUTE),
            open: Vec::new(),
            waiting: Vec::new(),
            slots: BTreeMap::new(),
            spent: BTreeMap::new(),
            begun: Vec::new(),
        };
        for client in 0..3 {
            world.configure(client, 2);
        }
        let team = [slots(3), a_minute(Dimension::TotalTokens, 1_200.0)];
        world.tenants.set(world.now, TEAM, &team, Some(money(BUDGET)));
        world
    }

    fn configure(&mut self, n: u64, limit: u32) {
        self.slots.insert(n, limit);
        let limits = [slots(limit), a_minute(Dimension::Requests, 30.0)];
        self.tenants.set(self.now, client(n), &limits, Some(money(BUDGET)));
    }

    fn begins(&mut self, want: Want, admission: Admission) {
        assert_eq!(admission.holds_money(), want.bound_nano_usd.is_some());
        // Nobody of the same client came before and still waits.
        self.begun.push((want.payers.client.0, self.now.mono_ns));
        self.open.push((want, admission));
    }

    fn poll(&mut self) {
        for called in poll(&mut self.tenants, self.now) {
            let index = self.waiting.iter().position(|w| w.0 == called.turn).expect("it waited");
            let (_, want) = self.waiting.remove(index);
            match called.said {
                Ok(admission) => {
                    let first =
                        self.waiting.iter().take(index).all(|w| w.1.payers.client != want.payers.client);
                    assert!(first, "a later request of the same client was called first");
                    self.begins(want, admission);
                }
                Err(Denial::Unaffordable(_)) => {}
                Err(Denial::Limit { .. } | Denial::Held { .. }) => {
                    assert!(want.deadline_mono_ns <= self.now.mono_ns, "refused before its deadline");
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        // Whoever still waits has time left, and is woken.
        assert!(self.waiting.iter().all(|w| w.1.deadline_mono_ns > self.now.mono_ns));
        assert_eq!(self.tenants.waiting(), self.waiting.len());
        assert!(self.waiting.is_empty() || self.tenants.next_wake().is_some());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Enter { client, tokens, bound, wait_s } => {
                let want = Want {
                    payers: payers(client),
                    tokens: tokens as f64,
                    bound_nano_usd: Some(bound),
                    deadline_mono_ns: self.now.mono_ns + wait_s * SECOND,
                };
                match self.tenants.enter(self.now, want) {
                    Entered::Go(admission) => {
                        let none = self.waiting.iter().all(|w| w.1.payers.client != want.payers.client);
                        assert!(none, "a newcomer passed a waiter of its client");
                        self.begins(want, admission);
                    }
                    Entered::Wait(turn) => self.waiting.push((turn, want)),
                    Entered::Refuse(_) => {}
                }
            }
            Step::Leave { which, share, fails } if !self.open.is_empty() => {
                let (want, admission) = self.open.swap_remove(which % self.open.len());
                let cost = want.bound_nano_usd.unwrap() * share / 100;
                let charge = if fails { Charge::Nothing } else { Charge::Cost(cost) };
                let paid = self.tenants.leave(self.now, admission, Some(want.tokens), charge);
                for owner in want.payers.owners() {
                    *self.spent.entry(owner).or_default() += paid.charged_nano_usd;
                }
            }
            Step::Cancel { which } if !self.waiting.is_empty() => {
                let (turn, _) = self.waiting.remove(which % self.waiting.len());
                self.tenants.cancel(turn);
            }
            Step::Later { ms } => {
                let until = self.now.mono_ns + ms * MS;
                // Every wake on the way is kept, as the server does.
                while let Some(wake) = self.tenants.next_wake().filter(|wake| *wake <= until) {
                    self.now = at(wake.max(self.now.mono_ns));
                    self.poll();
                }
                self.now = at(until);
            }
            Step::Slots { client, n } => self.configure(client, n),
            Step::Leave { .. } | Step::Cancel { .. } => {}
        }
        self.poll();
    }

    fn check(&self, lowered: bool) {
        for n in 0..3 {
            let open = self.open.iter().filter(|o| o.0.payers.client.0 == n).count();
            assert!(lowered || open <= self.slots[&n] as usize, "slots of {n}");
            let lately = |b: &&(u64, u64)| b.0 == n && self.now.mono_ns - b.1 < MINUTE;
            assert!(self.begun.iter().filter(lately).count() <= 60, "requests of {n}");
        }
        assert!(self.open.iter().filter(|o| o.0.payers.team.is_some()).count() <= 3);
        for owner in [client(0), client(1), client(2), TEAM] {
            let view = self.tenants.budget(self.now, owner).unwrap();
            assert_eq!(view.spent_nano_usd, self.spent.get(&owner).copied().unwrap_or(0));
            let pays = |p: Payers| p.owners().any(|o| o == owner);
            let held: u64 =
                self.open.iter().filter(|o| pays(o.0.payers)).filter_map(|o| o.0.bound_nano_usd).sum();
            assert_eq!(view.held_nano_usd, held, "{owner:?}");
            assert!(view.spent_nano_usd + held <= BUDGET, "{owner:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Nothing leaks, no limit is overrun, nobody is passed, and everybody is answered.
    #[test]
    fn whatever_happens_lines_are_kept(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        let mut lowered = false;
        for step in steps {
            lowered |= matches!(step, Step::Slots { .. });
            world.step(step);
            world.check(lowered);
        }
        // Everything ends: all go home, and time lets out who is left.
        for _ in 0..400 {
            while let Some((_, admission)) = world.open.pop() {
                let _ = world.tenants.leave(world.now, admission, None, Charge::Nothing);
            }
            world.poll();
            if world.open.is_empty() && world.waiting.is_empty() {
                break;
            }
            world.now = at(world.now.mono_ns + SECOND);
            world.poll();
        }
        prop_assert!(world.waiting.is_empty() && world.open.is_empty());
        prop_assert_eq!(world.tenants.next_wake(), None);
    }
}
