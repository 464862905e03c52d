//! Refusals: who refuses and why, and how each vendor words it.

mod anthropic;
mod openai;
mod openrouter;

use crate::compose::Headers;
use crate::dialect::{Dialect, Endpoint, HeaderFamily};
use crate::fault::{FaultKind, ForbiddenWhy, LimitSource, RateLimitTime};
use crate::headers::{ComeBack, come_back};
use crate::record::Name;
use crate::spec::Dimension;
use crate::time::{MS, Now, retry_after_s};

/// Why a call is refused.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    NoKey,
    BadKey,
    RateLimit(Limited),
    Exhausted { code: Option<String> },
    Credits,
    TooDear { affordable_tokens: u64 },
    InFlight,
    Billing,
    KeyCap,
    Forbidden(ForbiddenWhy),
    WorkspaceBudget,
    Relayed { status: u16 },
    ModelMissing,
    TooDearThere,
    ContextLength { context: u64, requested: u64 },
    Status { code: u16 },
    Overloaded,
    NoPath,
    Method,
    Invalid { message: String, param: Option<&'static str> },
    NoResponse { id: String },
    PreviousResponse { id: String },
    NeedsManagementKey,
}

/// A refusal by a rate limit.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    pub(crate) dimension: Dimension,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) requested: u64,
    pub(crate) period_ns: u64,
    /// Larger than the limit can ever admit.
    pub(crate) never: bool,
    pub(crate) source: Option<LimitSource>,
    /// By a limit of this world, not by a fault.
    pub(crate) real: bool,
}

/// A refusal, with what it says about coming back.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) why: Why,
    /// What the books call it.
    pub(crate) rule: Name,
    pub(crate) wait_ns: Option<u64>,
    pub(crate) form: RateLimitTime,
    /// It came from a fault of this name.
    pub(crate) fault: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(why: Why, rule: &str) -> Self {
        Refusal { why, rule: Name::from(rule), wait_ns: None, form: RateLimitTime::None, fault: None }
    }

    pub(crate) fn after(mut self, wait_ns: Option<u64>, form: RateLimitTime) -> Self {
        self.wait_ns = wait_ns;
        self.form = form;
        self
    }

    /// The wait in words, where the form says that it stands in the text.
    pub(crate) fn wait_in_text(&self) -> Option<u64> {
        let real = matches!(&self.why, Why::RateLimit(limited) if limited.real);
        self.wait_ns.filter(|_| real || self.form == RateLimitTime::BodyText)
    }
}

/// What wording depends on beside the refusal.
pub(crate) struct Ctx<'a> {
    pub(crate) now: Now,
    pub(crate) dialect: Dialect,
    pub(crate) family: HeaderFamily,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: &'a str,
    pub(crate) account: &'a str,
    pub(crate) request_id: &'a str,
}

/// Status, headers and body of a refusal.
pub(crate) fn render(refusal: &Refusal, ctx: &Ctx<'_>) -> (u16, Headers, Vec<u8>) {
    let mut headers: Headers = vec![("content-type", "application/json".to_owned())];
    let (status, body) = match ctx.dialect {
        Dialect::Openai => openai::write(refusal, ctx),
        Dialect::Openrouter if !ctx.endpoint.anthropic_skin() => openrouter::write(refusal, ctx),
        Dialect::Openrouter | Dialect::Anthropic => anthropic::write(refusal, ctx),
    };
    if let Some(wait_ns) = refusal.wait_ns {
        match &refusal.why {
            Why::RateLimit(limited) => {
                let tokens = !matches!(limited.dimension, Dimension::Requests | Dimension::Concurrent);
                let back = ComeBack {
                    wait_ns,
                    form: refusal.form,
                    limit: limited.limit,
                    tokens,
                    real: limited.real,
                };
                come_back(ctx.family, &back, ctx.now, &mut headers);
            }
            _ if refusal.form == RateLimitTime::RetryAfterMs => {
                headers.push(("retry-after-ms", wait_ns.div_ceil(MS).to_string()));
            }
            _ if refusal.form == RateLimitTime::RetryAfter => {
                headers.push(("retry-after", retry_after_s(wait_ns).to_string()));
            }
            _ => {}
        }
    }
    if ctx.family == HeaderFamily::Mistral && matches!(refusal.why, Why::Exhausted { .. }) {
        headers.push(("x-ratelimit-limit-req-minute", "0".to_owned()));
        headers.push(("x-ratelimit-remaining-req-minute", "0".to_owned()));
    }
    (status, headers, body.into_bytes())
}

