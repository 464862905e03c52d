//! The books: one behaviour each, then at random against a ledger that is simply added up.

use super::*;
use crate::time::{DAY, Now};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// 2026-11-24, a Tuesday.
const TUESDAY: u64 = 20_781;
const CLIENT: Owner = Owner::Client(ClientId(1));
const TEAM: Owner = Owner::Team(TeamId(7));

fn on(day: u64, second: u64) -> Now {
    Now { mono_ns: day * DAY + second, unix_ns: day * DAY + second * 1_000_000_000 }
}

fn limited(limit: u64, reset: Reset) -> Budget {
    Budget { limit_nano_usd: Some(limit), reset }
}

fn both() -> Payers {
    Payers { client: ClientId(1), team: Some(TeamId(7)) }
}

fn books(client: Budget, team: Budget) -> Books {
    let mut books = Books::new(0);
    books.set(on(TUESDAY, 0), CLIENT, client);
    books.set(on(TUESDAY, 0), TEAM, team);
    books
}

#[track_caller]
fn go(books: &mut Books, now: Now, amount: u64) -> Hold {
    match books.reserve(now, both(), amount) {
        Answer::Go(hold) => hold,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(books: &mut Books, now: Now, amount: u64) -> Refused {
    match books.reserve(now, both(), amount) {
        Answer::Refuse(refused) => refused,
        other => panic!("{other:?}"),
    }
}

fn waits(books: &mut Books, now: Now, amount: u64) -> bool {
    matches!(books.reserve(now, both(), amount), Answer::Wait { .. })
}

#[track_caller]
fn spent(books: &Books, now: Now, owner: Owner) -> (u64, u64) {
    let view = books.view(now, owner).unwrap();
    (view.spent_nano_usd, view.held_nano_usd)
}

#[test]
fn of_200_requests_against_a_budget_for_ten_exactly_ten_are_answered() {
    const COST: u64 = 123_456_789;
    let now = on(TUESDAY, 0);
    // To the nano-dollar: with one less there are nine, with one more still ten.
    for (limit, expected) in [(10 * COST, 10), (10 * COST - 1, 9), (10 * COST + 1, 10), (11 * COST - 1, 10)] {
        let mut books = books(limited(limit, Reset::Never), Budget::default());
        let mut holds = Vec::new();
        let mut waiting = 0_usize;
        for _ in 0..200 {
            match books.reserve(now, both(), COST) {
                Answer::Go(hold) => holds.push(hold),
                Answer::Wait { owner, resets_unix_ns } => {
                    assert_eq!((owner, resets_unix_ns), (CLIENT, None));
                    waiting += 1;
                }
                Answer::Refuse(refused) => panic!("{refused:?}: open attempts may still be refunded"),
            }
        }
        assert_eq!((holds.len(), waiting), (expected, 200 - expected));
        for hold in holds {
            books.settle(now, hold, Charge::Cost(COST)).unwrap();
        }
        for _ in 0..waiting {
            assert_eq!(refused(&mut books, now, COST).left_nano_usd, limit - expected as u64 * COST);
        }
        assert_eq!(spent(&books, now, CLIENT), (expected as u64 * COST, 0));
        assert_eq!(spent(&books, now, TEAM), (expected as u64 * COST, 0));
    }
}

#[test]
fn a_hold_is_taken_from_all_budgets_or_from_none() {
    let now = on(TUESDAY, 0);
    let mut books = books(limited(1_000, Reset::Never), limited(100, Reset::Never));
    assert_eq!(refused(&mut books, now, 101).owner, TEAM);
    assert_eq!(spent(&books, now, CLIENT), (0, 0));
    let hold = go(&mut books, now, 100);
    assert!(waits(&mut books, now, 1));
    assert_eq!(spent(&books, now, CLIENT), (0, 100));
    books.settle(now, hold, Charge::Nothing).unwrap();
    assert_eq!((spent(&books, now, CLIENT), spent(&books, now, TEAM)), ((0, 0), (0, 0)));
    drop(go(&mut books, now, 100));
}

#[test]
fn a_refund_makes_room_and_a_settlement_only_as_much_as_it_leaves() {
    let now = on(TUESDAY, 0);
    let mut books = books(limited(100, Reset::Never), Budget::default());
    let hold = go(&mut books, now, 80);
    assert!(waits(&mut books, now, 21) && waits(&mut books, now, 100));
    assert_eq!(refused(&mut books, now, 101).left_nano_usd, 100);
    let settled = books.settle(now, hold, Charge::Cost(30)).unwrap();
    assert_eq!((settled.charged_nano_usd, settled.billed_above), (30, None));
    assert_eq!(refused(&mut books, now, 71).left_nano_usd, 70);
    let hold = go(&mut books, now, 70);
    assert!(!waits(&mut books, now, 0), "what costs nothing needs no money");
    let settled = books.settle(now, hold, Charge::Unknown).unwrap();
    assert_eq!((settled.charged_nano_usd, settled.unknown), (70, true));
}

#[test]
fn a_refund_makes_room_while_others_are_still_open() {
    let now = on(TUESDAY, 0);
    let mut books = books(limited(100, Reset::Daily), limited(100, Reset::Never));
    let (failed, _open) = (go(&mut books, now, 60), go(&mut books, now, 40));
    assert!(waits(&mut books, now, 1));
    let _ = books.settle(now, failed, Charge::Nothing);
    let again = go(&mut books, now, 60);
    assert!(waits(&mut books, now, 1), "all of it came back, and no more");
    let _ = books.settle(now, again, Charge::Cost(10));
    drop(go(&mut books, now, 50));
    assert!(waits(&mut books, now, 1));
}

#[test]
fn what_is_billed_above_the_bound_is_charged_in_full_and_said() {
    let now = on(TUESDAY, 0);
    let mut books = books(limited(100, Reset::Daily), Budget::default());
    let hold = go(&mut books, now, 90);
    let settled = books.settle(now, hold, Charge::Cost(150)).unwrap();
    assert_eq!((settled.charged_nano_usd, settled.billed_above), (150, Some(90)));
    let view = books.view(now, CLIENT).unwrap();
    assert_eq!((view.spent_nano_usd, view.left_nano_usd), (150, Some(0)));
    assert_eq!(refused(&mut books, now, 1).left_nano_usd, 0);
    assert!(matches!(books.reserve(now, both(), 0), Answer::Go(_)));
}

#[test]
fn a_hold_is_settled_in_the_period_it_was_opened_in() {
    let mut books = books(limited(100, Reset::Daily), limited(1_000, Reset::Weekly));
    let late = go(&mut books, on(TUESDAY, 86_399), 100);
    let next = on(TUESDAY + 1, 0);
    // The new day is whole, though the attempt of the old one is open; the week is the same.
    assert_eq!(spent(&books, next, CLIENT), (0, 0));
    assert_eq!(books.view(next, CLIENT).unwrap().held_before_nano_usd, 100);
    assert_eq!(spent(&books, next, TEAM), (0, 100));
    let early = go(&mut books, next, 100);
    books.settle(next, late, Charge::Cost(60)).unwrap();
    assert_eq!(spent(&books, next, CLIENT), (0, 100));
    assert_eq!(spent(&books, next, TEAM), (60, 100));
    books.settle(next, early, Charge::Cost(50)).unwrap();
    assert_eq!((spent(&books, next, CLIENT), spent(&books, next, TEAM)), ((50, 0), (110, 0)));
}

#[test]
fn a_settlement_right_after_a_reset_is_not_charged_to_the_new_period() {
    let mut books = books(limited(100, Reset::Daily), Budget::default());
    let late = go(&mut books, on(TUESDAY, 86_399), 100);
    // Nothing else has happened in the new day before.
    let settled = books.settle(on(TUESDAY + 1, 0), late, Charge::Cost(100)).unwrap();
    assert_eq!(settled.warnings, [], "of a period that is over");
    assert_eq!(spent(&books, on(TUESDAY + 1, 1), CLIENT), (0, 0));
}

#[test]
fn a_refusal_says_when_the_budget_is_whole_again_that_is_out_for_longest() {
    let now = on(TUESDAY, 10);
    let mut books = books(limited(100, Reset::Daily), limited(150, Reset::Monthly));
    let hold = go(&mut books, now, 100);
    books.settle(now, hold, Charge::Cost(100)).unwrap();
    let short = refused(&mut books, now, 50);
    assert_eq!((short.owner, short.left_nano_usd, short.ever_affordable), (CLIENT, 0, true));
    assert_eq!(short.resets_unix_ns, Some((TUESDAY + 1) * DAY));
    let short = refused(&mut books, now, 51);
    // 2026-12-01 is a week after the Tuesday.
    assert_eq!((short.owner, short.resets_unix_ns), (TEAM, Some((TUESDAY + 7) * DAY)));
    assert!(!refused(&mut books, now, 101).ever_affordable);
    drop(go(&mut books, on(TUESDAY + 1, 0), 50));
}

#[test]
fn a_clock_that_goes_back_opens_no_period_again() {
    let mut books = books(limited(100, Reset::Daily), Budget::default());
    let hold = go(&mut books, on(TUESDAY, 0), 100);
    books.settle(on(TUESDAY, 0), hold, Charge::Cost(100)).unwrap();
    assert_eq!(refused(&mut books, on(TUESDAY - 1, 0), 1).left_nano_usd, 0);
    assert_eq!(spent(&books, on(TUESDAY - 1, 0), CLIENT), (100, 0));
}

#[test]
fn warnings_come_once_a_period_and_for_each_owner() {
    let mut books = books(limited(100, Reset::Daily), limited(125, Reset::Never));
    let mut spend = |now, cost| {
        let hold = go(&mut books, now, 25);
        let settled = books.settle(now, hold, Charge::Cost(cost)).unwrap();
        settled.warnings.iter().map(|w| (w.owner, w.percent, w.spent_nano_usd)).collect::<Vec<_>>()
    };
    let now = on(TUESDAY, 0);
    for _ in 0..3 {
        assert_eq!(spend(now, 25), []);
    }
    assert_eq!(spend(now, 5), [(CLIENT, 80, 80)], "at 80 %, not beyond");
    assert_eq!(spend(on(TUESDAY + 1, 0), 19), [], "another day; the team is at 99");
    assert_eq!(spend(on(TUESDAY + 1, 0), 1), [(TEAM, 80, 100)]);
    assert_eq!(spend(on(TUESDAY + 1, 0), 25), [(TEAM, 100, 125)]);
}

#[test]
fn a_leap_over_both_marks_warns_of_the_higher_and_a_higher_limit_arms_anew() {
    let now = on(TUESDAY, 0);
    let mut books = books(limited(100, Reset::Never), Budget::default());
    let hold = go(&mut books, now, 100);
    let settled = books.settle(now, hold, Charge::Cost(100)).unwrap();
    assert_eq!(settled.warnings.iter().map(|w| w.percent).collect::<Vec<_>>(), [100]);
    books.set(now, CLIENT, limited(1_000, Reset::Never));
    let hold = go(&mut books, now, 700);
    let settled = books.settle(now, hold, Charge::Cost(700)).unwrap();
    assert_eq!(settled.warnings.iter().map(|w| w.percent).collect::<Vec<_>>(), [80]);
}

fn stranger_owner() -> Owner {
    Owner::Client(ClientId(2))
}

#[test]
fn an_owner_that_is_unknown_or_gone_may_spend_nothing_but_settles_what_it_holds() {
    let now = on(TUESDAY, 0);
    let mut books = books(Budget::default(), limited(100, Reset::Never));
    let stranger = Payers { client: ClientId(2), team: Some(TeamId(7)) };
    assert!(matches!(books.reserve(now, stranger, 0), Answer::Refuse(r) if r.left_nano_usd == 0));
    let hold = go(&mut books, now, 40);
    books.remove(CLIENT);
    assert!(matches!(books.reserve(now, both(), 1), Answer::Refuse(_)));
    assert_eq!(books.view(now, CLIENT), None);
    books.settle(now, hold, Charge::Cost(10)).unwrap();
    assert_eq!(spent(&books, now, TEAM), (10, 0));
    // Taken out and put back in, it has not spent less.
    books.set(now, CLIENT, limited(100, Reset::Daily));
    assert_eq!(spent(&books, now, CLIENT), (10, 0));
    books.restore_spent(now, stranger_owner(), Spent { ever: 7, day: 5, ..Spent::default() });
    assert_eq!(books.view(now, stranger_owner()), None);
    books.set(now, stranger_owner(), limited(100, Reset::Daily));
    assert_eq!(spent(&books, now, stranger_owner()), (5, 0));
    books.set(now, Owner::Team(TeamId(9)), Budget::default());
    books.remove(Owner::Team(TeamId(9)));
    assert_eq!(books.tallies.len(), 3, "one that did nothing is forgotten");
}

#[test]
fn a_reset_that_is_changed_keeps_what_is_held_and_knows_the_sum() {
    let mut books = books(limited(100, Reset::Daily), Budget::default());
    let monday = go(&mut books, on(TUESDAY - 1, 0), 20);
    books.settle(on(TUESDAY - 1, 0), monday, Charge::Cost(20)).unwrap();
    let old = go(&mut books, on(TUESDAY - 2, 0), 30);
    let new = go(&mut books, on(TUESDAY, 0), 40);
    books.set(on(TUESDAY, 0), CLIENT, limited(100, Reset::Weekly));
    // Tuesday is of this week, the Sunday before is not.
    assert_eq!(spent(&books, on(TUESDAY, 0), CLIENT), (20, 40));
    books.settle(on(TUESDAY, 0), old, Charge::Cost(30)).unwrap();
    books.settle(on(TUESDAY, 0), new, Charge::Cost(5)).unwrap();
    assert_eq!(spent(&books, on(TUESDAY, 0), CLIENT), (25, 0));
    assert_eq!(books.open_holds(), 0);
}

/// What one step of the random run does.
#[derive(Clone, Debug)]
enum Step {
    Reserve { client: u64, amount: u64 },
    Settle { which: usize, share: u64 },
    Refund { which: usize },
    Lose { which: usize },
    Later { seconds: u64 },
    Limit { client: u64, limit: u64 },
    Reset { client: u64, reset: Reset },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u64..3, 0_u64..60).prop_map(|(client, amount)| Step::Reserve { client, amount }),
        4 => (any::<usize>(), 0_u64..=100).prop_map(|(which, share)| Step::Settle { which, share }),
        2 => any::<usize>().prop_map(|which| Step::Refund { which }),
        1 => any::<usize>().prop_map(|which| Step::Lose { which }),
        1 => (0_u64..200_000).prop_map(|seconds| Step::Later { seconds }),
        1 => (0_u64..3, 0_u64..300).prop_map(|(client, limit)| Step::Limit { client, limit }),
        1 => (0_u64..3, 0_usize..4).prop_map(|(client, n)| {
            let reset = [Reset::Never, Reset::Daily, Reset::Weekly, Reset::Monthly][n];
            Step::Reset { client, reset }
        }),
        1 => Just(Step::Restart),
    ]
}

