//! What a scenario can be compared with: another strategy, other knowledge of limits, more or less of an account, a key
//! or the load. Each is a scenario of its own, so that nothing in a run knows that it is compared.

use crate::fleet;
use crate::rng::Rng;
use crate::spec::{Arrivals, Limits, Line, Place, Scenario, SpecError, StrategyName};
use keymux_provider::ProviderSpec;

/// More load than this is a mistake in writing.
const TIMES_MAX: f64 = 1_000.0;
/// For the copies of what was recorded.
const COPIES_SEED: u64 = 0x00C0_71E5;

/// The same scenario with something else in it:
///
/// - another strategy: `round_robin`, `weighted`, `least_in_flight`, `fastest`, `headroom`
/// - `declared` or `learned` limits, `no_affinity`
/// - `+account`, `+account:PROVIDER` or `+account:PROVIDER/ACCOUNT`: one more like the first, or like that one
/// - `-account:PROVIDER/ACCOUNT`, `-key:PROVIDER/KEY`: without it
/// - `x2`, `x0.5`: so many times the load
///
/// # Errors
/// It is none of these, or names what there is not.
pub fn variant(scenario: &Scenario, name: &str) -> Result<Scenario, SpecError> {
    let mut other = scenario.clone();
    other.title = format!("{} [{name}]", scenario.title);
    if let Some(strategy) = strategy(name) {
        other.routes = other.routes();
        other.routes.iter_mut().for_each(|r| r.strategy = strategy);
        return Ok(other);
    }
    match name.split_once(':').map_or((name, None), |(what, of)| (what, Some(of))) {
        ("declared", None) => other.limits = Limits::Declared,
        ("learned", None) => other.limits = Limits::Learned,
        ("no_affinity", None) => other.affinity = false,
        ("+account", of) => one_more(&mut other, of)?,
        ("-account", Some(of)) => without_account(&mut other, of)?,
        ("-key", Some(of)) => without_key(&mut other, of)?,
        (what, None) if what.starts_with('x') => load(&mut other, times(what)?),
        _ => return Err(unknown(name)),
    }
    Ok(other)
}

fn unknown(name: &str) -> SpecError {
    SpecError::Sense(format!(
        "cannot compare with `{name}`: write a strategy (headroom, round_robin, weighted, least_in_flight, fastest), \
         `declared`, `learned`, `no_affinity`, `+account`, `+account:PROVIDER`, `-account:PROVIDER/ACCOUNT`, \
         `-key:PROVIDER/KEY`, or so many times the load, such as `x2`"
    ))
}

fn strategy(name: &str) -> Option<StrategyName> {
    Some(match name {
        "headroom" => StrategyName::Headroom,
        "round_robin" => StrategyName::RoundRobin,
        "weighted" => StrategyName::Weighted,
        "least_in_flight" => StrategyName::LeastInFlight,
        "fastest" => StrategyName::Fastest,
        _ => return None,
    })
}

fn times(what: &str) -> Result<f64, SpecError> {
    let number = what.trim_start_matches('x').parse().ok();
    number.filter(|n| *n > 0.0 && *n <= TIMES_MAX).ok_or_else(|| {
        SpecError::Sense(format!(
            "`{what}`: write how many times the load, above 0 and at most {TIMES_MAX}: `x2`, `x0.5`"
        ))
    })
}

/// The place of an account: `provider/account`.
type At = (usize, usize);

/// Puts the accounts that are written as copies beside the others, so that each can be named.
fn spell_out(scenario: &mut Scenario) -> Result<(), SpecError> {
    scenario.providers = fleet::providers(scenario)?;
    scenario.accounts.clear();
    Ok(())
}

fn names(providers: &[ProviderSpec]) -> Vec<(At, String)> {
    let of = |(p, provider): (usize, &ProviderSpec)| {
        let name = provider.name.clone();
        let accounts = provider.accounts.iter().enumerate();
        accounts.map(|(a, account)| ((p, a), format!("{name}/{}", account.name))).collect::<Vec<_>>()
    };
    providers.iter().enumerate().flat_map(of).collect()
}

