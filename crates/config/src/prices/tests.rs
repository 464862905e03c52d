//! Costs against another program's, bounds against costs.

use super::*;
use proptest::prelude::*;

const NOW_S: u64 = 1_795_392_000; // 2026-11-23

fn rates(list: &[(Kind, u64)]) -> Rates {
    Rates { list: list.iter().map(|(k, n)| (*k, Rate::flat(*n))).collect(), unmetered: false }
}

fn at(unix_s: u64) -> At<'static> {
    At { unix_s, ..At::default() }
}

#[test]
fn the_embedded_table_says_its_date_and_prices_models_of_every_preset() {
    let table = Table::read(include_str!("table.txt")).unwrap();
    assert_eq!((&*table.date, &*table.source), ("2026-11-23", "genai-prices-0.2.3"));
    assert!(table.len() > 1_400, "{}", table.len());
    for (provider, model) in [
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "GPT-6-sol-2026-10-01"),
        ("openrouter", "anthropic/claude-haiku-5.5-20261001"),
        ("anthropic", "claude-opus-5-20260801"),
        ("gemini", "gemini-3.5-flash"),
        ("groq", "llama-3.3-70b-versatile"),
        ("azure", "gpt-4o"),
    ] {
        assert!(table.find(provider, model).is_some(), "{provider}:{model}");
    }
    assert!(table.find("openai", "no-such-model").is_none());
    assert!(table.find("lab", "gpt-4o").is_none());
    assert_eq!(Table::embedded().len(), table.len());
}

#[test]
fn a_price_of_nothing_is_not_an_unknown_price() {
    let prices = Prices::default();
    let free = prices.of("or", Some("openrouter"), "allenai/molmo-7b-d:free").unwrap();
    let usage = Usage { input_tokens: 10, output_tokens: 10, ..Usage::default() };
    assert_eq!(free.cost(&usage, &at(NOW_S)), Some(0));
    assert!(prices.of("lab", None, "llama").is_none());
    // Output that has no rate is not free.
    let embedding = Price::of_rates(rates(&[(Kind::Input, 1)]));
    assert_eq!(embedding.cost(&usage, &at(NOW_S)), None);
    assert_eq!(embedding.cost(&Usage { output_tokens: 0, ..usage }, &at(NOW_S)), Some(1));
    // Nor is what is counted in hours.
    let speech = Price::of_rates(Rates { unmetered: true, ..rates(&[(Kind::Input, 1)]) });
    assert_eq!(speech.cost(&Usage { input_tokens: 1, ..Usage::default() }, &at(NOW_S)), None);
    assert_eq!(Price::default().cost(&Usage::default(), &at(NOW_S)), None);
}

#[test]
fn own_prices_go_over_the_table_and_the_first_that_fits_counts() {
    let one = Price::of_rates(rates(&[(Kind::Input, 1)]));
    let two = Price::of_rates(rates(&[(Kind::Input, 2)]));
    let own = vec![("OpenAI:gpt-4o*".into(), one.clone()), ("*".into(), two.clone())];
    let prices = Prices { own, ..Prices::default() };
    assert_eq!(prices.of("openai", Some("openai"), "GPT-4o-mini"), Some(&one));
    assert_eq!(prices.of("openai", Some("openai"), "gpt-4"), Some(&two));
}

#[test]
fn a_table_that_is_broken_is_refused_with_its_line() {
    let head = "keymux-prices 1 2026-01-01 x\n";
    for (text, line) in [
        ("", 1),
        ("keymux-prices 2 2026-01-01 x\np a\nm 0 b\nr - i1", 1),
        (&format!("{head}m 0 a"), 2),
        (&format!("{head}p a\nm x b"), 3),
        (&format!("{head}p a\nr - i1"), 3),
        (&format!("{head}p a\nm 0 b\nr - z1"), 4),
        (&format!("{head}p a\nm 0 b\nr - i1 i2"), 4),
        (&format!("{head}p a\nm 0 b\nr - i-1"), 4),
        (&format!("{head}p a\nm 0 b\nr - i1,5>2,5>3"), 4),
        (&format!("{head}p a\nm 0 b\nr t0-1440 i1"), 4),
        (&format!("{head}p a\nm 0 b\nr - i0.0000000001"), 4),
        (head, 1),
    ] {
        assert_eq!(Table::read(text).map(|t| t.len()).unwrap_err().line, line, "{text}");
    }
}

