use proptest::prelude::*;

use super::{Dimension, Measurement, Period, Profile, Scope, read, retry_after};

/// 2026-11-23T10:00:00Z.
const NOW: u64 = 1_795_428_000_000_000_000;
const S: u64 = 1_000_000_000;

fn measure(profile: Profile, headers: &[(&str, &str)]) -> Vec<Measurement> {
    let mut out = Vec::new();
    read(profile, headers.iter().map(|(n, v)| (*n, v.as_bytes())), NOW, &mut out);
    out
}

fn wait(headers: &[(&str, &str)]) -> Option<u64> {
    retry_after(headers.iter().map(|(n, v)| (*n, v.as_bytes())), NOW)
}

#[test]
fn openai_counts_by_the_minute_and_resets_when_full() {
    let got = measure(
        Profile::OpenAi,
        &[
            ("content-type", "application/json"),
            ("x-ratelimit-limit-requests", "10,000"),
            ("x-ratelimit-remaining-requests", "9999"),
            ("x-ratelimit-reset-requests", "6ms"),
            ("X-RateLimit-Limit-Tokens", "2000000"),
            ("x-ratelimit-remaining-tokens", "1999985"),
            ("x-ratelimit-reset-tokens", "1h12m3.5s"),
            ("x-ratelimit-remaining-project-tokens", "5"),
            ("x-request-id", "req_1"),
        ],
    );
    let base = Measurement {
        dimension: Dimension::Requests,
        period: Period::Minute,
        scope: Scope::Model,
        limit: Some(10_000),
        remaining: Some(9_999),
        rounding: 1,
        reset_ns: Some(6_000_000),
        reset_means_full: true,
    };
    let tokens = Measurement {
        dimension: Dimension::TotalTokens,
        limit: Some(2_000_000),
        remaining: Some(1_999_985),
        reset_ns: Some(4323 * S + S / 2),
        ..base
    };
    let project =
        Measurement { scope: Scope::Project, limit: None, remaining: Some(5), reset_ns: None, ..tokens };
    assert_eq!(got, [base, tokens, project]);
}

#[test]
fn the_same_name_is_a_day_at_groq_and_the_profile_does_not_change_anthropics() {
    let got = measure(
        Profile::Groq,
        &[
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-reset-requests", "2m59.56s"),
            ("x-ratelimit-limit-tokens", "18000"),
            ("x-ratelimit-reset-tokens", "7.66s"),
        ],
    );
    assert_eq!((got[0].dimension, got[0].period), (Dimension::Requests, Period::Day));
    assert_eq!((got[1].dimension, got[1].period), (Dimension::TotalTokens, Period::Minute));
    for profile in [Profile::Anthropic, Profile::Generic, Profile::Groq] {
        let got = measure(
            profile,
            &[
                ("anthropic-ratelimit-requests-limit", "50"),
                ("anthropic-ratelimit-requests-reset", "2026-11-23T10:00:01Z"),
                ("anthropic-ratelimit-input-tokens-remaining", "79000"),
                ("anthropic-ratelimit-output-tokens-remaining", "16000"),
                ("anthropic-ratelimit-tokens-remaining", "95000"),
                ("anthropic-priority-input-tokens-remaining", "1"),
                ("anthropic-ratelimit-unified-5h-reset", "1795428000"),
                ("anthropic-ratelimit-unified-status", "allowed"),
            ],
        );
        let seen: Vec<_> =
            got.iter().map(|m| (m.dimension, m.period, m.rounding, m.reset_means_full)).collect();
        assert_eq!(
            seen,
            [
                (Dimension::Requests, Period::Minute, 1, true),
                (Dimension::InputTokens, Period::Minute, 1000, true),
                (Dimension::OutputTokens, Period::Minute, 1000, true),
                (Dimension::TotalTokens, Period::Minute, 1000, true),
            ]
        );
        assert_eq!(got[0].reset_ns, Some(S));
    }
}

