//! How full accounts are, over time: of each limit, what was charged against what it lets through, and of those the
//! fullest. Reckoned from what was sent and what the provider's documents say that is charged, as the oracle reckons.

use crate::fleet::Account;
use crate::oracle::{Mean, charge};
use crate::run::{Fate, Record, SLICES};
use crate::spec::Scenario;
use crate::time::{DAY, MS, s_of};
use keymux_provider::{Dimension, LimitShape, LimitSpec};
use serde::Serialize;

/// How full an account was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Utilisation {
    /// Of its fullest limit, over the whole time, as a share.
    pub mean: f64,
    /// Of whatever limit was fullest then, in each sixtieth of the scenario's time.
    pub over_time: Vec<f64>,
}

/// One call of an account's.
#[derive(Clone, Copy)]
struct Call<'a> {
    from_s: f64,
    to_s: f64,
    size: Mean,
    /// `None` for a stranger's, of which nobody knows.
    model: Option<&'a str>,
}

/// Of each account; `None` where it has no limit that calls of this run meet.
pub(crate) fn of_accounts(scenario: &Scenario, record: &Record) -> Vec<Option<Utilisation>> {
    let mut calls: Vec<Vec<Call<'_>>> = vec![Vec::new(); record.sides.accounts.len()];
    for r in record.reqs.iter().filter(|r| r.fate == Fate::Answered) {
        let size = Mean {
            input: r.input as f64,
            output: r.output as f64,
            cap: r.max_tokens.unwrap_or(4_096) as f64,
            held_s: 0.0,
        };
        let (from_s, to_s) = (s_of(r.last_sent_ns), s_of(r.ended_ns));
        calls[record.sides.keys[r.key].account].push(Call { from_s, to_s, size, model: r.model.as_deref() });
    }
    for (account, at, input, output) in &record.tally.strangers {
        let size = Mean { input: *input as f64, output: *output as f64, cap: *output as f64, held_s: 0.0 };
        let at_s = s_of(*at);
        calls[*account].push(Call { from_s: at_s, to_s: at_s, size, model: None });
    }
    let accounts = record.sides.accounts.iter().zip(&calls);
    accounts.map(|(account, calls)| of_account(account, calls, scenario.seconds)).collect()
}