/// Every case of `scripts/prices`, as genai-prices computes it, to the nano-dollar.
#[test]
fn costs_agree_with_the_library_that_the_table_comes_from() {
    let table = Table::embedded();
    let mut agreed = 0;
    for line in include_str!("../../tests/all/prices.txt").lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [preset, model, tier, unix_s, counts @ .., dollars] = words.as_slice() else { panic!("{line}") };
        let n: Vec<u64> = counts.iter().map(|c| c.parse().unwrap()).collect();
        let usage = Usage {
            input_tokens: n[0],
            output_tokens: n[1],
            cache_read_tokens: n[2],
            cache_write_tokens: n[3],
            cache_write_hour_tokens: n[4],
            input_audio_tokens: n[5],
            output_audio_tokens: n[6],
            input_image_tokens: n[7],
            web_searches: n[8],
            ..Usage::default()
        };
        let at = At {
            unix_s: unix_s.parse().unwrap(),
            tier: Some(*tier).filter(|t| *t != "-" && !t.contains('=')),
            fast: *tier == "speed=fast",
        };
        let price = table.find(preset, model).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(price.cost(&usage, &at), Some(nano_rounded_up(dollars)), "{line}");
        agreed += 1;
    }
    assert!(agreed > 400, "{agreed}");
}

fn nano_rounded_up(dollars: &str) -> u64 {
    let (whole, part) = dollars.split_once('.').unwrap_or((dollars, ""));
    let (nano, rest) = part.split_at(part.len().min(9));
    let sum = whole.parse::<u64>().unwrap() * 1_000_000_000 + format!("{nano:0<9}").parse::<u64>().unwrap();
    sum + u64::from(rest.bytes().any(|b| b != b'0'))
}

#[test]
fn a_context_step_prices_everything_and_begins_beyond_its_threshold() {
    let rate = Rate { base: 1_000_000, above: vec![(200_000, 2_000_000)] };
    let price = Price::of_rates(Rates { list: vec![(Kind::Input, rate)], unmetered: false });
    let cost = |input_tokens| price.cost(&Usage { input_tokens, ..Usage::default() }, &at(0));
    assert_eq!(cost(200_000), Some(200_000));
    assert_eq!(cost(200_001), Some(400_002));
}

#[test]
fn prices_change_with_the_day_and_the_time_of_day() {
    let price = Price {
        standard: vec![
            (When::Always, rates(&[(Kind::Input, 1_000_000)])),
            (When::From(10), rates(&[(Kind::Input, 2_000_000)])),
            (When::Daily(1_380, 60), rates(&[(Kind::Input, 5_000_000)])),
        ],
        ..Price::default()
    };
    let cost = |unix_s| price.cost(&Usage { input_tokens: 1, ..Usage::default() }, &at(unix_s)).unwrap();
    assert_eq!([cost(2 * 3_600), cost(10 * 86_400 + 2 * 3_600)], [1, 2]);
    assert_eq!([cost(1_379 * 60), cost(1_380 * 60), cost(59 * 60), cost(60 * 60)], [1, 5, 5, 1]);
}

fn simple() -> Request<'static> {
    Request { text_bytes: 100, output_tokens_max: Some(10), web_searches_max: Some(0), ..Request::default() }
}

