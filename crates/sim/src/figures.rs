//! What came out of a run, as figures with names, beside what the oracle says was possible; and whether that is what
//! the scenario expects.

use crate::oracle::{self, Oracle, amount, horizon_s};
use crate::run::{Fate, Record, Run};
use crate::spec::{Count, Scenario, SpecError};
use crate::time::{MS, ns_of, s_of};
use crate::utilisation::{self, Utilisation};
use serde::Serialize;
use std::collections::BTreeMap;

/// A token of a prompt that is read from a cache, against one that is not: the usual discount.
const CACHED_COSTS: f64 = 0.1;

/// Both ends included.
pub type Range = [f64; 2];

/// What came out of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// The seed of the run.
    pub seed: u64,
    /// By name; what each means is told at [`MEANINGS`].
    pub by_name: BTreeMap<&'static str, f64>,
    /// By key.
    pub keys: Vec<KeyLine>,
    /// By client.
    pub clients: Vec<ClientLine>,
    /// Broken invariants.
    pub violations: Vec<String>,
    /// How often each class, event and refusal was met.
    pub met: BTreeMap<String, u64>,
    /// A digest of all decisions: the same for the same seed.
    pub digest: u64,
}

/// What a key was asked.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyLine {
    /// Its name.
    pub name: String,
    /// Calls that reached its provider.
    pub calls: u64,
    /// Of these, accepted.
    pub accepted: u64,
    /// Refused by a limit.
    pub limited: u64,
    /// Failed for another reason.
    pub failed: u64,
    /// Requests that it answered.
    pub answered: u64,
    /// Their mean wait, in milliseconds.
    pub wait_ms: f64,
    /// How full its account was; `None` where that has no limits.
    pub utilisation: Option<Utilisation>,
    /// Accepted in each sixtieth of the scenario's time (and after it, as long as it takes).
    pub over_time: Vec<u32>,
}

/// What a client asked and got.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientLine {
    /// Its name.
    pub name: String,
    /// Requests, those of callers that came back not counted.
    pub offered: u64,
    /// Answered.
    pub answered: u64,
    /// Refused for want of quota.
    pub refused: u64,
    /// Ended in an error that was not the caller's fault.
    pub errors: u64,
    /// Mean wait of those that were answered, in milliseconds.
    pub wait_ms: f64,
    /// 95 of 100 of them waited no longer than this, in milliseconds.
    pub wait_p95_ms: f64,
    /// Its max-min share of what was possible, in the scenario's units.
    pub share: f64,
    /// What a clairvoyant FIFO would have given it, in the scenario's units.
    pub fifo: f64,
}