/// The world around the books: a journal, a ledger, a clock.
struct World {
    books: Books,
    budgets: BTreeMap<Owner, Budget>,
    journal: BTreeMap<u64, (Payers, Now, u64)>,
    holds: Vec<Hold>,
    ledger: Vec<(Payers, Now, u64)>,
    now: Now,
}

/// The clients 0 and 1 are of team 0, client 2 of none.
fn payers(client: u64) -> Payers {
    Payers { client: ClientId(client), team: (client < 2).then_some(TeamId(0)) }
}

fn pays(payers: Payers, owner: Owner) -> bool {
    owner == Owner::Client(payers.client) || payers.team.map(Owner::Team) == Some(owner)
}

impl World {
    fn new() -> Self {
        let budgets = BTreeMap::from([
            (Owner::Client(ClientId(0)), limited(150, Reset::Daily)),
            (Owner::Client(ClientId(1)), limited(200, Reset::Never)),
            (Owner::Client(ClientId(2)), limited(250, Reset::Monthly)),
            (Owner::Team(TeamId(0)), limited(300, Reset::Weekly)),
        ]);
        let (journal, ledger, holds) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut world = Self { books: Books::new(0), budgets, journal, holds, ledger, now: on(TUESDAY, 0) };
        world.configure();
        world
    }

