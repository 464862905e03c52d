//! The scenarios that come with the program.

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
    "announced-windows",
    "back-in-share",
    "below-quota",
    "bursts",
    "charged-less",
    "charged-more",
    "charged-otherwise",
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
    "refused-count-drained",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Scenario;
    use crate::variant;

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
}
