//! The scenarios that come with the program, and what a scenario can be compared with.

use crate::spec::{Scenario, SpecError, StrategyName};

macro_rules! shelf {
    ($($name:literal),* $(,)?) => {
        /// Name and text of each scenario that comes with the program.
        pub const SHELF: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

shelf! {
    "announced",
    "announced-narrow",
    "announced-narrow-openai",
    "announced-rounded",
    "below-quota",
    "bursts",
    "cold-flood",
    "concurrency",
    "conversations",
    "enforced-finer",
    "flood",
    "hanging-plain",
    "overload-130",
    "poison",
    "provider-down",
    "quotas-1-3-6",
    "refusals-told",
    "refused-count",
    "refused-keys",
    "restart",
    "shared-account",
    "slow-failing-hanging",
    "stranger",
    "stranger-silent",
    "sub-window",
    "ten-thousand-keys",
    "token-bound",
    "unknown-cold",
    "unknown-retry-after",
    "unknown-warm",
    "unknown-windows-cold",
    "unknown-windows-warm",
}

/// The same scenario with something else in it: another strategy (`round_robin`, `weighted`, `least_in_flight`,
/// `fastest`, `headroom`), `declared` or `learned` limits, or `+account`: one more account like the first.
pub fn variant(scenario: &Scenario, name: &str) -> Result<Scenario, SpecError> {
    let mut other = scenario.clone();
    other.title = format!("{} [{name}]", scenario.title);
    let strategy = match name {
        "headroom" => Some(StrategyName::Headroom),
        "round_robin" => Some(StrategyName::RoundRobin),
        "weighted" => Some(StrategyName::Weighted),
        "least_in_flight" => Some(StrategyName::LeastInFlight),
        "fastest" => Some(StrategyName::Fastest),
        _ => None,
    };
    match (name, strategy) {
        (_, Some(strategy)) => {
            if other.routes.is_empty() {
                let all = vec![other.providers.iter().map(|p| p.name.clone()).collect()];
                other.routes =
                    vec![crate::spec::Route { name: "chat".to_owned(), tiers: all, ..Default::default() }];
            }
            other.routes.iter_mut().for_each(|r| r.strategy = strategy);
        }
        ("declared", _) => other.limits = crate::spec::Limits::Declared,
        ("learned", _) => other.limits = crate::spec::Limits::Learned,
        ("no_affinity", _) => other.affinity = false,
        ("+account", _) => one_more(&mut other),
        _ => {
            return Err(SpecError::Sense(format!(
                "cannot compare with `{name}`: write a strategy (headroom, round_robin, weighted, least_in_flight, \
                 fastest), `declared`, `learned`, `no_affinity`, or `+account`"
            )));
        }
    }
    Ok(other)
}

fn one_more(scenario: &mut Scenario) {
    if let Some(copies) = scenario.accounts.first_mut() {
        copies.copies = copies.copies.max(1) + 1;
        return;
    }
    let Some(provider) = scenario.providers.first_mut() else { return };
    let Some(mut account) = provider.accounts.first().cloned() else { return };
    account.name.push_str("-more");
    for key in &mut account.keys {
        key.name = format!("{}-more", if key.name.is_empty() { &account.name } else { &key.name });
        key.secret.clear();
    }
    provider.accounts.push(account);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_holds_every_scenario_and_each_can_be_read_and_varied() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).expect("scenarios");
        assert_eq!(files.count(), SHELF.len());
        for (name, text) in SHELF {
            let scenario = Scenario::read(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            for other in ["round_robin", "learned", "+account"] {
                let other = variant(&scenario, other).expect(other);
                assert!(crate::fleet::sides(&other).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn one_more_account_is_one_more_account() {
        let (_, text) = SHELF[0];
        let scenario = Scenario::read(text).expect("a scenario");
        let keys = |s: &Scenario| crate::fleet::sides(s).map_or(0, |s| s.accounts.len());
        assert_eq!(keys(&variant(&scenario, "+account").expect("+account")), keys(&scenario) + 1);
        assert!(variant(&scenario, "faster").is_err());
    }
}