    fn configure(&mut self) {
        for (owner, budget) in &self.budgets {
            self.books.set(self.now, *owner, *budget);
        }
    }

    /// What the ledger has for an owner's period at this instant.
    fn sum(&self, owner: Owner) -> u64 {
        self.sum_since(owner, self.budgets[&owner].reset)
    }

    fn spent(&self, owner: Owner) -> Spent {
        Spent {
            ever: self.sum_since(owner, Reset::Never),
            day: self.sum_since(owner, Reset::Daily),
            week: self.sum_since(owner, Reset::Weekly),
            month: self.sum_since(owner, Reset::Monthly),
        }
    }

    fn sum_since(&self, owner: Owner, reset: Reset) -> u64 {
        let of_period = |at: &Now| reset.period(*at) == reset.period(self.now);
        self.ledger.iter().filter(|(p, at, _)| pays(*p, owner) && of_period(at)).map(|row| row.2).sum()
    }

    fn held(&self, owner: Owner) -> u64 {
        let reset = self.budgets[&owner].reset;
        let of_period = |at: &Now| reset.period(*at) == reset.period(self.now);
        self.journal.values().filter(|(p, at, _)| pays(*p, owner) && of_period(at)).map(|row| row.2).sum()
    }

    fn end(&mut self, which: usize, charge: impl Fn(u64) -> Charge) {
        if self.holds.is_empty() {
            return;
        }
        let hold = self.holds.swap_remove(which % self.holds.len());
        let (payers, opened, amount) = self.journal.remove(&hold.id()).unwrap();
        let settled = self.books.settle(self.now, hold, charge(amount)).unwrap();
        assert_eq!(settled.payers, payers);
        self.ledger.push((payers, opened, settled.charged_nano_usd));
    }

