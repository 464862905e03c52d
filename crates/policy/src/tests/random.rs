//! Random interleavings of everything that can happen, and what must hold after each step.

use super::harness::*;
use crate::blame::{Class, judge};
use crate::fleet::{Dimension, Fleet};
use crate::outcome::{End, Evidence, LimitScope, Phase, Sign};
use crate::request::Probe;
use crate::time::{MS, ns_of};
use crate::{Ask, ClientId, Decision, Lease, Next, Outcome, Priority, Size, Ticket, Used};
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Step {
    Submit { client: u64, class: u8, wait_ms: u64, tokens: u64 },
    Finish { which: usize, how: usize, after_ms: Option<u64> },
    FirstOutput { which: usize },
    Pass { ms: u64 },
    Wake,
    Cancel { which: usize },
    Reload { more: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64, 0..3u8, 0..20_000u64, 1..2_000u64)
            .prop_map(|(client, class, wait_ms, tokens)| Step::Submit { client, class, wait_ms, tokens }),
        6 => (any::<usize>(), 0..40usize, prop::option::of(0..20_000u64))
            .prop_map(|(which, how, after_ms)| Step::Finish { which, how, after_ms }),
        1 => any::<usize>().prop_map(|which| Step::FirstOutput { which }),
        3 => (0..5_000u64).prop_map(|ms| Step::Pass { ms }),
        3 => Just(Step::Wake),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => any::<bool>().prop_map(|more| Step::Reload { more }),
    ]
}

fn world_fleet() -> Fleet {
    let mut f = Fleet { providers: vec![provider(0), provider(1)], ..Fleet::default() };
    f.providers[1].charging.runs_on_after_cancel = true;
    add_account(&mut f, 0, 2, vec![bucket(Dimension::Requests, 5.0, 1.0), slots(4)]);
    add_account(&mut f, 0, 1, vec![bucket(Dimension::TotalTokens, 3_000.0, 300.0)]);
    add_account(&mut f, 1, 2, vec![rpm(30.0), slots(3)]);
    f.routes.push(route(0, &[&[0], &[1]]));
    f.settings.room.waiters_max = 20;
    f
}

fn end(how: usize, after_ms: Option<u64>) -> (End, bool) {
    let signs = [
        Sign::BadRequest,
        Sign::ModelUnknown,
        Sign::TooDear,
        Sign::ClientGone,
        Sign::ClientTimeout,
        Sign::TooLargeForLimit,
        Sign::KeyRefused,
        Sign::KeyForbidden,
        Sign::KeyCap,
        Sign::NoMoney,
        Sign::InFlightMoney,
        Sign::RateLimited { dimension: None, scope: LimitScope::Account, daily: false },
        Sign::RateLimited {
            dimension: Some(Dimension::TotalTokens),
            scope: LimitScope::Unknown,
            daily: false,
        },
        Sign::RateLimited { dimension: None, scope: LimitScope::Key, daily: true },
        Sign::Overloaded,
        Sign::ServerError,
        Sign::ConnectFailed,
        Sign::Reset,
        Sign::FirstByteTimeout,
        Sign::Truncated,
        Sign::Local,
    ];
    let Some(sign) = signs.get(how) else {
        return if how == 39 { (End::Dropped, false) } else { (End::Done, true) };
    };
    let phase = [Phase::Connect, Phase::Send, Phase::Head, Phase::Hold, Phase::Stream][how % 5];
    let evidence = Evidence {
        phase,
        status: (phase >= Phase::Hold).then_some(500),
        sign: *sign,
        relayed: how.is_multiple_of(7),
        retry_after_ns: after_ms.map(|ms| ms * MS),
        limit: None,
        requested: None,
    };
    (End::Failed(evidence), phase == Phase::Stream)
}

/// What a run did, for comparing two of them.
#[derive(Default)]
struct Run {
    leases: Vec<Lease>,
    waiting: HashMap<Ticket, u64>,
    log: Vec<String>,
    probes: Vec<(Probe, usize)>,
}

impl Run {
    fn took(&mut self, lease: Lease) {
        self.log.push(format!("{:?} {} {} {}", lease.key, lease.model, lease.attempt, lease.probe));
        self.leases.push(lease);
    }