/// The refusal that a fault amounts to; None where the call is admitted and fails in bytes or time.
pub(crate) fn of_fault(fault: &FaultKind) -> Option<Refusal> {
    let seconds = |ms: u64| Some(ms.saturating_mul(MS));
    let refusal = match fault {
        FaultKind::RateLimit { time, wait_ms, limit_source, tokens } => {
            let limited = Limited {
                dimension: if *tokens { Dimension::TotalTokens } else { Dimension::Requests },
                limit: if *tokens { 30_000 } else { 60 },
                used: if *tokens { 29_000 } else { 60 },
                requested: if *tokens { 2_000 } else { 1 },
                period_ns: 60_000_000_000,
                never: false,
                source: *limit_source,
                real: false,
            };
            let wait = seconds(*wait_ms).filter(|_| *time != RateLimitTime::None);
            of_source(*limit_source, limited).after(wait, *time)
        }
        FaultKind::QuotaExhausted { code } => {
            Refusal::new(Why::Exhausted { code: code.clone() }, "quota_exhausted")
        }
        FaultKind::BadKey => Refusal::new(Why::BadKey, "bad_key"),
        FaultKind::Payment { in_flight: true, wait_ms } => {
            Refusal::new(Why::InFlight, "in_flight_money").after(seconds(*wait_ms), RateLimitTime::RetryAfter)
        }
        FaultKind::Payment { in_flight: false, .. } => Refusal::new(Why::Credits, "credit"),
        FaultKind::Billing => Refusal::new(Why::Billing, "billing"),
        FaultKind::Forbidden { why: ForbiddenWhy::KeyLimit } => Refusal::new(Why::KeyCap, "key_limit"),
        FaultKind::Forbidden { why } => Refusal::new(Why::Forbidden(*why), "forbidden"),
        FaultKind::Relayed { status } => Refusal::new(Why::Relayed { status: *status }, "relayed"),
        FaultKind::ModelMissing => Refusal::new(Why::ModelMissing, "model"),
        FaultKind::ContextLength => {
            Refusal::new(Why::ContextLength { context: 128_000, requested: 130_000 }, "context")
        }
        FaultKind::Status { code, retry_after_ms } => {
            let wait = retry_after_ms.and_then(seconds);
            Refusal::new(Why::Status { code: *code }, "status").after(wait, RateLimitTime::RetryAfter)
        }
        _ => return None,
    };
    Some(Refusal { fault: Some(fault.name()), ..refusal })
}

/// Some of OpenRouter's limit sources are not 429s at all.
fn of_source(source: Option<LimitSource>, limited: Limited) -> Refusal {
    match source {
        Some(LimitSource::InFlightBudget) => Refusal::new(Why::InFlight, "in_flight_money"),
        Some(LimitSource::Credits) => Refusal::new(Why::Credits, "credit"),
        Some(LimitSource::WeightExceedsBudget) => {
            Refusal::new(Why::TooDear { affordable_tokens: 100 }, "credit")
        }
        Some(LimitSource::KeyLimit) => Refusal::new(Why::KeyCap, "key_limit"),
        Some(LimitSource::GuardrailBudget) => {
            Refusal::new(Why::Forbidden(ForbiddenWhy::Guardrail), "guardrail")
        }
        Some(LimitSource::WorkspaceBudget) => Refusal::new(Why::WorkspaceBudget, "workspace"),
        _ => Refusal::new(Why::RateLimit(limited), "rate_limit"),
    }
}

/// `RPM`, `TPD` and so on, with the words before it.
fn axis(limited: &Limited) -> &'static str {
    let day = limited.period_ns >= crate::time::DAY;
    match limited.dimension {
        Dimension::Concurrent => "concurrent requests",
        Dimension::Requests if day => "requests per day (RPD)",
        Dimension::Requests => "requests per min (RPM)",
        _ if day => "tokens per day (TPD)",
        Dimension::InputTokens => "input tokens per min",
        Dimension::OutputTokens => "output tokens per min",
        _ => "tokens per min (TPM)",
    }
}
