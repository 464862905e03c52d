//! What can go wrong, and when: timelines of faults at providers, accounts and keys.

use serde::{Deserialize, Serialize};

use crate::dialect::glob_matches;
use crate::rng::Rng;
use crate::time::MS;

/// One entry of a timeline. It applies while all its conditions hold; the first entry that applies wins, a
/// key's before its account's before its provider's.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// First millisecond (since the start of the world, or since the injection) in which it applies.
    #[serde(default)]
    pub from_ms: u64,
    /// First millisecond in which it no longer applies; None is for ever.
    #[serde(default)]
    pub to_ms: Option<u64>,
    /// First call, counted from 1 at the place where the fault stands (after it was injected).
    #[serde(default)]
    pub from_call: Option<u64>,
    /// Last call.
    #[serde(default)]
    pub to_call: Option<u64>,
    /// Models, as globs; empty means all.
    #[serde(default)]
    pub models: Vec<String>,
    /// Share of the matching calls that are hit.
    #[serde(default = "always")]
    pub probability: f64,
    /// What happens.
    pub kind: FaultKind,
}

fn always() -> f64 {
    1.0
}

impl FaultSpec {
    /// A fault that always applies.
    pub fn always(kind: FaultKind) -> Self {
        FaultSpec {
            from_ms: 0,
            to_ms: None,
            from_call: None,
            to_call: None,
            models: Vec::new(),
            probability: 1.0,
            kind,
        }
    }
}

/// In what form a rate-limit refusal says when to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitTime {
    /// `Retry-After` in seconds.
    #[default]
    RetryAfter,
    /// `retry-after-ms`.
    RetryAfterMs,
    /// Only the reset header of the provider's family.
    ResetHeader,
    /// Only in the text of the message.
    BodyText,
    /// Not at all.
    None,
}

/// Which limit OpenRouter says it was (`error.metadata.limit_source`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// 402, passes: too much money in flight.
    InFlightBudget,
    /// 402: no credit left.
    Credits,
    /// 402: this one request is too dear for what is left.
    WeightExceedsBudget,
    /// 403: the key's own cap.
    KeyLimit,
    /// 403: a guardrail's budget.
    GuardrailBudget,
    /// 403: the workspace's budget.
    WorkspaceBudget,
    /// 429: free models, a day.
    FreeTierDaily,
    /// 429: free models, a minute.
    FreeTierMinute,
    /// 429: one model's capacity, for everybody.
    SharedCapacity,
    /// 429: the upstream provider's pool, for everybody.
    UpstreamSharedPool,
}

/// Why a 403.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForbiddenWhy {
    /// The key may not.
    #[default]
    Permission,
    /// The key's own spending cap.
    KeyLimit,
    /// A guardrail's budget.
    Guardrail,
    /// The content: the request's fault.
    Moderation,
    /// The country.
    Region,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// 429 that passes.
    RateLimit {
        /// In what form it says when.
        #[serde(default)]
        time: RateLimitTime,
        /// When.
        #[serde(default = "one_second")]
        wait_ms: u64,
        /// OpenRouter: which limit it says it was.
        #[serde(default)]
        limit_source: Option<LimitSource>,
        /// The refusal speaks of tokens, not of requests.
        #[serde(default)]
        tokens: bool,
    },
    /// 429 that does not pass: quota or spend limit used up (Mistral: no plan).
    QuotaExhausted {
        /// OpenAI's or Anthropic's code for it; by default the vendor's commonest.
        #[serde(default)]
        code: Option<String>,
    },
    /// 401: the key is unknown.
    BadKey,
    /// 402: credits; with `in_flight` the one that passes. Anthropic without `in_flight`: its 400 for low credit.
    Payment {
        /// OpenRouter's in-flight budget, with `Retry-After`.
        #[serde(default)]
        in_flight: bool,
        /// What `Retry-After` says then.
        #[serde(default = "twenty_seconds")]
        wait_ms: u64,
    },
    /// 402 as Anthropic's `billing_error` and plain 402 elsewhere.
    Billing,
    /// 403.
    Forbidden {
        /// Whose fault it is.
        #[serde(default)]
        why: ForbiddenWhy,
    },
    /// OpenRouter relays an upstream's error with the upstream's status.
    Relayed {
        /// The upstream's status.
        #[serde(default = "unauthorized")]
        status: u16,
    },
    /// 404: no such model.
    ModelMissing,
    /// 400: the context is too long.
    ContextLength,
    /// A plain error with this status in the dialect's form.
    Status {
        /// The status.
        code: u16,
        /// With `Retry-After`.
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// An HTML page with this status, as edge networks send it.
    Html {
        /// The status, 200 included.
        #[serde(default = "ok")]
        status: u16,
    },
    /// The request waits in the vendor's queue with its head sent: comment lines before a stream, blank lines
    /// before an answer in one piece (DeepSeek). Put a `delay_ms` or a slow model behind it.
    Queued {
        /// Time between signs of life.
        #[serde(default = "ten")]
        every_ms: u64,
    },
    /// Never answers.
    Hang,
    /// TCP reset; before the head, or after so many events.
    Reset {
        /// Events (or body pieces) sent first; None is before the head.
        #[serde(default)]
        after_events: Option<u32>,
    },
    /// Everything takes this many times as long.
    Slow {
        /// Factor on all times.
        factor: f64,
    },
    /// The stream ends without its terminal event.
    Truncate {
        /// Output events sent first.
        #[serde(default = "three")]
        after_events: u32,
        /// With a proper end of the HTTP body (else the connection is just closed).
        #[serde(default)]
        clean: bool,
    },
    /// The stream stops and the connection stays open.
    Stall {
        /// Output events sent first.
        #[serde(default = "three")]
        after_events: u32,
    },
    /// An error event inside the stream; `after_events = 0` puts it before any output.
    ErrorEvent {
        /// Output events sent first.
        #[serde(default = "three")]
        after_events: u32,
    },
    /// 200 with an error in it: as only content, or (`partial`) as OpenRouter's error choice with partial text.
    #[serde(rename = "error_in_200")]
    ErrorIn200 {
        /// With partial content.
        #[serde(default)]
        partial: bool,
    },
    /// Bytes that are not HTTP.
    Garbage,
    /// Half a response head, then the connection is closed.
    HalfHead,
    /// A head that never ends.
    EndlessHeaders,
    /// A content-length that is wrong by so many bytes.
    WrongLength {
        /// Positive: announces more than it sends.
        by: i64,
    },
    /// A redirect.
    Redirect {
        /// 301, 302, 307 or 308.
        #[serde(default = "temporary")]
        code: u16,
        /// Where to.
        location: String,
    },
    /// The answer is gzip although nobody asked for it.
    Gzip,
    /// The body comes in tiny pieces.
    Drip {
        /// Bytes in a piece.
        #[serde(default = "one")]
        bytes: u32,
        /// Time between pieces.
        #[serde(default)]
        every_ms: u64,
    },
}