    fn step(&mut self, w: &mut World, step: &Step) {
        match step {
            Step::Submit { client, class, wait_ms, tokens } => {
                let class = [Priority::High, Priority::Normal, Priority::Low][usize::from(*class)];
                let size =
                    Size { body_bytes: 10, wide: false, input_tokens: *tokens, output_tokens_max: Some(50) };
                let ask = Ask { client: ClientId(*client), class, size, ..w.ask(*wait_ms as f64 / 1e3) };
                let deadline = ask.deadline_mono_ns;
                match w.submit(ask) {
                    Decision::Go(lease) => self.took(lease),
                    Decision::Wait { ticket, .. } => {
                        assert!(deadline > w.ns, "waits without time");
                        self.waiting.insert(ticket, deadline);
                    }
                    Decision::Refuse(r) => self.log.push(format!("{r:?}")),
                }
            }
            Step::Finish { which, how, after_ms } => self.finish(w, *which, *how, *after_ms),
            Step::FirstOutput { which } => {
                if !self.leases.is_empty() {
                    let at = which % self.leases.len();
                    w.policy.first_output(w.now(), &self.leases[at]);
                }
            }
            Step::Pass { ms } => w.ns += ms * MS,
            Step::Wake => {
                if let Some(wake) = w.policy.next_wake().filter(|wake| *wake != u64::MAX) {
                    w.ns = w.ns.max(wake);
                }
                self.poll(w);
            }
            Step::Cancel { which } => {
                let mut tickets: Vec<Ticket> = self.waiting.keys().copied().collect();
                tickets.sort_by_key(|t| t.as_u64());
                if !tickets.is_empty() {
                    let ticket = tickets[which % tickets.len()];
                    w.policy.cancel(w.now(), ticket);
                    self.waiting.remove(&ticket);
                }
            }
            Step::Reload { more } => {
                let mut f = world_fleet();
                if *more {
                    add_account(&mut f, 1, 1, vec![rpm(10.0)]);
                    f.accounts[0].limits[0] = bucket(Dimension::Requests, 3.0, 0.5);
                }
                w.policy.reconfigure(w.now(), f);
            }
        }
    }

    fn finish(&mut self, w: &mut World, which: usize, how: usize, after_ms: Option<u64>) {
        if self.leases.is_empty() {
            return;
        }
        let lease = self.leases.swap_remove(which % self.leases.len());
        let (end, committed) = end(how, after_ms);
        let used =
            how.is_multiple_of(2).then_some(Used { input_tokens: 300, output_tokens: 20, ..Used::default() });
        let class = match &end {
            End::Done => None,
            End::Dropped => Some(Class::Client),
            End::Failed(e) => Some(judge(e)),
        };
        let before = w.health();
        let probe = lease.probe;
        let next = w.policy.finish(w.now(), lease, Outcome { end, used, committed, first_output_ns: None });
        if matches!(class, Some(Class::Request | Class::Client)) && !probe && matches!(next, Next::Done(_)) {
            // What is gone from the configuration leaves the view with its last request.
            let gone = |line: &&String| line.starts_with("k5") || line.starts_with("a3");
            let (before, after) = (before.iter().filter(|l| !gone(l)), w.health());
            let after = after.iter().filter(|l| !gone(l)).cloned().collect::<Vec<_>>();
            assert_eq!(after, before.cloned().collect::<Vec<_>>(), "touches nobody's health");
        }
        match next {
            Next::Done(settled) => assert_eq!(settled.blame, class),
            Next::Go(lease) => self.took(lease),
            Next::Wait { ticket, .. } => {
                // The deadline of a request that waits again is not known here: it is checked by `poll`.
                self.waiting.insert(ticket, u64::MAX);
            }
            Next::Refuse(r) => self.log.push(format!("{r:?}")),
        }
    }

    fn poll(&mut self, w: &mut World) {
        for woken in w.poll() {
            assert!(self.waiting.remove(&woken.ticket).is_some(), "let out twice, or never waited");
            match woken.decision {
                Decision::Go(lease) => self.took(lease),
                Decision::Refuse(r) => self.log.push(format!("{r:?}")),
                Decision::Wait { .. } => panic!("let out to wait"),
            }
        }
        for deadline in self.waiting.values() {
            assert!(*deadline > w.ns, "outlived its deadline");
        }
    }

    fn check(&mut self, w: &mut World) {
        w.conserved();
        assert_eq!(w.policy.waiting(), self.waiting.len());
        let view = w.policy.view(w.now());
        assert_eq!(view.totals.in_flight, self.leases.len() as u64);
        self.one_probe_each(w);
    }

    /// Whatever can be probed has at most one live probe.
    fn one_probe_each(&mut self, w: &mut World) {
        self.probes.clear();
        for lease in &self.leases {
            let request = w.policy.requests.take(lease.slot).expect("in flight");
            let t = &w.policy.pool.targets[request.flight.target];
            for probe in &request.flight.probes {
                let whose = match probe {
                    Probe::Provider => t.provider.0 as usize,
                    Probe::Capacity | Probe::ModelBreaker => t.provider_model,
                    Probe::AccountBench | Probe::AccountQuota | Probe::AccountFree => t.account.0 as usize,
                    Probe::ModelQuota => t.account_model,
                    Probe::KeyBench | Probe::KeyQuota => t.key.0 as usize,
                    Probe::TargetBench | Probe::TargetBreaker => request.flight.target,
                };
                assert!(!self.probes.contains(&(*probe, whose)), "two probes for {probe:?} {whose}");
                self.probes.push((*probe, whose));
            }
            w.policy.requests.put_back(request);
        }
    }