#[test]
fn names_that_carry_their_period_keep_it() {
    let got = measure(
        Profile::Mistral,
        &[
            ("x-ratelimit-limit-req-minute", "0"),
            ("x-ratelimit-remaining-tokens-minute", "499990"),
            ("x-ratelimit-tokens-query-cost", "10"),
            ("x-ratelimit-limit-tokens-month", "1000000000"),
        ],
    );
    assert_eq!(got.len(), 3);
    assert_eq!(
        (got[0].dimension, got[0].period, got[0].limit),
        (Dimension::Requests, Period::Minute, Some(0))
    );
    assert_eq!((got[1].period, got[1].remaining), (Period::Minute, Some(499_990)));
    assert_eq!(got[2].period, Period::Month);
    let got = measure(
        Profile::Cerebras,
        &[("x-ratelimit-reset-requests-day", "33011.382867"), ("x-ratelimit-reset-tokens-minute", "11.38")],
    );
    assert_eq!((got[0].period, got[0].reset_ns), (Period::Day, Some(33_011_382_867_000)));
    assert_eq!((got[1].period, got[1].reset_ns), (Period::Minute, Some(11_380_000_000)));
}

#[test]
fn bare_names_carry_points_in_time_and_policies() {
    let reset = (NOW / 1_000_000 + 60_000).to_string();
    let got = measure(
        Profile::OpenRouter,
        &[("x-ratelimit-limit", "20"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)],
    );
    let want = Measurement {
        dimension: Dimension::Requests,
        period: Period::Unknown,
        scope: Scope::Account,
        limit: Some(20),
        remaining: Some(0),
        rounding: 1,
        reset_ns: Some(60 * S),
        reset_means_full: false,
    };
    assert_eq!(got, [want]);
    let got = measure(
        Profile::Generic,
        &[("ratelimit-limit", "100, 100;w=60"), ("ratelimit-remaining", "7"), ("ratelimit-reset", "12")],
    );
    assert_eq!(got, [Measurement { limit: Some(100), remaining: Some(7), reset_ns: Some(12 * S), ..want }]);
}

#[test]
fn azures_nothing_is_nothing() {
    assert_eq!(
        measure(
            Profile::Azure,
            &[
                ("x-ratelimit-limit-requests", "-1"),
                ("x-ratelimit-remaining-requests", "-1"),
                ("x-ratelimit-limit-tokens", "0"),
                ("x-ratelimit-remaining-tokens", "0"),
            ],
        ),
        []
    );
    let got = measure(
        Profile::Azure,
        &[("x-ratelimit-remaining-tokens", "900"), ("x-rate-limit-reset-tokens", "10"), ("x-ms-region", "x")],
    );
    assert_eq!((got[0].remaining, got[0].reset_ns), (Some(900), Some(10 * S)));
    // An empty limit means something everywhere else.
    assert_eq!(measure(Profile::OpenAi, &[("x-ratelimit-remaining-tokens", "0")]).len(), 1);
}

#[test]
fn retry_after_in_its_forms() {
    assert_eq!(wait(&[("retry-after", "20")]), Some(20 * S));
    assert_eq!(wait(&[("Retry-After", "0.5")]), Some(S / 2));
    assert_eq!(wait(&[("retry-after", "0")]), Some(0));
    assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2026 10:00:07 GMT")]), Some(7 * S));
    assert_eq!(wait(&[("retry-after", "30"), ("retry-after-ms", "1500")]), Some(S + S / 2));
    assert_eq!(wait(&[("retry-after-ms", "NaN"), ("retry-after", "3")]), Some(3 * S));
    for nonsense in ["NaN", "-3", "", "inf", "later", "\u{661}"] {
        assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        assert_eq!(wait(&[("retry-after-ms", nonsense)]), None, "{nonsense}");
    }
    let year = 366 * 86_400 * S;
    assert_eq!(wait(&[("retry-after", "999999999")]), Some(year));
    assert_eq!(wait(&[("retry-after-ms", "1e300")]), Some(year));
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(name in "(x-ratelimit-(limit|reset|remaining)-?|anthropic-ratelimit-|retry-after)?[a-z-]{0,20}",
                                     value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let headers = [(name.as_str(), value.as_slice())];
        let mut out = Vec::new();
        for profile in [Profile::OpenAi, Profile::Azure, Profile::Generic] {
            read(profile, headers.into_iter(), NOW, &mut out);
        }
        let _ = retry_after(headers.into_iter(), u64::MAX);
        prop_assert!(out.iter().all(|m| m.rounding >= 1 && m.reset_ns.is_none_or(|ns| ns <= 366 * 86_400 * S)));
    }
}
