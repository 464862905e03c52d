//! The clairvoyant FIFO: requests in order of arrival, each booked where its answer would come first, or dropped where
//! its turn would come after its deadline. It knows when each account is down or slow, and never sends in vain.

use super::limit::{Booked, charge};
use super::{Mean, slowness, up_again};
use crate::rng::Rng;
use crate::run::Record;
use crate::spec::Scenario;
use crate::time::{MS, ns_of};

/// Larger fleets would take longer here than in the scheduler.
const ACCOUNTS_MAX: usize = 64;

/// What it reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fifo {
    /// Waits of those that it served, in nanoseconds, sorted.
    pub(crate) waits: Vec<u64>,
    /// From arrival to the end of the answer, sorted.
    pub(crate) latencies: Vec<u64>,
    /// What each client got, in the scenario's units.
    pub(crate) by_client: Vec<f64>,
}

struct Books {
    limits: Vec<Vec<Booked>>,
    used_ns: Vec<u64>,
}

impl Books {
    /// Somebody else's call, which went through.
    fn stranger(&mut self, account: &crate::fleet::Account, a: usize, at: u64, (input, output): (f64, f64)) {
        let size = Mean { input, output, cap: output, held_s: 0.0 };
        for (limit, booked) in account.limits.iter().zip(&mut self.limits[a]) {
            if limit.dimension != keymux_provider::Dimension::Concurrent {
                booked.book(at, at, charge(limit.dimension, &account.charging, size));
            }
        }
    }
}

pub(crate) fn run(scenario: &Scenario, record: &Record, seed: u64) -> Fifo {
    let accounts = &record.sides.accounts;
    let mut out = Fifo { by_client: vec![0.0; record.tally.clients.len()], ..Fifo::default() };
    if accounts.len() > ACCOUNTS_MAX {
        return out;
    }
    let mut rng = Rng::new(seed ^ 0x0FF1_CE00);
    let mut books = Books {
        used_ns: vec![0; accounts.len()],
        limits: accounts.iter().map(|a| a.limits.iter().map(Booked::new).collect()).collect(),
    };
    let mut order: Vec<usize> = (0..record.reqs.len()).filter(|i| record.reqs[*i].returns == 0).collect();
    order.sort_by_key(|i| record.reqs[*i].came_ns);
    let mut strangers = record.tally.strangers.iter().peekable();
    for i in order {
        let r = &record.reqs[i];
        let counts = crate::time::s_of(r.came_ns) >= scenario.count_from_s;
        let traffic = &scenario.traffic[r.source];
        if traffic.poison || traffic.wrong || r.deadline_ns == 0 {
            continue;
        }
        while let Some((a, at, input, output)) = strangers.next_if(|s| s.1 <= r.came_ns) {
            books.stranger(&accounts[*a], *a, *at, (*input as f64, *output as f64));
        }
        let size = Mean {
            input: r.input as f64,
            output: r.output as f64,
            cap: r.max_tokens.unwrap_or(4_096) as f64,
            held_s: 0.0,
        };
        let route = &record.sides.routes[r.route as usize];
        let luck = (rng.log_normal(1.0, 1.0).ln(), rng.unit() + rng.unit());
        let mut best: Option<(u64, u64, usize, &str)> = None;
        for (a, model) in &route.accounts {
            let a = *a;
            let Some(at) = earliest(&books, (a, model), record, r.came_ns, size) else { continue };
            let takes = service(scenario, record, (a, model), r.output, at, luck);
            // Of accounts that are equally soon, the one that was used longest ago: its bucket is the fullest.
            let rank = (at + takes, books.used_ns[a]);
            if best.is_none_or(|(end, _, b, _)| rank < (end, books.used_ns[b])) {
                best = Some((at + takes, at, a, model));
            }
        }
        let Some((end, at, a, model)) = best.filter(|(_, at, ..)| *at <= r.deadline_ns) else { continue };
        let charging = &accounts[a].charging;
        for (l, limit) in accounts[a].limits_of(model) {
            books.limits[a][l].book(at, end, charge(limit.dimension, charging, size));
        }
        books.used_ns[a] = at;
        let sent_s = crate::time::s_of(at);
        if (scenario.count_from_s..=scenario.seconds).contains(&sent_s) {
            let client = usize::try_from(r.client).unwrap_or(0);
            out.by_client[client] += super::amount(scenario.count, r.input);
        }
        if !counts {
            continue;
        }
        out.waits.push(at - r.came_ns);
        out.latencies.push(end - r.came_ns);
    }
    out.waits.sort_unstable();
    out.latencies.sort_unstable();
    out
}

/// The earliest instant at which every limit of the account admits the request and no fault is in its way.
fn earliest(
    books: &Books,
    (a, model): (usize, &str),
    record: &Record,
    came_ns: u64,
    size: Mean,
) -> Option<u64> {
    let account = &record.sides.accounts[a];
    let mut at = came_ns;
    // A few rounds settle it; two limits that never agree would be a limit of nothing.
    for _ in 0..8 {
        let before = at;
        at = up_again(&account.faults, at)?;
        for (l, limit) in account.limits_of(model) {
            at = books.limits[a][l].earliest(at, charge(limit.dimension, &account.charging, size))?;
        }
        if at == before {
            break;
        }
    }
    Some(at)
}

/// How long an answer takes there, network included; `luck` is the same for every account that is looked at, or the
/// luckiest would be chosen.
fn service(
    scenario: &Scenario,
    record: &Record,
    (a, model): (usize, &str),
    output: u64,
    at: u64,
    luck: (f64, f64),
) -> u64 {
    let account = &record.sides.accounts[a];
    let provider = &record.sides.world.providers[account.provider];
    let of_model = provider.models.iter().find(|m| m.id == model).and_then(|m| m.latency.as_ref());
    let latency = of_model.unwrap_or(&provider.latency);
    let sigma = latency.ttft_sigma;
    let first = latency.ttft_ms * (sigma * luck.0 - sigma * sigma / 2.0).exp();
    let writing = output.saturating_sub(1) as f64 * latency.per_token_ms;
    let network = 2.0 * scenario.network.delay_ms + luck.1 * scenario.network.jitter_ms;
    let slow = slowness(&account.faults, at);
    ns_of(((first + writing) * slow + network) / 1e3).max(MS)
}