fn of_account(account: &Account, calls: &[Call<'_>], seconds: f64) -> Option<Utilisation> {
    let limits = account.limits.iter().filter(|l| l.dimension != Dimension::InFlightMoney);
    let each: Vec<Utilisation> = limits.map(|l| of_limit(l, account, calls, seconds)).collect();
    let fullest = |at: usize| each.iter().map(|u| u.over_time[at]).fold(0.0, f64::max);
    (!each.is_empty()).then(|| Utilisation {
        mean: each.iter().map(|u| u.mean).fold(0.0, f64::max),
        over_time: (0..SLICES).map(fullest).collect(),
    })
}

fn of_limit(limit: &LimitSpec, account: &Account, calls: &[Call<'_>], seconds: f64) -> Utilisation {
    let slice_s = (seconds / SLICES as f64).max(1e-9);
    let mut used = vec![0.0; SLICES];
    for call in calls.iter().filter(|c| c.model.is_none_or(|model| limit.applies_to(model))) {
        if limit.dimension == Dimension::Concurrent {
            occupy(&mut used, slice_s, (call.from_s, call.to_s));
        } else if let Some(used) = used.get_mut(slice(call.from_s, slice_s)) {
            *used += charge(limit.dimension, &account.charging, call.size);
        }
    }
    let amount = (limit.limit as f64).max(1e-9);
    let a_second = amount / (limit.period_ms.max(1) * MS) as f64 * 1e9;
    let lets = match (limit.dimension, limit.shape) {
        // What is busy is counted in seconds.
        (Dimension::Concurrent, _) => amount * slice_s,
        // A day's is there at once: how much of it is gone by then.
        (_, LimitShape::Day) => return of_day(&used, amount, slice_s),
        _ => a_second * slice_s,
    };
    let share = |used: f64, lets: f64| (used / lets).min(1.0);
    Utilisation {
        mean: share(used.iter().sum(), lets * SLICES as f64),
        over_time: used.iter().map(|used| share(*used, lets)).collect(),
    }
}

/// How much of a day's is gone, slice by slice, each day from nothing.
fn of_day(used: &[f64], amount: f64, slice_s: f64) -> Utilisation {
    let (mut gone, mut day) = (0.0, 0);
    let mut over_time = Vec::with_capacity(used.len());
    for (n, used) in used.iter().enumerate() {
        let today = crate::time::unix(crate::time::ns_of(n as f64 * slice_s)) / DAY;
        if today != day {
            (gone, day) = (0.0, today);
        }
        gone += used;
        over_time.push((gone / amount).min(1.0));
    }
    let days = (used.len() as f64 * slice_s / s_of(DAY)).max(1.0);
    Utilisation { mean: (used.iter().sum::<f64>() / (amount * days)).min(1.0), over_time }
}

fn occupy(used: &mut [f64], slice_s: f64, (from_s, to_s): (f64, f64)) {
    for (n, used) in used.iter_mut().enumerate().skip(slice(from_s, slice_s)) {
        let begin = n as f64 * slice_s;
        if begin >= to_s {
            return;
        }
        *used += to_s.min(begin + slice_s) - from_s.max(begin);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a run, never negative"
)]
fn slice(at_s: f64, slice_s: f64) -> usize {
    (at_s / slice_s) as usize
}

#[cfg(test)]
mod tests {
    use crate::{Scenario, simulate};

    fn used(limit: &str, traffic: &str) -> crate::Utilisation {
        let text = format!(
            "seconds = 600\nwaiters_max = 100000\nnetwork = {{ delay_ms = 0, jitter_ms = 0 }}\n[[provider]]\nname = \"p\"\n\
             charging = {{ total_tokens = \"as_produced\" }}\nlatency = {{ ttft_ms = 1000, ttft_sigma = 0, per_token_ms = 0 }}\n\
             account = [{{ name = \"a\", limits = [{limit}], key = [{{}}] }}]\n[[traffic]]\n{traffic}\n"
        );
        let run = simulate(&Scenario::read(&text).expect("a scenario"), 1).expect("a run");
        run.keys[0].utilisation.clone().expect("it has a limit")
    }

    #[test]
    fn half_of_a_limit_is_half_whatever_it_counts() {
        for (limit, traffic) in [
            ("{ limit = 120, period_ms = 60000 }", "arrivals = { uniform = 1.0 }"),
            (
                "{ dimension = \"total_tokens\", limit = 12000, period_ms = 60000 }",
                "arrivals = { uniform = 1.0 }\ninput = { fixed = 80 }\noutput = { fixed = 20 }",
            ),
            ("{ dimension = \"concurrent\", limit = 2 }", "arrivals = { uniform = 1.0 }"),
        ] {
            let u = used(limit, traffic);
            assert!((u.mean - 0.5).abs() < 0.02, "{limit}: {}", u.mean);
            assert_eq!(u.over_time.len(), 60);
            assert!(u.over_time.iter().all(|share| (share - 0.5).abs() < 0.11), "{limit}: {:?}", u.over_time);
        }
    }

    #[test]
    fn a_pause_is_empty_and_a_day_fills_up() {
        let u = used("{ limit = 60, period_ms = 60000 }", "arrivals = { uniform = 1.0 }\nto_s = 300");
        assert!(u.over_time[45] == 0.0 && u.over_time[15] > 0.8 && (u.mean - 0.5).abs() < 0.02, "{u:?}");
        let u = used("{ limit = 600, shape = \"day\" }", "arrivals = { uniform = 0.5 }");
        assert!((u.over_time[59] - 0.5).abs() < 0.02 && u.over_time[0] < 0.02, "{u:?}");
    }

    #[test]
    fn an_account_without_limits_is_neither_full_nor_empty() {
        let text = "[[provider]]\nname = \"p\"\naccount = [{ key = [{}] }]\n[[traffic]]\n";
        let run = simulate(&Scenario::read(text).expect("a scenario"), 1).expect("a run");
        assert_eq!(run.keys[0].utilisation, None);
    }
}