fn account(scenario: &Scenario, name: &str) -> Result<At, SpecError> {
    let all = names(&scenario.providers);
    let found = all.iter().find(|(_, known)| known == name).map(|(at, _)| *at);
    found.ok_or_else(|| SpecError::Unknown {
        what: "account",
        name: name.to_owned(),
        known: all.into_iter().map(|(_, name)| name).collect(),
    })
}

/// The account that one more is to be like.
fn like(scenario: &Scenario, of: Option<&str>) -> Result<At, SpecError> {
    let at = match of {
        Some(name) if name.contains('/') => return account(scenario, name),
        Some(name) => {
            let unknown = || SpecError::Unknown {
                what: "provider",
                name: name.to_owned(),
                known: scenario.providers.iter().map(|p| p.name.clone()).collect(),
            };
            scenario.providers.iter().position(|p| p.name == name).ok_or_else(unknown)?
        }
        None => scenario.providers.iter().position(|p| !p.accounts.is_empty()).unwrap_or(0),
    };
    let none = || SpecError::Sense("`+account`: there is no account to be like".to_owned());
    scenario.providers.get(at).filter(|p| !p.accounts.is_empty()).map(|_| (at, 0)).ok_or_else(none)
}

fn one_more(scenario: &mut Scenario, of: Option<&str>) -> Result<(), SpecError> {
    spell_out(scenario)?;
    let (p, a) = like(scenario, of)?;
    let provider = &mut scenario.providers[p];
    let like = provider.accounts[a].clone();
    let taken = |name: &str| {
        let of_keys = provider.accounts.iter().flat_map(|a| &a.keys).map(|k| k.name.as_str());
        provider.accounts.iter().map(|a| a.name.as_str()).chain(of_keys).any(|known| known == name)
    };
    let end = (1..).map(|n| if n == 1 { "-more".to_owned() } else { format!("-more{n}") });
    let free = |end: &String| {
        !taken(&format!("{}{end}", like.name))
            && !like.keys.iter().any(|k| taken(&format!("{}{end}", k.name)))
    };
    let end = end.take(10_000).find(free).unwrap_or_default();
    let mut more = like.clone();
    more.name.push_str(&end);
    for key in &mut more.keys {
        let terms = scenario.keys.get(&format!("{}/{}", provider.name, key.name)).cloned();
        key.name.push_str(&end);
        key.secret.clear();
        if let Some(terms) = terms {
            scenario.keys.insert(format!("{}/{}", provider.name, key.name), terms);
        }
    }
    let name = provider.name.clone();
    provider.accounts.push(more.clone());
    // Whoever names the account, or keys of it, means this one too.
    for tier in scenario.routes.iter_mut().flat_map(|r| &mut r.tiers) {
        let beside = |place: &Place| {
            let keys: Vec<String> = place
                .keys
                .iter()
                .filter(|k| like.keys.iter().any(|known| known.name == **k))
                .map(|k| format!("{k}{end}"))
                .collect();
            let named = place.account.as_deref() == Some(&like.name) || !keys.is_empty();
            (place.provider == name && named).then(|| Place {
                keys,
                account: Some(more.name.clone()),
                ..place.clone()
            })
        };
        let new: Vec<Place> = tier.iter().filter_map(beside).collect();
        tier.extend(new);
    }
    Ok(())
}

fn without_account(scenario: &mut Scenario, name: &str) -> Result<(), SpecError> {
    spell_out(scenario)?;
    let (p, a) = account(scenario, name)?;
    let keys: Vec<String> = scenario.providers[p].accounts[a].keys.iter().map(|k| k.name.clone()).collect();
    for key in keys {
        let key = format!("{}/{key}", scenario.providers[p].name);
        without_key(scenario, &key)?;
    }
    Ok(())
}