fn one_second() -> u64 {
    1_000
}
fn twenty_seconds() -> u64 {
    20_000
}
fn unauthorized() -> u16 {
    401
}
fn ok() -> u16 {
    200
}
fn three() -> u32 {
    3
}
fn one() -> u32 {
    1
}
fn ten() -> u64 {
    10
}
fn temporary() -> u16 {
    307
}

impl FaultKind {
    /// Its name in records.
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::RateLimit { .. } => "rate_limit",
            FaultKind::QuotaExhausted { .. } => "quota_exhausted",
            FaultKind::BadKey => "bad_key",
            FaultKind::Payment { .. } => "payment",
            FaultKind::Billing => "billing",
            FaultKind::Forbidden { .. } => "forbidden",
            FaultKind::Relayed { .. } => "relayed",
            FaultKind::ModelMissing => "model_missing",
            FaultKind::ContextLength => "context_length",
            FaultKind::Status { .. } => "status",
            FaultKind::Html { .. } => "html",
            FaultKind::Queued { .. } => "queued",
            FaultKind::Hang => "hang",
            FaultKind::Reset { .. } => "reset",
            FaultKind::Slow { .. } => "slow",
            FaultKind::Truncate { .. } => "truncate",
            FaultKind::Stall { .. } => "stall",
            FaultKind::ErrorEvent { .. } => "error_event",
            FaultKind::ErrorIn200 { .. } => "error_in_200",
            FaultKind::Garbage => "garbage",
            FaultKind::HalfHead => "half_head",
            FaultKind::EndlessHeaders => "endless_headers",
            FaultKind::WrongLength { .. } => "wrong_length",
            FaultKind::Redirect { .. } => "redirect",
            FaultKind::Gzip => "gzip",
            FaultKind::Drip { .. } => "drip",
        }
    }
}

impl FaultKind {
    /// The status that goes out where the fault is not a refusal; 0 where none does.
    pub(crate) fn status(&self) -> u16 {
        match self {
            FaultKind::Html { status } | FaultKind::Redirect { code: status, .. } => *status,
            FaultKind::Hang
            | FaultKind::Reset { after_events: None }
            | FaultKind::Garbage
            | FaultKind::HalfHead
            | FaultKind::EndlessHeaders => 0,
            _ => 200,
        }
    }

    /// Instead of an answer there is something else (or nothing): no token is produced.
    pub(crate) fn replaces_answer(&self) -> bool {
        self.status() != 200 || matches!(self, FaultKind::Html { .. })
    }

    /// Whether `GET models`, `GET key` and their like meet it.
    fn hits_free_calls(&self) -> bool {
        self.replaces_answer()
            || match self {
                FaultKind::BadKey | FaultKind::Status { .. } => true,
                FaultKind::Forbidden { why } => {
                    matches!(why, ForbiddenWhy::Permission | ForbiddenWhy::Region)
                }
                _ => false,
            }
    }
}