/// What the figures mean.
pub const MEANINGS: &[(&str, &str)] = &[
    ("requests", "requests that came, without those of callers that came back"),
    ("violations", "broken invariants; always expected to be 0"),
    ("goodput", "answered, as a share of what the limits could have admitted at most (fluid bound)"),
    ("fifo_goodput", "the same of a clairvoyant FIFO: how close the fluid bound is to what can be reached"),
    ("answered", "answered, as a share of what came"),
    ("fifo_answered", "the same of a clairvoyant FIFO"),
    ("refused", "refused for want of quota, as a share of what came"),
    ("refused_late", "of the refusals, those that came after waiting"),
    ("hopeful", "told to wait although the forecast misses the deadline, as a share of what came"),
    ("readmitted", "of the refused that came back at the stated time, those that were not refused again"),
    ("errors", "callers that saw an error that was not their own fault"),
    ("poison_errors", "callers that saw their poisonous request fail"),
    ("wrong_relayed", "wrong requests that were answered as such"),
    ("attempts", "attempts for each request that came"),
    ("wasted_429", "refusals by limits, for each answer"),
    ("limited", "refusals by limits"),
    ("failed", "attempts that failed for another reason than a limit"),
    ("failed_most", "failed attempts of the key that had most"),
    (
        "utilisation",
        "how full accounts were, of the fullest of their limits, on the average of those that have any",
    ),
    ("timeouts", "attempts that were given up for being silent"),
    ("benches", "times that a breaker opened or a key, account or provider was benched"),
    ("spread", "how much more the busiest key answered than the idlest"),
    ("share_min", "the least that a client got, as a share of its max-min share"),
    ("share_small", "the least that a client got whose demand is below its share, as a share of its demand"),
    ("wait_p50_ms", "time from arrival to the first attempt"),
    ("wait_p95_ms", "see wait_p50_ms"),
    ("wait_p99_ms", "see wait_p50_ms"),
    ("latency_p50_ms", "time from arrival to the end of the answer"),
    ("latency_p95_ms", "see latency_p50_ms"),
    ("latency_p99_ms", "see latency_p50_ms"),
    ("latency_max_ms", "the longest of them"),
    ("oracle_wait_p99_ms", "the same of a clairvoyant FIFO"),
    ("oracle_latency_p50_ms", "the same of a clairvoyant FIFO"),
    ("oracle_latency_p99_ms", "the same of a clairvoyant FIFO"),
    ("p99_over_oracle", "latency_p99_ms over the oracle's"),
    ("p99_beyond_oracle_ms", "latency_p99_ms minus the oracle's"),
    ("attempts_max", "most attempts of one answered request"),
    ("first_provider_late", "calls that the first provider accepted, of all in the last fifth of the time"),
    ("cached", "tokens of prompts that were read from the providers' caches, as a share"),
    (
        "prompt_cost",
        "what prompts cost against the same without any cache, if a token read from it costs a tenth",
    ),
    ("large_wait", "mean wait of the largest tenth over the mean wait of all"),
    ("polls", "polls for each request that came"),
];

/// One expectation, judged over some seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The figure.
    pub name: String,
    /// What it must be.
    pub wanted: Range,
    /// The furthest from that, over all seeds.
    pub worst: f64,
    /// The middle one.
    pub median: f64,
    /// Whether every seed keeps to it.
    pub met: bool,
    /// Why it is not, if that is known.
    pub known: Option<String>,
    /// It is known, but not what is known: it moved, or it is met by now.
    pub stale: bool,
}

/// Runs a scenario with one seed.
///
/// # Errors
/// The scenario does not fit together.
pub fn simulate(scenario: &Scenario, seed: u64) -> Result<Figures, SpecError> {
    replay(scenario, seed, |_| {})
}

/// A request of a run that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// The tag of the line of a replay that it was.
    pub tag: u32,
    /// Where it was answered.
    pub provider: &'a str,
    /// The provider's name of the model.
    pub model: &'a str,
    /// When the answer ended, in seconds from the beginning.
    pub ended_s: f64,
}