    fn reserve(&mut self, client: u64, amount: u64) {
        let who = payers(client);
        // By the plain sums: whether it fits beside what is held, after all refunds, or not at all.
        let room = |held: bool| {
            self.budgets.iter().filter(|(owner, _)| pays(who, **owner)).all(|(owner, budget)| {
                let held = if held { self.held(*owner) } else { 0 };
                amount == 0 || self.sum(*owner) + held + amount <= budget.limit_nano_usd.unwrap()
            })
        };
        let expected = (room(true), room(false));
        match self.books.reserve(self.now, who, amount) {
            Answer::Go(hold) => {
                assert_eq!(expected, (true, true));
                assert!(self.journal.insert(hold.id(), (who, self.now, amount)).is_none());
                self.holds.push(hold);
            }
            Answer::Wait { .. } => assert_eq!(expected, (false, true)),
            Answer::Refuse(_) => assert_eq!(expected, (false, false)),
        }
    }

    /// The process dies and starts again: its holds are lost, the ledger and the journal are not.
    fn restart(&mut self) {
        self.holds.clear();
        self.books = Books::new(self.books.next_hold());
        self.configure();
        let owners: Vec<Owner> = self.budgets.keys().copied().collect();
        for owner in owners {
            self.books.restore_spent(self.now, owner, self.spent(owner));
        }
        for (payers, opened, amount) in std::mem::take(&mut self.journal).into_values() {
            let settled = self.books.restore_open(self.now, payers, opened, amount);
            assert!(settled.unknown);
            self.ledger.push((payers, opened, settled.charged_nano_usd));
        }
    }