#[test]
fn what_has_no_bound_says_so() {
    let price = Price::of_rates(rates(&[(Kind::Input, 1_000_000), (Kind::Output, 1_000_000)]));
    let bound = |r: Request<'_>| price.bound(&r, NOW_S);
    assert_eq!(bound(simple()), Some(4_096 + 100 + 10));
    assert_eq!(bound(Request { output_tokens_max: None, ..simple() }), None);
    assert_eq!(bound(Request { web_searches_max: None, ..simple() }), None);
    assert_eq!(bound(Request { web_searches_max: Some(1), ..simple() }), None, "its price is unknown");
    assert_eq!(bound(Request { files: 1, ..simple() }), None);
    assert_eq!(bound(Request { continues: true, ..simple() }), None);
    let known = Price { context_tokens: Some(1_000), ..price.clone() };
    assert_eq!(known.bound(&Request { files: 1, ..simple() }, NOW_S), Some(1_010));
    // The context of a table that is out of date does not shorten what bytes can be.
    assert_eq!(known.bound(&simple(), NOW_S), Some(4_206));
    let only_input = Price::of_rates(rates(&[(Kind::Input, 1_000_000)]));
    assert_eq!(only_input.bound(&simple(), NOW_S), None);
    assert_eq!(only_input.bound(&Request { output_tokens_max: Some(0), ..simple() }, NOW_S), Some(4_196));
}

#[test]
fn a_context_short_of_a_step_is_not_believed() {
    let input = Rate { base: 1, above: vec![(200_000, 2)] };
    let list = vec![(Kind::Input, input), (Kind::Output, Rate::flat(1))];
    let mut price = Price::of_rates(Rates { list, unmetered: false });
    let request = Request { files: 1, ..simple() };
    price.context_tokens = Some(200_000);
    assert_eq!(price.bound(&request, NOW_S), None);
    price.context_tokens = Some(1_000_000);
    assert!(price.bound(&request, NOW_S).is_some());
}

#[test]
fn the_tier_that_a_request_names_is_the_only_one_it_pays_for() {
    let price = Price {
        variants: vec![
            ("flex".into(), When::Always, rates(&[(Kind::Input, 500_000)])),
            ("priority".into(), When::Always, rates(&[(Kind::Input, 2_000_000), (Kind::Output, 0)])),
            ("speed=fast".into(), When::Always, rates(&[(Kind::Input, 6_000_000)])),
        ],
        ..Price::of_rates(rates(&[(Kind::Input, 1_000_000), (Kind::Output, 0)]))
    };
    let bound = |r: Request<'_>| price.bound(&r, NOW_S).unwrap();
    assert_eq!(bound(simple()), 2 * 4_196, "the provider chooses");
    assert_eq!(bound(Request { tier: Some("auto"), ..simple() }), 2 * 4_196);
    assert_eq!(bound(Request { tier: Some("default"), ..simple() }), 4_196);
    assert_eq!(bound(Request { tier: Some("fast"), ..simple() }), 2 * 4_196, "another word for a tier");
    assert_eq!(
        bound(Request { tier: Some("flex"), ..simple() }),
        4_196,
        "it may be served at the standard tier"
    );
    assert_eq!(bound(Request { fast: true, tier: Some("default"), ..simple() }), 6 * 4_196);
    let one_price = Price::of_rates(rates(&[(Kind::Input, 1_000_000), (Kind::Output, 0)]));
    for (tier, known) in
        [("priority", None), ("ultrafast", None), ("on_demand", Some(4_196)), ("flex", Some(4_196))]
    {
        assert_eq!(one_price.bound(&Request { tier: Some(tier), ..simple() }, NOW_S), known, "{tier}");
    }
}

