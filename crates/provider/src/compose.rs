//! From a decided call to bytes: which answer, which framing, which of the faults that live in bytes.

use std::fmt::Write as _;

use crate::answer::{Answer, plain};
use crate::call::{Call, Course, End};
use crate::dialect::{Dialect, Endpoint};
use crate::fault::FaultKind;
use crate::gzip::gzip;
use crate::latency::events_of;
use crate::plan::{Closing, Framing, Plan, Step, Stream};
use crate::spec::LatencySpec;
use crate::time::{MS, ms_f64};

/// Response headers, names in lower case.
pub(crate) type Headers = Vec<(&'static str, String)>;

const HTML: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Error</h1><p>cloudflare</p></body></html>\n";

/// Everything known about an admitted call.
pub(crate) struct Decided<'a> {
    pub(crate) call: &'a Call<'a>,
    pub(crate) course: &'a Course,
    pub(crate) answer: Answer,
    pub(crate) latency: &'a LatencySpec,
    pub(crate) fault: Option<&'a FaultKind>,
    pub(crate) embedding_dimensions: u32,
}

/// What goes out where a fault stands in the place of the answer; None where it does not.
pub(crate) fn instead(fault: &FaultKind, at: u64, headers: &mut Headers) -> Option<Plan> {
    let plan = match fault {
        FaultKind::Hang => Plan::steps(Framing::Raw, Vec::new(), None, None, End::Hang),
        FaultKind::Reset { after_events: None } => Plan::raw(at, Vec::new(), End::Reset),
        FaultKind::Garbage => {
            Plan::raw(at, b"SSH-2.0-OpenSSH_9.2p1\r\n\x00\x00\x01\x14\x07\xff\xfe".to_vec(), End::Cut)
        }
        FaultKind::HalfHead => Plan::raw(at, b"HTTP/1.1 200 OK\r\ncontent-type: applicat".to_vec(), End::Cut),
        FaultKind::EndlessHeaders => Plan::endless(at),
        FaultKind::Html { .. } => {
            *headers = vec![("content-type", "text/html; charset=UTF-8".to_owned())];
            Plan::body(at, HTML.as_bytes().to_vec())
        }
        FaultKind::Redirect { location, .. } => {
            *headers = vec![("location", location.clone()), ("content-type", "text/plain".to_owned())];
            Plan::body(at, b"Redirecting\n".to_vec())
        }
        _ => return None,
    };
    Some(plan)
}

/// The plan of an admitted call; the headers get what belongs to the body.
pub(crate) fn plan(decided: Decided<'_>, headers: &mut Headers) -> Plan {
    let at = decided.course.head_at_ns.unwrap_or(0);
    if let Some(plan) = decided.fault.and_then(|fault| instead(fault, at, headers)) {
        return plan;
    }
    let streamed = decided.call.stream && decided.call.endpoint.writes();
    let content_type = match decided.call.endpoint {
        _ if streamed => "text/event-stream; charset=utf-8",
        Endpoint::Speech => "audio/mpeg",
        _ => "application/json",
    };
    headers.push(("content-type", content_type.to_owned()));
    if streamed {
        headers.push(("cache-control", "no-cache".to_owned()));
        stream(decided, headers)
    } else {
        whole(&decided, headers)
    }
}

fn stream(decided: Decided<'_>, headers: &mut Headers) -> Plan {
    let Decided { call, course, answer, latency, fault, .. } = decided;
    let closing = match fault {
        Some(FaultKind::Truncate { .. } | FaultKind::Stall { .. } | FaultKind::Reset { .. }) => {
            Closing::Silent
        }
        _ if course.error_inside => Closing::Error,
        _ => Closing::Proper,
    };
    let comments = match fault {
        Some(FaultKind::Queued { every_ms }) => Some((": keep-alive\n\n", every_ms * MS)),
        _ if answer.dialect == Dialect::Openrouter => {
            Some((": OPENROUTER PROCESSING\n\n", ms_f64(latency.comment_every_ms)))
        }
        _ => None,
    };
    let stream = Stream::new(answer, course, u64::from(events_of(call, latency)), comments, closing);
    match fault {
        Some(FaultKind::Gzip) => {
            headers.push(("content-encoding", "gzip".to_owned()));
            let text = Plan::stream(stream, course, None).drain();
            return Plan::body(course.end_at_ns.unwrap_or(0), gzip(&text));
        }
        Some(FaultKind::WrongLength { by }) => {
            let text = Plan::stream(stream, course, None).drain();
            return wrong_length(course.end_at_ns.unwrap_or(0), headers, &text, *by);
        }
        _ => {}
    }
    let head = (course.end != End::Complete).then(|| raw_head(headers, None));
    let plan = Plan::stream(stream, course, head);
    match fault {
        Some(FaultKind::Drip { bytes, every_ms }) => plan.drip(*bytes, *every_ms),
        _ => plan,
    }
}