fn without_key(scenario: &mut Scenario, name: &str) -> Result<(), SpecError> {
    spell_out(scenario)?;
    let mut known = Vec::new();
    let mut found = None;
    for ((p, a), of) in names(&scenario.providers) {
        let provider = &scenario.providers[p];
        for (k, key) in provider.accounts[a].keys.iter().enumerate() {
            let shown = format!("{}/{}", provider.name, key.name);
            if shown == name {
                found = Some((p, a, k, of.clone()));
            }
            known.push(shown);
        }
    }
    let Some((p, a, k, of)) = found else {
        return Err(SpecError::Unknown { what: "key", name: name.to_owned(), known });
    };
    if known.len() == 1 {
        return Err(SpecError::Sense(format!("without `{name}` no key is left")));
    }
    let provider = &mut scenario.providers[p];
    let key = provider.accounts[a].keys.remove(k);
    let empty = provider.accounts[a].keys.is_empty();
    let gone = |place: &Place| {
        let account = place.account.as_ref().map(|account| format!("{}/{account}", place.provider));
        place.provider == provider.name && place.keys.is_empty() && account.as_ref() == Some(&of)
    };
    for tier in scenario.routes.iter_mut().flat_map(|r| &mut r.tiers) {
        tier.retain_mut(|place| {
            let named = place.provider == provider.name && place.keys.contains(&key.name);
            place.keys.retain(|known| !(named && *known == key.name));
            !(named && place.keys.is_empty() || empty && gone(place))
        });
    }
    if empty {
        scenario.strangers.retain(|s| s.account != of);
    }
    Ok(())
}

fn load(scenario: &mut Scenario, times: f64) {
    for traffic in &mut scenario.traffic {
        traffic.arrivals = match &traffic.arrivals {
            Arrivals::Poisson(rate) => Arrivals::Poisson(rate * times),
            Arrivals::Uniform(rate) => Arrivals::Uniform(rate * times),
            Arrivals::Burst { base, peak, at_s, for_s, every_s } => Arrivals::Burst {
                base: base * times,
                peak: peak * times,
                at_s: *at_s,
                for_s: *for_s,
                every_s: *every_s,
            },
            Arrivals::Diurnal { low, high, period_s } => {
                Arrivals::Diurnal { low: low * times, high: high * times, period_s: *period_s }
            }
            Arrivals::Closed { callers, think_ms } => {
                Arrivals::Closed { callers: whole(*callers, times), think_ms: *think_ms }
            }
            Arrivals::Once => Arrivals::Herd(whole(1, times)),
            Arrivals::Herd(n) => Arrivals::Herd(whole(*n, times)),
            Arrivals::Replay(file) => Arrivals::Replay(file.clone()),
        };
        traffic.lines = copies(&traffic.lines, times);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of callers, times a little"
)]
fn whole(n: u64, times: f64) -> u64 {
    ((n as f64 * times).round() as u64).max(1)
}

