//! How long a call takes and how long its answer is.

use crate::call::{Call, Course, End};
use crate::fault::FaultKind;
use crate::rng::Rng;
use crate::spec::{LatencySpec, ModelSpec};
use crate::time::{MS, ms_f64, whole};

/// What the course depends on beside the call.
pub(crate) struct Terms<'a> {
    pub(crate) latency: &'a LatencySpec,
    pub(crate) model: Option<&'a ModelSpec>,
    pub(crate) fault: Option<&'a FaultKind>,
    /// Output cap for one answer.
    pub(crate) cap: u64,
    pub(crate) cached: u64,
    /// The head of a stream goes out before the first token (OpenRouter, with comments).
    pub(crate) early_head: bool,
}

/// Tokens of the answers and whether the cap cut them, then the times.
pub(crate) fn course(call: &Call<'_>, terms: &Terms<'_>, rng: &mut Rng) -> Course {
    let steer = call.steer.as_deref();
    let latency = terms.latency;
    let slow = match terms.fault {
        Some(FaultKind::Slow { factor }) => factor.max(0.0),
        _ => 1.0,
    };
    let reasoning = steer
        .and_then(|s| s.reasoning_tokens)
        .or(terms.model.map(|m| m.reasoning_tokens))
        .unwrap_or(0)
        .min(terms.cap);
    let visible = natural_length(call, latency, rng);
    let each = if call.endpoint.writes() { reasoning.saturating_add(visible).min(terms.cap) } else { 0 };
    let mut output = each * u64::from(call.n.max(1));

    let cold = call.input_tokens.saturating_sub(terms.cached) as f64 / 1000.0;
    let ttft = match steer.and_then(|s| s.ttft_ms) {
        Some(ms) => ms,
        None => rng.log_normal(latency.ttft_ms, latency.ttft_sigma) + cold * latency.ttft_ms_per_1k_input,
    };
    let per_token = steer.and_then(|s| s.per_token_ms).unwrap_or(latency.per_token_ms);
    let delay = steer.and_then(|s| s.delay_ms).unwrap_or(0) * MS;
    let first = ms_f64(ttft * slow).saturating_add(delay);
    let token_ns = whole(per_token * slow * 1e6);

    let per_event = u64::from(events_of(call, latency));
    let (events, end, error_inside) = terms.fault.map_or((None, End::Complete, false), ending);
    if let Some(events) = events {
        output = output.min(u64::from(events) * per_event);
    }
    let writing = output.saturating_sub(1).saturating_mul(token_ns);
    let finished = first.saturating_add(writing);
    let head = if matches!(terms.fault, Some(FaultKind::Queued { .. })) {
        first.min(5 * MS)
    } else if !call.stream {
        finished
    } else if terms.early_head {
        delay.saturating_add(5 * MS).min(first)
    } else {
        first - first / 10
    };
    Course {
        head_at_ns: (!matches!(terms.fault, Some(FaultKind::Hang))).then_some(head),
        first_output_at_ns: (output > 0).then_some(first),
        token_ns,
        end_at_ns: (end != End::Hang).then_some(finished),
        end,
        input_tokens: call.input_tokens,
        cached_tokens: terms.cached,
        output_tokens: output,
        reasoning_tokens: (reasoning * u64::from(call.n.max(1))).min(output),
        capped: reasoning.saturating_add(visible) > terms.cap,
        error_inside,
    }
}

/// After how many events a fault ends the output, how, and whether an error is part of the answer.
fn ending(fault: &FaultKind) -> (Option<u32>, End, bool) {
    match fault {
        FaultKind::Truncate { after_events, clean: true } => (Some(*after_events), End::Complete, false),
        FaultKind::Truncate { after_events, clean: false } => (Some(*after_events), End::Cut, false),
        FaultKind::Stall { after_events } => (Some(*after_events), End::Hang, false),
        FaultKind::Reset { after_events: Some(after) } => (Some(*after), End::Reset, false),
        FaultKind::ErrorEvent { after_events } => (Some(*after_events), End::Complete, true),
        FaultKind::ErrorIn200 { partial } => (Some(if *partial { 3 } else { 0 }), End::Complete, true),
        FaultKind::Hang | FaultKind::EndlessHeaders => (Some(0), End::Hang, false),
        FaultKind::Reset { after_events: None } => (Some(0), End::Reset, false),
        FaultKind::Garbage | FaultKind::HalfHead => (Some(0), End::Cut, false),
        other if other.replaces_answer() => (Some(0), End::Complete, false),
        _ => (None, End::Complete, false),
    }
}