/// A timeline entry in a running world: knows how many calls passed by since it was put there.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    spec: FaultSpec,
    calls: u64,
}

impl Fault {
    pub(crate) fn new(spec: FaultSpec) -> Self {
        Fault { spec, calls: 0 }
    }

    /// Shifts the timeline, for a fault that is injected at `mono_ns`.
    pub(crate) fn injected(mut spec: FaultSpec, mono_ns: u64) -> Self {
        let ms = mono_ns / MS;
        spec.from_ms = spec.from_ms.saturating_add(ms);
        spec.to_ms = spec.to_ms.map(|to| to.saturating_add(ms));
        Fault::new(spec)
    }

    /// Counts the call; true if it is hit. Calls for other models are not counted.
    fn hits(&mut self, mono_ns: u64, model: &str, free: bool, rng: &mut Rng) -> bool {
        let spec = &self.spec;
        if free {
            let numbered = spec.from_call.is_some() || spec.to_call.is_some();
            if numbered || !spec.models.is_empty() || !spec.kind.hits_free_calls() {
                return false;
            }
        }
        if !spec.models.is_empty() && !spec.models.iter().any(|glob| glob_matches(glob, model)) {
            return false;
        }
        let ms = mono_ns / MS;
        if ms < spec.from_ms || spec.to_ms.is_some_and(|to| ms >= to) {
            return false;
        }
        self.calls += 1;
        spec.from_call.is_none_or(|from| self.calls >= from)
            && spec.to_call.is_none_or(|to| self.calls <= to)
            && rng.chance(spec.probability)
    }
}

/// The first fault of a timeline that hits this call. All entries see the call, so that call numbers do not
/// depend on the order of entries. Free calls (models, key) are neither counted nor hit by what is about
/// quotas, money or models.
pub(crate) fn pick(
    timeline: &mut [Fault],
    mono_ns: u64,
    model: &str,
    free: bool,
    rng: &mut Rng,
) -> Option<FaultKind> {
    let mut hit = None;
    for fault in timeline {
        if fault.hits(mono_ns, model, free, rng) && hit.is_none() {
            hit = Some(fault.spec.kind.clone());
        }
    }
    hit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        Fault::new(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn time_range_is_half_open() {
        let mut rng = Rng::new(1);
        let mut line = [fault(r#"{"from_ms":10,"to_ms":20,"kind":"hang"}"#)];
        let mut at = |ms: u64| pick(&mut line, ms * MS, "m", false, &mut rng).is_some();
        assert!(!at(9));
        assert!(at(10));
        assert!(at(19));
        assert!(!at(20));
    }

    #[test]
    fn call_range_counts_only_calls_for_its_models() {
        let mut rng = Rng::new(1);
        let mut line = [fault(r#"{"from_call":2,"to_call":2,"models":["a*"],"kind":"bad_key"}"#)];
        let hits: Vec<bool> = ["a1", "b", "b", "a2", "a3"]
            .iter()
            .map(|m| pick(&mut line, 0, m, false, &mut rng).is_some())
            .collect();
        assert_eq!(hits, [false, false, false, true, false]);
    }

    #[test]
    fn probability_hits_about_its_share() {
        let mut rng = Rng::new(1);
        let mut line = [fault(r#"{"probability":0.5,"kind":{"status":{"code":500}}}"#)];
        let hits = (0..10_000).filter(|_| pick(&mut line, 0, "m", false, &mut rng).is_some()).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
    }

    #[test]
    fn free_calls_meet_bad_keys_and_outages_but_no_quotas_and_are_not_counted() {
        let mut rng = Rng::new(1);
        let mut free = |json: &str| pick(&mut [fault(json)], 0, "", true, &mut rng).is_some();
        assert!(free(r#"{"kind":"bad_key"}"#));
        assert!(free(r#"{"kind":"hang"}"#));
        assert!(!free(r#"{"kind":{"rate_limit":{}}}"#));
        assert!(!free(r#"{"from_call":1,"kind":"bad_key"}"#));
    }

    #[test]
    fn the_name_in_a_record_is_the_name_in_a_spec() {
        for text in
            [r#"{"error_in_200":{}}"#, r#"{"rate_limit":{}}"#, r#"{"error_event":{}}"#, r#""half_head""#]
        {
            let kind: FaultKind = serde_json::from_str(text).unwrap();
            assert!(text.contains(&format!("\"{}\"", kind.name())), "{text}");
        }
    }

    #[test]
    fn a_misspelt_field_is_an_error() {
        assert!(serde_json::from_str::<FaultSpec>(r#"{"form_ms":1,"kind":"hang"}"#).is_err());
        assert!(serde_json::from_str::<FaultSpec>(r#"{"kind":{"rate_limit":{"wait":1}}}"#).is_err());
    }
}