#[test]
fn who_is_within_the_ceiling_costs_no_more_than_the_bound_whichever_model_it_serves() {
    let of = |input, output, cached| {
        let list = [(Kind::Input, input), (Kind::Output, output), (Kind::CacheWrite, cached)];
        Price::of_rates(rates(&list)).dearest(&simple(), NOW_S).unwrap()
    };
    let either = of(10_000_000, 1_000_000, 12_500_000).or(of(1_000_000, 10_000_000, 1_000_000));
    let ceiling = Ceiling { input: 10_000_000, output: Some(10_000_000), request: 0, image: None };
    assert_eq!(either.ceiling(), ceiling, "what is dearer than plain input is in the bound alone");
    // Somebody may ask the dearest of each for one and the same model.
    assert_eq!(either.bound(10), 4_196 * 25 / 2 + 100);
    assert_eq!(either.output_tokens_affordable(4_196 * 25 / 2 + 99), Some(9));

    let fee = [(Kind::Input, 3_000_000), (Kind::Requests, 5_000_000 * 1_000_000), (Kind::Reasoning, 1)];
    let request = Request { images: 2, output_tokens_max: Some(0), ..simple() };
    let found = Price::of_rates(rates(&fee)).dearest(&request, NOW_S).unwrap().ceiling();
    assert_eq!(found, Ceiling { input: 3_000_000, output: None, request: 5_000_000, image: Some(60_000) });
}

#[test]
fn who_works_with_fractions_is_within_a_ceiling_of_the_same_price_and_the_bound_holds_there() {
    let mut beside = 0;
    for cents in 1..=3_000_u32 {
        let listed = u64::from(cents) * 10_000_000;
        let list = [(Kind::Input, listed), (Kind::Output, listed), (Kind::CacheWrite, listed * 5 / 4)];
        let plain = Price::of_rates(rates(&list)).dearest(&simple(), NOW_S).unwrap();
        let with = plain.with_a_hair();
        let ceiling = with.ceiling();
        // Listed for a token, asked for a million.
        let (dollars, for_a_token) = (f64::from(cents) / 100.0, format!("0.{cents:08}"));
        let reckoned = for_a_token.parse::<f64>().unwrap() * 1e6;
        beside += u32::from(reckoned > dollars);
        assert!(reckoned <= ceiling.input as f64 / 1e9, "{cents}");
        assert_eq!(Some(ceiling.input), ceiling.output);
        // All of the input is cached, at a price as far above the listed one.
        let most = 4_196 * u128::from(ceiling.input) * 5 / 4 + 10 * u128::from(ceiling.input);
        assert!(most <= u128::from(with.bound(10)) * 1_000_000, "{cents}");
        assert!(with.bound(10) <= plain.bound(10) + 1, "{cents}");
    }
    assert!(beside > 100, "{beside}");
    let free = Price::of_rates(rates(&[(Kind::Input, 0), (Kind::Output, 0)])).dearest(&simple(), NOW_S);
    assert_eq!(free.unwrap().with_a_hair(), free.unwrap(), "nothing is nothing in fractions too");
    let fee = rates(&[(Kind::Input, 3), (Kind::Output, 3), (Kind::Requests, 5_000_000)]);
    let fee = Price::of_rates(fee).dearest(&simple(), NOW_S).unwrap();
    let with = fee.with_a_hair();
    assert_eq!((fee.ceiling().request, with.ceiling().request), (5, 6));
    assert!(with.bound(0) > fee.bound(0));
}

