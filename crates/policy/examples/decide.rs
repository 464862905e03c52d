//! Decisions of the scheduler alone: `submit`, `first_output` and `finish`, again and again, with many keys and with
//! many waiters. Run under `valgrind --tool=callgrind` with N and 2N requests; the difference is the cost of N decisions.
//!
//! `decide <keys> <waiters> <requests> [<limits an account>]`

#![expect(clippy::expect_used, reason = "a measurement that cannot run must stop")]

use keymux_policy::fleet::{
    AccountId, AccountSpec, Charging, Dimension, Endpoint, EndpointSet, Fleet, KeyId, KeySpec, LimitSpec,
    ModelSet, OutputCharge, ProviderId, ProviderSpec, Shape,
};
use keymux_policy::{
    Ask, ClientId, Decision, Destination, End, Now, Outcome, Policy, Priority, Size, TeamId,
};

const SECOND: u64 = 1_000_000_000;
/// Where the waiters wait: a provider whose one slot is never given back.
const FULL: ProviderId = ProviderId(1);

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<u64>().expect("a number"));
    let keys = u32::try_from(arguments.next().unwrap_or(10)).expect("fewer keys");
    let waiters = arguments.next().unwrap_or(0);
    let requests = arguments.next().unwrap_or(10_000);
    let limits = arguments.next().unwrap_or(1);
    let mut now = Now { mono_ns: SECOND, unix_ns: 1_800_000_000 * SECOND };
    let mut policy = Policy::new(now, fleet(keys, limits), 1);
    let first = policy.submit(now, ask(FULL, u64::MAX));
    let Decision::Go(kept) = first else { return };
    for _ in 0..waiters {
        let waits = policy.submit(now, ask(FULL, u64::MAX));
        assert!(matches!(waits, Decision::Wait { .. }), "the room has space");
    }
    for _ in 0..requests {
        now.mono_ns += 1_000;
        now.unix_ns += 1_000;
        let Decision::Go(lease) = policy.submit(now, ask(ProviderId(0), now.mono_ns)) else {
            continue;
        };
        policy.first_output(now, &lease);
        let outcome =
            Outcome { end: End::Done, used: None, committed: true, first_output_ns: Some(SECOND / 10) };
        drop(policy.finish(now, lease, outcome));
    }
    assert_eq!(policy.waiting() as u64, waiters);
    let outcome = Outcome { end: End::Dropped, used: None, committed: true, first_output_ns: None };
    drop(policy.finish(now, kept, outcome));
}

fn ask(provider: ProviderId, deadline_mono_ns: u64) -> Ask {
    Ask {
        to: Destination::Adhoc { provider, model: "m".into() },
        endpoint: Endpoint::ChatCompletions,
        client: ClientId::default(),
        team: TeamId::default(),
        class: Priority::Normal,
        weight: 1.0,
        deadline_mono_ns,
        size: Size { body_bytes: 100, input_tokens: 600, wide: false, output_tokens_max: Some(100) },
        cost_max_nano_usd: None,
        session: None,
        bound_to: None,
        allowed: None,
        providers: None,
        stream: true,
    }
}

/// One provider with `keys` accounts of one key each, and one that takes a single request.
fn fleet(keys: u32, limits: u64) -> Fleet {
    let charging = Charging {
        output: OutputCharge::AsProduced,
        cached_input_free: false,
        refused_count: false,
        runs_on_after_cancel: false,
    };
    let mut fleet = Fleet::default();
    fleet.settings.room.waiters_max = 1 << 20;
    fleet.settings.room.per_client_max = 1 << 20;
    fleet.settings.room.per_route_max = 1 << 20;
    for (id, name) in [(ProviderId(0), "open"), (FULL, "full")] {
        let endpoints = EndpointSet::of(&[Endpoint::ChatCompletions]);
        fleet.providers.push(ProviderSpec { id, name: name.into(), endpoints, charging });
    }
    let room = Shape::Bucket { capacity: 1e12, refill_per_s: 1e9 };
    for index in 0..keys {
        let both = [Dimension::Requests, Dimension::InputTokens];
        let dimensions = if limits > 1 { &both[..] } else { &both[..1] };
        add(&mut fleet, index, ProviderId(0), dimensions, room);
    }
    add(&mut fleet, keys, FULL, &[Dimension::Concurrent], Shape::Slots { limit: 1 });
    fleet
}

fn add(fleet: &mut Fleet, index: u32, provider: ProviderId, dimensions: &[Dimension], shape: Shape) {
    let limit =
        |d: &Dimension| LimitSpec { dimension: *d, shape, models: ModelSet::default(), preset: false };
    let limits = dimensions.iter().map(limit).collect();
    let (account, name) = (AccountId(index), format!("k{index}"));
    fleet.accounts.push(AccountSpec {
        id: account,
        provider,
        name: name.as_str().into(),
        named: false,
        limits,
    });
    fleet.keys.push(KeySpec {
        id: KeyId(index),
        account,
        provider,
        name: name.as_str().into(),
        weight: 1.0,
        enabled: true,
        secret: 0,
        models: ModelSet::default(),
        limits: Vec::new(),
    });
}