    fn end(&mut self, w: &mut World) {
        // Everything ends: nothing is held, nobody waits.
        for _ in 0..10_000 {
            while let Some(lease) = self.leases.pop() {
                let done = Outcome { committed: true, ..outcome(End::Done) };
                assert!(matches!(w.policy.finish(w.now(), lease, done), Next::Done(_)));
            }
            let Some(wake) = w.policy.next_wake() else { break };
            assert_ne!(wake, u64::MAX, "somebody waits for ever");
            w.ns = w.ns.max(wake);
            self.poll(w);
        }
        assert_eq!((w.policy.waiting(), self.waiting.len()), (0, 0));
        w.pass(100_000.0);
        w.policy.poll(w.now(), &mut Vec::new());
        let view = w.policy.view(w.now());
        assert_eq!(view.waiting_bytes, 0);
        for a in view.providers.iter().flat_map(|p| &p.accounts) {
            assert_eq!(a.in_flight, 0);
            for l in &a.limits {
                assert!(l.queued.abs() < 1e-6, "{l:?}");
                assert!((l.level - l.size).abs() < 1e-6, "whole again after a day: {l:?}");
            }
        }
        w.conserved();
    }
}

fn run(steps: &[Step], seed: u64) -> Vec<String> {
    let mut w = World::seeded(world_fleet(), seed);
    let mut run = Run::default();
    for step in steps {
        run.step(&mut w, step);
        run.check(&mut w);
    }
    run.end(&mut w);
    run.log
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_lost_and_the_same_seed_decides_the_same(
        steps in prop::collection::vec(step(), 1..150),
        seed in any::<u64>(),
    ) {
        prop_assert_eq!(run(&steps, seed), run(&steps, seed));
    }

    #[test]
    fn polling_at_next_wake_always_progresses(
        waits in prop::collection::vec((0..20_000u64, 1..1_500u64), 1..60),
        slow_ms in 1..3_000u64,
    ) {
        let mut w = World::new(world_fleet());
        let mut leases: Vec<(u64, Lease)> = Vec::new();
        for (wait_ms, tokens) in waits {
            let size = Size { body_bytes: 1, wide: false, input_tokens: tokens, output_tokens_max: Some(10) };
            let ask = Ask { size, ..w.ask(wait_ms as f64 / 1e3) };
            if let Decision::Go(lease) = w.submit(ask) {
                leases.push((w.ns + slow_ms * MS, lease));
            }
        }
        let mut polls = 0;
        while let Some(wake) = w.policy.next_wake() {
            polls += 1;
            prop_assert!(polls < 2_000, "spins");
            let ends = leases.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX);
            w.ns = w.ns.max(wake.min(ends));
            let (over, rest): (Vec<_>, Vec<_>) = leases.drain(..).partition(|(at, _)| *at <= w.ns);
            leases = rest;
            for (_, lease) in over {
                w.ok(lease);
            }
            for woken in w.poll() {
                if let Decision::Go(lease) = woken.decision {
                    leases.push((w.ns + slow_ms * MS, lease));
                }
            }
            // At the same instant there is nothing more to do, unless it says so.
            if let Some(next) = w.policy.next_wake() {
                prop_assert!(next > w.ns || !w.poll().is_empty() || w.policy.next_wake().is_none_or(|n| n > w.ns));
            }
        }
    }

    #[test]
    fn at_most_one_live_probe_and_cool_downs_never_shorten(
        hits in prop::collection::vec((0..9usize, 0..30_000u64, prop::option::of(0..60_000u64)), 1..120),
    ) {
        let mut f = fleet(1, &[]);
        f.settings.retry.rounds_max = 1;
        let mut w = World::new(f);
        let mut leases: Vec<Lease> = Vec::new();
        let mut until: Option<u64> = None;
        for (how, pass_ms, after_ms) in hits {
            let ask = w.ask(0.0);
            match w.submit(ask) {
                Decision::Go(lease) => leases.push(lease),
                Decision::Refuse(r) => prop_assert!(r.retry_after_ns.is_some()),
                Decision::Wait { .. } => prop_assert!(false, "no time to wait"),
            }
            prop_assert!(leases.iter().filter(|l| l.probe).count() <= 1);
            if how % 3 == 0 && !leases.is_empty() {
                let lease = leases.swap_remove(how % leases.len());
                let probe = lease.probe;
                let (end, committed) = match how {
                    0 => (End::Done, false),
                    3 => (End::Failed(Evidence { retry_after_ns: after_ms.map(|a| a * MS), ..evidence(Sign::NoMoney, Some(402)) }), true),
                    _ => (End::Failed(evidence(Sign::ClientGone, None)), true),
                };
                let opened = matches!(end, End::Done);
                w.policy.finish(w.now(), lease, Outcome { committed, ..outcome(end) });
                let view = w.policy.view(w.now());
                let now_until = view.providers[0].accounts[0].benched.map(|b| b.until_mono_ns);
                match (until, now_until) {
                    (Some(was), Some(is)) => prop_assert!(is >= was, "shortened from {} to {}", was, is),
                    (Some(_), None) => prop_assert!(probe && opened, "opened by something else than a probe"),
                    _ => {}
                }
                until = now_until;
            }
            w.ns += ns_of(pass_ms as f64 / 1e3);
        }
    }
}