/// A request and a usage that fits it: what the bound must hold for.
fn pairs() -> impl Strategy<Value = (Request<'static>, Usage, At<'static>)> {
    let counts = (0_u64..20_000, 0_u64..3, 0_u64..2, 0_u64..9_000);
    let flags = proptest::array::uniform3(any::<bool>());
    let shares = proptest::array::uniform12(0_u64..=100);
    let more = (0_u64..5_000, 0_u64..4, 0_u64..2_000_000, 0..4_usize);
    (counts, flags, shares, more).prop_map(
        |((text_bytes, images, audio, media_bytes), flags, share, more)| {
            let [cache_hour, audio_out, fast] = flags;
            let (output_max, searches, later_s, tier) = more;
            let tier = [None, Some("default"), Some("priority"), Some("flex")][tier];
            let request = Request {
                text_bytes: text_bytes * 20,
                media_bytes,
                images,
                audio,
                files: 0,
                continues: false,
                output_tokens_max: Some(output_max),
                web_searches_max: Some(searches),
                tier,
                fast,
                cache_hour,
                audio_out,
            };
            let part = |whole: u64, share: u64| whole * share / 100;
            let input_tokens = part(request.input_tokens_max(None).unwrap(), share[0]);
            let output_tokens = part(output_max, share[1]);
            let when = |may: bool, n: u64| if may { n } else { 0 };
            let input_audio_tokens = when(audio > 0, part(input_tokens, share[2]));
            let input_image_tokens = when(images > 0, part(input_tokens, share[3]));
            let cache_write_tokens = part(input_tokens, share[4]);
            let cache_read_tokens = part(input_tokens, share[5]);
            let usage = Usage {
                input_tokens,
                output_tokens,
                cache_read_tokens,
                cache_write_tokens,
                cache_write_hour_tokens: when(cache_hour, part(cache_write_tokens, share[6])),
                input_audio_tokens,
                input_image_tokens,
                cached_audio_tokens: part(input_audio_tokens.min(cache_read_tokens), share[7]),
                cached_image_tokens: part(input_image_tokens.min(cache_read_tokens), share[8]),
                output_audio_tokens: when(audio_out, part(output_tokens, share[9])),
                output_image_tokens: part(output_tokens, share[10]),
                reasoning_tokens: part(output_tokens, share[11]),
                web_searches: searches.saturating_sub(share[0] % 2),
                ..Usage::default()
            };
            let tier = tier.filter(|_| share[1] % 3 > 0);
            let at = At { unix_s: NOW_S + later_s % 86_400, tier, fast: fast && share[2] % 2 > 0 };
            (request, usage, at)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    /// For the prices that there are, the odd ones first.
    #[test]
    fn no_usage_that_fits_a_request_costs_more_than_its_bound(
        (request, usage, at) in pairs(),
        tier in prop_oneof![Just(None), Just(Some("priority")), Just(Some("flex")), Just(Some("fast"))],
    ) {
        let table = Table::embedded();
        for (provider, model) in [
            ("openai", "gpt-6-sol"), ("openai", "gpt-4o-audio-preview"), ("openai", "gpt-5.6-luna"),
            ("openai", "gpt-image-1"), ("anthropic", "claude-opus-4-6"), ("anthropic", "claude-sonnet-4-5"),
            ("gemini", "gemini-2.5-flash"), ("gemini", "gemini-3-pro-image"), ("gemini", "gemini-3-pro-preview"), ("deepseek", "deepseek-flash"),
            ("deepseek", "deepseek-v4-pro"), ("openrouter", "mistralai/mistral-large-4-0"),
            ("openrouter", "perplexity/sonar-deep-research"), ("mistral", "mistral-large-latest"),
        ] {
            let Some(price) = table.find(provider, model) else { panic!("{provider}:{model}") };
            let Some(bound) = price.bound(&request, NOW_S) else { continue };
            // Asked for no tier, any may serve.
            let at = if request.tier.is_none() { At { tier, ..at } } else { at };
            let cost = price.cost(&usage, &at).expect("what has a bound has a cost");
            prop_assert!(cost <= bound, "{provider}:{model}: {cost} > {bound}");
        }
    }

    /// The greatest affordable cap is affordable, and one token more is not.
    #[test]
    fn the_affordable_output_is_exact((request, _, _) in pairs(), left in 0_u64..2_000_000_000) {
        let table = Table::embedded();
        let price = table.find("openai", "gpt-6-sol").unwrap();
        let bound = |n| price.bound(&Request { output_tokens_max: Some(n), ..request }, NOW_S).unwrap();
        // With output or without, the input counts the same.
        let dearest = price.dearest(&Request { output_tokens_max: Some(1), ..request }, NOW_S).unwrap();
        match dearest.output_tokens_affordable(left) {
            Some(n) => prop_assert!(bound(n) <= left && bound(n + 1) > left),
            None => prop_assert!(bound(0) > left),
        }
    }
}