/// What was recorded, so many times: each copy comes at some instant before the next line, so that bursts stay bursts
/// and pauses stay pauses. Of a part of a time, as many lines as it is large.
fn copies(lines: &[Line], times: f64) -> Vec<Line> {
    let mut rng = Rng::new(COPIES_SEED);
    let mut out = Vec::with_capacity(whole(lines.len() as u64, times).try_into().unwrap_or(0));
    for (n, line) in lines.iter().enumerate() {
        let until_s = lines.get(n + 1).map_or(line.at_s, |next| next.at_s);
        let mut left = times;
        while left >= 1.0 || left > 0.0 && rng.chance(left) {
            let later = if left < times { rng.unit() * (until_s - line.at_s) } else { 0.0 };
            out.push(Line { at_s: line.at_s + later, ..*line });
            left -= 1.0;
        }
    }
    out.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::sides;
    use crate::simulate;

    fn two() -> Scenario {
        Scenario::read(
            r#"
            seconds = 60
            [[provider]]
            name = "p"
            account = [
              { name = "a", key = [{ name = "a1" }, { name = "a2" }] },
              { name = "b", limits = [{ limit = 60, period_ms = 60000 }], key = [{ name = "b1" }] },
            ]
            [keys."p/b1"]
            weight = 2.0
            [[route]]
            name = "some"
            tiers = [["p/b"], [{ provider = "p", keys = ["a2", "b1"] }]]
            [[traffic]]
            arrivals = { uniform = 2.0 }
            "#,
        )
        .expect("a scenario")
    }

    fn tiers(s: &Scenario) -> Vec<usize> {
        let sides = sides(s).expect("both sides");
        sides.fleet.routes[0].tiers.iter().map(|t| t.iter().map(|m| m.keys.len()).sum()).collect()
    }

    #[test]
    fn one_more_account_is_one_more_account_wherever_the_other_is_named() {
        let more = variant(&two(), "+account:p/b").expect("one more");
        assert_eq!(tiers(&two()), [1, 2]);
        assert_eq!(tiers(&more), [2, 3]);
        let fleet = sides(&more).expect("both sides").fleet;
        let new = fleet.keys.iter().find(|k| &*k.name == "b1-more").expect("its key");
        assert!((new.weight - 2.0).abs() < 1e-9 && fleet.accounts[2].limits.len() == 1);
        let twice = variant(&more, "+account:p/b").expect("and one more");
        assert_eq!(tiers(&twice), [3, 4]);
        let first = variant(&two(), "+account").expect("one like the first");
        assert_eq!(sides(&first).expect("both sides").keys.len(), 5);
    }

    #[test]
    fn a_key_that_is_lost_is_lost_everywhere_and_an_account_with_it() {
        assert_eq!(tiers(&variant(&two(), "-key:p/a2").expect("without a key")), [1, 1]);
        assert_eq!(tiers(&variant(&two(), "-key:p/b1").expect("without a key")), [0, 1]);
        let without = variant(&two(), "-account:p/a").expect("without an account");
        assert_eq!((tiers(&without), sides(&without).expect("both sides").keys.len()), (vec![1, 1], 1));
        let last = variant(&without, "-key:p/b1").expect_err("the last one");
        assert!(last.to_string().contains("no key is left"), "{last}");
    }

    #[test]
    fn a_route_that_leads_nowhere_any_more_answers_nobody() {
        let mut only = two();
        only.routes[0].tiers.pop();
        let lost = variant(&only, "-account:p/b").expect("without it");
        let run = simulate(&lost, 1).expect("a run");
        assert_eq!((run.by_name["answered"], run.violations), (0.0, Vec::<String>::new()));
    }

    #[test]
    fn what_is_misspelt_is_told_with_what_there_is() {
        for (wrong, what, known) in [
            ("-key:p/a3", "key", "p/a2"),
            ("-key:a2", "key", "p/a2"),
            ("-account:p/c", "account", "p/b"),
            ("+account:q", "provider", "p"),
        ] {
            let Err(SpecError::Unknown { what: of, known: all, .. }) = variant(&two(), wrong) else {
                panic!("{wrong} is taken")
            };
            assert!(of == what && all.contains(&known.to_owned()), "{wrong}: {all:?}");
        }
        for wrong in ["x", "x0", "x-1", "xNaN", "x1e9", "faster", "-key", "declared:p"] {
            assert!(matches!(variant(&two(), wrong), Err(SpecError::Sense(_))), "{wrong}");
        }
    }

    #[test]
    fn so_many_times_the_load_is_so_many_times_as_many_requests_in_the_same_pattern() {
        let requests = |s: &Scenario| simulate(s, 1).expect("a run").by_name["requests"].round();
        let [once, twice] = [two(), variant(&two(), "x2").expect("twice")].map(|s| requests(&s));
        assert!((twice - 2.0 * once).abs() < 1e-9 && once > 100.0, "{once} {twice}");
        let line = |at_s| Line { at_s, input: 1, output: 1, ..Line::default() };
        // A burst of a thousand, a minute of silence, and another.
        let burst = |at: f64| (0..1_000).map(move |n| line(at + f64::from(n) / 1e3));
        let lines: Vec<Line> = burst(0.0).chain(burst(61.0)).collect();
        let twice = copies(&lines, 2.0);
        assert_eq!(twice.len(), 4_000);
        // Of the last line before the silence, the copy may come in it.
        let silent = twice.iter().filter(|l| (1.0..61.0).contains(&l.at_s)).count();
        assert!(silent <= 1 && twice.is_sorted_by(|a, b| a.at_s <= b.at_s), "{silent}");
        let half = copies(&lines, 0.5).len();
        assert!((900..1_100).contains(&half), "{half}");
        let more = copies(&lines, 1.5).len();
        assert!((2_900..3_100).contains(&more), "{more}");
    }
}