/// Tokens in one stream event.
pub(crate) fn events_of(call: &Call<'_>, latency: &LatencySpec) -> u32 {
    call.steer.as_deref().and_then(|s| s.tokens_per_event).unwrap_or(latency.tokens_per_event).max(1)
}

fn natural_length(call: &Call<'_>, latency: &LatencySpec, rng: &mut Rng) -> u64 {
    let steer = call.steer.as_deref();
    if let Some(tokens) = steer.and_then(|s| s.output_tokens).or(call.output_tokens) {
        return tokens;
    }
    if let Some(text) = steer.and_then(|s| s.text.as_deref()) {
        return crate::answer::token_count(text);
    }
    if let Some(tool) = &call.tool {
        return crate::answer::token_count(&tool.arguments);
    }
    if call.json_answer {
        return crate::answer::token_count(crate::answer::JSON_ANSWER);
    }
    let drawn = whole(rng.log_normal(latency.output.mean, latency.output.sigma).round());
    drawn.clamp(1, latency.output.max.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Endpoint;

    fn run(call: &Call<'_>, fault: Option<&FaultKind>) -> Course {
        let latency = LatencySpec { ttft_sigma: 0.0, ..LatencySpec::default() };
        let terms = Terms { latency: &latency, model: None, fault, cap: 1000, cached: 0, early_head: false };
        course(call, &terms, &mut Rng::new(1))
    }

    const ASK: Call<'_> = Call {
        provider: 0,
        secret: "",
        endpoint: Endpoint::Chat,
        model: "m",
        stream: true,
        input_tokens: 10,
        max_tokens: None,
        output_tokens: Some(11),
        n: 1,
        include_usage: false,
        prompt: None,
        cache_control: false,
        max_price: [None; 2],
        previous_response: None,
        store: false,
        tool: None,
        json_answer: false,
        inputs: 0,
        dimensions: None,
        base64: false,
        id: None,
        body: crate::call::BodyWish::No,
        steer: None,
    };

    #[test]
    fn tokens_come_one_by_one_after_the_first() {
        let course = run(&ASK, None);
        assert_eq!(course.first_output_at_ns, Some(20 * MS));
        assert_eq!(course.end_at_ns, Some(30 * MS));
        assert_eq!(course.produced(20 * MS - 1), 0);
        assert_eq!(course.produced(20 * MS), 1);
        assert_eq!(course.produced(25 * MS), 6);
        assert_eq!(course.produced(u64::MAX), 11);
    }

    #[test]
    fn an_answer_in_one_piece_has_its_head_at_the_end() {
        let course = run(&Call { stream: false, ..ASK }, None);
        assert_eq!(course.head_at_ns, Some(30 * MS));
    }

    #[test]
    fn slow_stretches_everything_and_truncation_stops_production() {
        let slow = run(&ASK, Some(&FaultKind::Slow { factor: 10.0 }));
        assert_eq!(slow.first_output_at_ns, Some(200 * MS));
        assert_eq!(slow.end_at_ns, Some(300 * MS));
        let cut = run(&ASK, Some(&FaultKind::Truncate { after_events: 4, clean: false }));
        assert_eq!((cut.output_tokens, cut.end), (4, End::Cut));
        let stall = run(&ASK, Some(&FaultKind::Stall { after_events: 2 }));
        assert_eq!((stall.end_at_ns, stall.end), (None, End::Hang));
    }
}