/// The same, for whoever wants to know of each request that was answered.
///
/// # Errors
/// The scenario does not fit together.
pub fn replay(
    scenario: &Scenario,
    seed: u64,
    mut served: impl FnMut(&Served<'_>),
) -> Result<Figures, SpecError> {
    let record = Run::new(scenario, seed)?.run();
    for r in record.reqs.iter().filter(|r| r.fate == Fate::Answered) {
        let provider = &record.sides.world.providers[record.sides.keys[r.key].provider].name;
        let model = r.model.as_deref().unwrap_or_default();
        served(&Served { tag: r.tag, provider, model, ended_s: s_of(r.ended_ns) });
    }
    let oracle = oracle::ask(scenario, &record, seed);
    Ok(figures(scenario, &record, &oracle, seed))
}

fn figures(scenario: &Scenario, record: &Record, oracle: &Oracle, seed: u64) -> Figures {
    let t = &record.tally;
    let mut by_name = BTreeMap::new();
    let fifo: f64 = oracle.fifo.by_client.iter().sum();
    by_name.insert("fifo_goodput", ratio(fifo, oracle.possible));
    let (_, end) = horizon_s(scenario);
    let end_ns = ns_of(end);
    let counted = |r: &&crate::run::Req| {
        let traffic = &scenario.traffic[r.source];
        !traffic.poison && !traffic.wrong && s_of(r.came_ns) >= scenario.count_from_s
    };
    let answered: Vec<_> = record.reqs.iter().filter(counted).filter(|r| r.fate == Fate::Answered).collect();
    let begin_ns = ns_of(scenario.count_from_s);
    let done: f64 = record
        .reqs
        .iter()
        .filter(|r| r.fate == Fate::Answered && (begin_ns..=end_ns).contains(&r.last_sent_ns))
        .filter(|r| !scenario.traffic[r.source].poison && !scenario.traffic[r.source].wrong)
        .map(|r| amount(scenario.count, r.input))
        .sum();
    let came = record.reqs.iter().filter(|r| r.returns == 0 && r.deadline_ns > 0).count() as f64;
    let refused = record.reqs.iter().filter(|r| r.returns == 0 && r.fate == Fate::Refused).count() as f64;
    let all_answered: f64 = answered.iter().map(|r| amount(scenario.count, r.input)).sum();
    let of_all = record.reqs.iter().filter(counted).filter(|r| r.returns == 0 && r.deadline_ns > 0);
    let offered: f64 = of_all.map(|r| amount(scenario.count, r.input)).sum();
    by_name.insert("requests", came);
    by_name.insert("goodput", ratio(done, oracle.possible));
    by_name.insert("answered", ratio(all_answered, offered));
    // Of requests, those that it serves after the end as well.
    let served = if scenario.count == Count::Requests { oracle.fifo.waits.len() as f64 } else { fifo };
    by_name.insert("fifo_answered", ratio(served, offered));
    by_name.insert("refused", ratio(refused, came));
    by_name.insert("refused_late", ratio(t.refused_late as f64, refused));
    by_name.insert("hopeful", ratio(t.hopeful as f64, came));
    let back = record.reqs.iter().filter(|r| r.returns == 1 && r.fate != Fate::Coming);
    let (again, twice) = back
        .fold((0.0, 0.0), |(n, twice), r| (n + 1.0, twice + f64::from(u8::from(r.fate == Fate::Refused))));
    by_name.insert("readmitted", if again > 0.0 { 1.0 - twice / again } else { 1.0 });
    by_name.insert("errors", t.errors as f64);
    by_name.insert("poison_errors", t.poison_errors as f64);
    by_name.insert("wrong_relayed", t.wrong_relayed as f64);
    by_name.insert("attempts", ratio(t.attempts as f64, came));
    by_name.insert("wasted_429", ratio(t.limited_counted as f64, answered.len() as f64));
    by_name.insert("limited", t.limited as f64);
    by_name.insert("failed", t.keys.iter().map(|k| k.failed).sum::<u64>() as f64);
    by_name.insert("failed_most", t.keys.iter().map(|k| k.failed).max().unwrap_or(0) as f64);
    by_name.insert("timeouts", t.timeouts as f64);
    by_name.insert("benches", t.benches as f64);
    by_name.insert("polls", ratio(t.polls as f64, came));
    let most = t.keys.iter().map(|k| k.accepted).max().unwrap_or(0) as f64;
    let least = t.keys.iter().map(|k| k.accepted).min().unwrap_or(0) as f64;
    by_name.insert("spread", ratio(most - least, most));
    let late = |of_first: bool| -> f64 {
        let keys = t.keys.iter().zip(&record.sides.keys).filter(|(_, k)| !of_first || k.provider == 0);
        keys.flat_map(|(k, _)| k.over_time.iter().skip(48).take(12)).map(|n| f64::from(*n)).sum()
    };
    by_name.insert("first_provider_late", ratio(late(true), late(false)));
    let cached = ratio(t.cached as f64, t.input as f64);
    by_name.insert("cached", cached);
    by_name.insert("prompt_cost", 1.0 - cached * (1.0 - CACHED_COSTS));
    shares(scenario, record, oracle, &mut by_name);
    times(&answered, oracle, &mut by_name);
    by_name.insert("violations", record.violations.len() as f64);
    let utilisation = utilisation::of_accounts(scenario, record);
    let usable = |a: &usize| record.sides.keys.iter().any(|k| k.account == *a);
    let limited: Vec<f64> =
        (0..utilisation.len()).filter(usable).filter_map(|a| Some(utilisation[a].as_ref()?.mean)).collect();
    by_name.insert("utilisation", ratio(limited.iter().sum(), limited.len() as f64));
    let (keys, clients) = lines(record, oracle, &utilisation);
    let met = met(record);
    Figures { seed, by_name, keys, clients, violations: record.violations.clone(), met, digest: t.digest }
}

fn lines(
    record: &Record,
    oracle: &Oracle,
    utilisation: &[Option<Utilisation>],
) -> (Vec<KeyLine>, Vec<ClientLine>) {
    let mut of_keys = vec![(0_u64, 0.0); record.tally.keys.len()];
    let mut of_clients = vec![Vec::new(); record.tally.clients.len()];
    for r in record.reqs.iter().filter(|r| r.fate == Fate::Answered) {
        let wait_ns = r.sent_ns.saturating_sub(r.came_ns);
        let (answered, waited) = &mut of_keys[r.key];
        *answered += 1;
        *waited += wait_ns as f64 / MS as f64;
        of_clients[usize::try_from(r.client).unwrap_or(0)].push(wait_ns);
    }
    let keys = record.tally.keys.iter().enumerate().map(|(n, k)| KeyLine {
        name: k.name.clone(),
        calls: k.calls,
        accepted: k.accepted,
        limited: k.limited,
        failed: k.failed,
        answered: of_keys[n].0,
        wait_ms: ratio(of_keys[n].1, of_keys[n].0 as f64),
        utilisation: utilisation[record.sides.keys[n].account].clone(),
        over_time: k.over_time.clone(),
    });
    for waits in &mut of_clients {
        waits.sort_unstable();
    }
    let clients = record.tally.clients.iter().enumerate().map(|(c, t)| ClientLine {
        name: t.name.clone(),
        offered: t.offered,
        answered: t.answered,
        refused: t.refused,
        errors: t.errors,
        wait_ms: ratio(t.wait_ns as f64 / MS as f64, t.answered as f64),
        wait_p95_ms: percentile(&of_clients[c], 0.95),
        share: oracle.shares.get(c).copied().unwrap_or(0.0),
        fifo: oracle.fifo.by_client.get(c).copied().unwrap_or(0.0),
    });
    (keys.collect(), clients.collect())
}

/// How often each class, event, refusal, verb and shape was met.
fn met(record: &Record) -> BTreeMap<String, u64> {
    let t = &record.tally;
    let mut met = t.met.clone();
    for (verb, n) in [
        ("submit", t.submitted),
        ("wait", t.waits),
        ("poll", t.polls),
        ("cancel", t.cancelled_waiting),
        ("head", t.heads),
        ("first_output", t.outputs),
        ("finish", t.attempts),
        ("probe", t.probes),
    ] {
        met.insert(format!("verb {verb}"), n);
    }
    for limit in record.sides.accounts.iter().flat_map(|a| &a.limits) {
        *met.entry(format!("shape {:?} {:?}", limit.shape, limit.dimension)).or_insert(0) += 1;
    }
    met
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn shares(scenario: &Scenario, record: &Record, oracle: &Oracle, by_name: &mut BTreeMap<&'static str, f64>) {
    let (mut least, mut small) = (f64::INFINITY, f64::INFINITY);
    let mut sums = vec![(0.0, 0.0); record.tally.clients.len()];
    for r in record.reqs.iter().filter(|r| s_of(r.came_ns) >= scenario.count_from_s) {
        let sums = &mut sums[usize::try_from(r.client).unwrap_or(0)];
        let amount = amount(scenario.count, r.input);
        sums.0 += if r.returns == 0 { amount } else { 0.0 };
        sums.1 += if r.fate == Fate::Answered { amount } else { 0.0 };
    }
    for ((offered, got), share) in sums.into_iter().zip(&oracle.shares) {
        if *share > 0.0 {
            least = least.min(got / share);
            if *share >= offered * 0.999 {
                small = small.min(got / offered.max(1.0));
            }
        }
    }
    by_name.insert("share_min", if least.is_finite() { least } else { 1.0 });
    by_name.insert("share_small", if small.is_finite() { small } else { 1.0 });
}

fn times(answered: &[&crate::run::Req], oracle: &Oracle, by_name: &mut BTreeMap<&'static str, f64>) {
    let mut waits: Vec<u64> = answered.iter().map(|r| r.sent_ns.saturating_sub(r.came_ns)).collect();
    let mut latencies: Vec<u64> = answered.iter().map(|r| r.ended_ns.saturating_sub(r.came_ns)).collect();
    let mean = |waits: &[u64]| ratio(waits.iter().map(|w| *w as f64).sum(), waits.len() as f64);
    let mut sizes: Vec<(u64, u64)> =
        answered.iter().map(|r| (r.input, r.sent_ns.saturating_sub(r.came_ns))).collect();
    sizes.sort_unstable();
    let large: Vec<u64> = sizes.iter().skip(sizes.len() * 9 / 10).map(|(_, wait)| *wait).collect();
    by_name.insert("large_wait", ratio(mean(&large), mean(&waits)));
    waits.sort_unstable();
    latencies.sort_unstable();
    by_name.insert("wait_p50_ms", percentile(&waits, 0.5));
    by_name.insert("wait_p95_ms", percentile(&waits, 0.95));
    by_name.insert("wait_p99_ms", percentile(&waits, 0.99));
    by_name.insert("latency_p50_ms", percentile(&latencies, 0.5));
    by_name.insert("latency_p95_ms", percentile(&latencies, 0.95));
    by_name.insert("latency_p99_ms", percentile(&latencies, 0.99));
    by_name.insert("latency_max_ms", percentile(&latencies, 1.0));
    by_name.insert("oracle_wait_p99_ms", percentile(&oracle.fifo.waits, 0.99));
    by_name.insert("oracle_latency_p50_ms", percentile(&oracle.fifo.latencies, 0.5));
    let oracles = percentile(&oracle.fifo.latencies, 0.99);
    by_name.insert("oracle_latency_p99_ms", oracles);
    by_name.insert("p99_over_oracle", ratio(percentile(&latencies, 0.99), oracles));
    by_name.insert("p99_beyond_oracle_ms", percentile(&latencies, 0.99) - oracles);
    let attempts = answered.iter().map(|r| r.attempts).max().unwrap_or(0);
    by_name.insert("attempts_max", f64::from(attempts));
}

/// Of sorted nanoseconds, in milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank below the length")]
fn percentile(sorted: &[u64], p: f64) -> f64 {
    let at = ((sorted.len() as f64 * p).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).map_or(0.0, |ns| *ns as f64 / MS as f64)
}

/// Judges runs by what the scenario expects.
pub fn judge(scenario: &Scenario, runs: &[Figures]) -> Vec<Judged> {
    let mut expect = scenario.expect.clone();
    expect.entry("violations".to_owned()).or_insert([0.0, 0.0]);
    let judged = expect.iter().map(|(name, wanted)| {
        let mut values: Vec<f64> =
            runs.iter().map(|f| f.by_name.get(name.as_str()).copied().unwrap_or(f64::NAN)).collect();
        values.sort_by(f64::total_cmp);
        let off = |v: f64| (wanted[0] - v).max(v - wanted[1]);
        let worst = values.iter().copied().max_by(|a, b| off(*a).total_cmp(&off(*b))).unwrap_or(f64::NAN);
        let within = |range: &Range| values.iter().all(|v| (range[0]..=range[1]).contains(v));
        let met = within(wanted);
        let known = scenario.known.get(name);
        Judged {
            name: name.clone(),
            wanted: *wanted,
            worst,
            median: values.get(values.len() / 2).copied().unwrap_or(f64::NAN),
            met,
            known: known.map(|k| k.why.clone()),
            stale: known.is_some_and(|k| met || !within(&k.now)),
        }
    });
    judged.collect()
}