    fn check(&self, lowered: bool) {
        for (owner, budget) in &self.budgets {
            let view = self.books.view(self.now, *owner).unwrap();
            assert_eq!(view.spent_nano_usd, self.sum(*owner), "{owner:?}");
            assert_eq!(view.spent, self.spent(*owner), "{owner:?}");
            assert_eq!(view.held_nano_usd, self.held(*owner), "{owner:?}");
            let in_all: u64 = self.journal.values().filter(|j| pays(j.0, *owner)).map(|j| j.2).sum();
            assert_eq!(view.held_nano_usd + view.held_before_nano_usd, in_all, "{owner:?}");
            let limit = budget.limit_nano_usd.unwrap();
            assert!(lowered || view.spent_nano_usd + view.held_nano_usd <= limit, "{owner:?}: {view:?}");
        }
        assert_eq!(self.books.open_holds(), self.journal.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// The books are the ledger, whatever happens in whatever order, and no budget is overrun.
    #[test]
    fn the_books_always_balance(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        let mut lowered = false;
        for step in steps {
            match step {
                Step::Reserve { client, amount } => world.reserve(client, amount),
                Step::Settle { which, share } => world.end(which, |held| Charge::Cost(held * share / 100)),
                Step::Refund { which } => world.end(which, |_| Charge::Nothing),
                Step::Lose { which } => world.end(which, |_| Charge::Unknown),
                Step::Later { seconds } => {
                    world.now.unix_ns += seconds * 1_000_000_000;
                    world.now.mono_ns += seconds * 1_000_000_000;
                }
                Step::Limit { client, limit } => {
                    let owner = Owner::Client(ClientId(client));
                    let budget = world.budgets.get_mut(&owner).unwrap();
                    // A limit below what is spent already is overrun by nobody's fault.
                    lowered |= budget.limit_nano_usd > Some(limit);
                    budget.limit_nano_usd = Some(limit);
                    world.configure();
                }
                Step::Reset { client, reset } => {
                    let owner = Owner::Client(ClientId(client));
                    world.budgets.get_mut(&owner).unwrap().reset = reset;
                    world.configure();
                    // A longer period has more in it than fitted a shorter one.
                    lowered = true;
                }
                Step::Restart => world.restart(),
            }
            world.check(lowered);
        }
    }
}
