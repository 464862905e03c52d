//! The scenarios keep to what they expect. What is known not to be met yet is printed, and must still be as it is
//! known: as soon as it is met, the mark has to go.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests, and what is not met yet is to be read"
)]

use keymux_sim::{Figures, Scenario, judge, simulate};

const SEEDS: u64 = 3;
/// What is learned hangs on a few refusals each: one seed in ten may go quite wrong.
const SEEDS_UNKNOWN: u64 = 20;

fn scenario(name: &str) -> Scenario {
    let path = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect(&path);
    Scenario::read(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn check(name: &str) {
    let scenario = scenario(name);
    let seeds = 1..=if name.starts_with("unknown-") { SEEDS_UNKNOWN } else { SEEDS };
    let runs: Vec<Figures> = seeds.map(|seed| simulate(&scenario, seed).expect(name)).collect();
    let mut wrong = Vec::new();
    for j in judge(&scenario, &runs) {
        let [low, high] = j.wanted;
        let says =
            format!("{}: worst {:.4}, median {:.4}, wanted {low} to {high}", j.name, j.worst, j.median);
        match (&j.known, j.met, j.stale) {
            (None, true, _) => {}
            (Some(why), false, false) => println!("NOT MET YET {name}: {says}: {why}"),
            (Some(_), ..) => {
                wrong.push(format!("{says}: is not what is known of it; mend or remove the mark"));
            }
            (None, false, _) => wrong.push(says),
        }
    }
    if !wrong.is_empty() {
        wrong.extend(runs.iter().flat_map(|r| r.violations.iter().map(|v| format!("seed {}: {v}", r.seed))));
    }
    assert!(wrong.is_empty(), "{name}:\n{}\n{:?}", wrong.join("\n"), runs[0].by_name);
}

macro_rules! scenarios {
    ($($test:ident = $file:literal),* $(,)?) => {
        $(#[test] fn $test() { check($file); })*
        #[test]
        fn every_file_is_run() {
            let files = std::fs::read_dir(format!("{}/scenarios", env!("CARGO_MANIFEST_DIR"))).unwrap();
            for file in files {
                let name = file.unwrap().file_name().into_string().unwrap();
                assert!([$($file),*].contains(&name.trim_end_matches(".toml")), "{name} is run by no test");
            }
        }
    };
}

scenarios! {
    announced = "announced",
    announced_narrow = "announced-narrow",
    announced_narrow_openai = "announced-narrow-openai",
    announced_rounded = "announced-rounded",
    announced_windows = "announced-windows",
    back_in_share = "back-in-share",
    below_quota = "below-quota",
    bursts = "bursts",
    charged_less = "charged-less",
    charged_more = "charged-more",
    charged_otherwise = "charged-otherwise",
    cold_flood = "cold-flood",
    concurrency = "concurrency",
    conversations = "conversations",
    enforced_finer = "enforced-finer",
    flood = "flood",
    hanging_plain = "hanging-plain",
    overload_130 = "overload-130",
    poison = "poison",
    provider_down = "provider-down",
    quotas_1_3_6 = "quotas-1-3-6",
    refusals_told = "refusals-told",
    refused_count = "refused-count",
    refused_count_drained = "refused-count-drained",
    refused_keys = "refused-keys",
    restart = "restart",
    shared_account = "shared-account",
    slow_failing_hanging = "slow-failing-hanging",
    stranger = "stranger",
    stranger_silent = "stranger-silent",
    sub_window = "sub-window",
    ten_thousand_keys = "ten-thousand-keys",
    token_bound = "token-bound",
    unknown_cold = "unknown-cold",
    unknown_retry_after = "unknown-retry-after",
    unknown_warm = "unknown-warm",
    unknown_windows_cold = "unknown-windows-cold",
    unknown_windows_warm = "unknown-windows-warm",
}

#[test]
fn conversations_are_cheaper_where_their_prompt_is_cached() {
    let kept = scenario("conversations");
    let spread = keymux_sim::variant(&kept, "no_affinity").unwrap();
    let of = |scenario: &Scenario, name: &str| simulate(scenario, 1).unwrap().by_name[name];
    let (warm, cold) = (of(&kept, "cached"), of(&spread, "cached"));
    assert!(warm > 0.65 && cold < 0.4, "read from caches: {warm} and {cold}");
    let (cost, plain) = (of(&kept, "prompt_cost"), of(&spread, "prompt_cost"));
    assert!(cost < 0.65 * plain, "{cost} and {plain}");
    // It is not paid for with waiting.
    assert!(of(&kept, "wait_p99_ms") <= of(&spread, "wait_p99_ms"));
}