fn whole(decided: &Decided<'_>, headers: &mut Headers) -> Plan {
    let at = decided.course.head_at_ns.unwrap_or(0);
    let body = whole_body(decided);
    match decided.fault {
        Some(FaultKind::Gzip) => {
            headers.push(("content-encoding", "gzip".to_owned()));
            Plan::body(at, gzip(&body))
        }
        Some(FaultKind::WrongLength { by }) => wrong_length(at, headers, &body, *by),
        Some(FaultKind::Drip { bytes, every_ms }) => Plan::body(at, body).drip(*bytes, *every_ms),
        Some(FaultKind::Queued { every_ms }) => {
            let end = decided.course.end_at_ns.unwrap_or(at);
            let every = usize::try_from((every_ms * MS).max(MS)).unwrap_or(usize::MAX);
            let life = (at..end).step_by(every).map(|at_ns| Step { at_ns, bytes: b"\n".to_vec() });
            let steps = life.chain([Step { at_ns: end, bytes: body }]).collect();
            Plan::steps(Framing::Chunked, steps, Some(at), Some(end), End::Complete)
        }
        _ if decided.course.end != End::Complete => {
            let mut bytes = raw_head(headers, Some(body.len() as u64));
            bytes.extend_from_slice(body.get(..body.len() / 2).unwrap_or_default());
            Plan::raw(at, bytes, decided.course.end)
        }
        // A clean truncation of something that has no events: proper HTTP around half a document.
        Some(FaultKind::Truncate { .. }) => {
            Plan::body(at, body.get(..body.len() / 2).unwrap_or_default().to_vec())
        }
        _ => Plan::body(at, body),
    }
}

fn whole_body(decided: &Decided<'_>) -> Vec<u8> {
    let Decided { call, answer, .. } = decided;
    let partial = matches!(decided.fault, Some(FaultKind::ErrorIn200 { partial: true }));
    if decided.course.error_inside && !(partial && answer.dialect == Dialect::Openrouter) {
        return error_in_200(answer).into_bytes();
    }
    match call.endpoint {
        Endpoint::Embeddings => {
            let dimensions = call.dimensions.unwrap_or(decided.embedding_dimensions).clamp(1, 4096);
            plain::embeddings(call, dimensions, answer).into_bytes()
        }
        Endpoint::Moderations => plain::moderations(call, &answer.id).into_bytes(),
        Endpoint::Images => plain::images(call, answer.created_s).into_bytes(),
        Endpoint::Speech => plain::speech(answer.seed),
        Endpoint::Transcriptions => plain::transcription().into_bytes(),
        Endpoint::Rerank => plain::rerank(call, &answer.id).into_bytes(),
        _ => answer.body().into_bytes(),
    }
}

fn error_in_200(answer: &Answer) -> String {
    if answer.endpoint.anthropic_skin() {
        return r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"},"request_id":"req_sim"}"#
            .to_owned();
    }
    match answer.dialect {
        Dialect::Openrouter => r#"{"error":{"message":"Internal Server Error","code":500,"metadata":{"error_type":"server"}},"user_id":"user_sim"}"#,
        _ => r#"{"error":{"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}}"#,
    }
    .to_owned()
}

fn wrong_length(at_ns: u64, headers: &Headers, body: &[u8], by: i64) -> Plan {
    let length = (body.len() as u64).saturating_add_signed(by);
    let mut bytes = raw_head(headers, Some(length));
    bytes.extend_from_slice(body);
    Plan::steps(Framing::Raw, vec![Step { at_ns, bytes }], Some(at_ns), Some(at_ns), End::Cut)
}

/// A head as bytes; chunked coding where no length is given.
fn raw_head(headers: &Headers, length: Option<u64>) -> Vec<u8> {
    let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    match length {
        Some(length) => {
            let _ = write!(head, "content-length: {length}\r\n\r\n");
        }
        None => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    head.into_bytes()
}
