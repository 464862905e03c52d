//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): what a caller says of the trace that its request belongs
//! to, and what a provider is told. Ids follow from the request's own id, which no two requests share, so that they need
//! no dice and are known before the request is over. Strict where the standard is: what cannot be read in full begins a
//! new trace.

use crate::http1::Fields;

/// Longest `tracestate` that is kept; the standard asks for at least so much.
const STATE_BYTES_MAX: usize = 512;

/// Whether a header of this name, in lower case, tells of traces.
pub fn is_context(name: &[u8]) -> bool {
    matches!(name, b"traceparent" | b"tracestate" | b"baggage")
}

/// The trace of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its id.
    pub id: u128,
    /// The caller's span.
    pub parent: Option<u64>,
    /// Whether its spans are wanted.
    pub sampled: bool,
    /// What else the caller's tracing says, for those behind it.
    pub state: Option<Box<str>>,
    /// From which the ids of its spans follow.
    seed: u64,
}

impl Trace {
    /// The trace that a request belongs to: its caller's, or a new one, of which the share `sample` is wanted.
    pub fn begin(fields: &Fields, request_id: &str, sample: f64) -> Self {
        let seed = digest(0x6b65_796d_7578, request_id);
        if let Some((id, parent, sampled)) = parent(fields) {
            return Self { id, parent: Some(parent), sampled, state: state(fields), seed };
        }
        let (high, low) = (digest(1, request_id), digest(2, request_id));
        let id = u128::from(high) << 64 | u128::from(low);
        Self { id: id.max(1), parent: None, sampled: share(low) < sample, state: None, seed }
    }

    /// The id of the request's own span.
    pub fn server_span(&self) -> u64 {
        mix(self.seed).max(1)
    }

    /// The id of the span of an attempt, counted from 1.
    pub fn client_span(&self, attempt: u32) -> u64 {
        mix(self.seed ^ mix(u64::from(attempt))).max(1)
    }

    /// The `traceparent` of an attempt.
    pub fn traceparent(&self, attempt: u32) -> String {
        format!("00-{:032x}-{:016x}-0{}", self.id, self.client_span(attempt), u8::from(self.sampled))
    }
}

/// Where a request lies between 0 and 1, by its id: the share of it that is logged is the one that is traced, where both
/// are sampled alike.
pub fn share_of(request_id: &str) -> f64 {
    share(digest(2, request_id))
}

/// Where a trace lies between 0 and 1, by its id, so that all who know the id agree.
fn share(low: u64) -> f64 {
    (low >> 11) as f64 / (1_u64 << 53) as f64
}

/// The trace, the span and whether it is sampled, as the one `traceparent` says.
fn parent(fields: &Fields) -> Option<(u128, u64, bool)> {
    let mut all = fields.all("traceparent");
    let (only, None) = (all.next()?, all.next()) else { return None };
    let text = std::str::from_utf8(only).ok()?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let (id, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
    let flags = hex(parts.next()?, 2)?;
    // Versions to come may say more behind it.
    let ends = parts.next().is_none();
    let span = u64::try_from(span).ok()?;
    (version != 0xff && (version != 0 || ends) && id != 0 && span != 0).then_some((id, span, flags & 1 == 1))
}

/// So many digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok())?
}

fn state(fields: &Fields) -> Option<Box<str>> {
    let mut whole = String::new();
    for line in fields.all("tracestate") {
        let line = std::str::from_utf8(line).ok()?.trim();
        if !line.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return None;
        }
        if !whole.is_empty() && !line.is_empty() {
            whole.push(',');
        }
        whole.push_str(line);
    }
    (!whole.is_empty() && whole.len() <= STATE_BYTES_MAX).then(|| whole.into())
}

fn digest(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mix(seed), |so_far, byte| mix(so_far ^ u64::from(byte)))
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): every bit of the result hangs on every bit of `n`.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(pairs: &[(&str, &str)]) -> Trace {
        let pairs: Vec<(&str, &[u8])> = pairs.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        Trace::begin(&Fields::of(&pairs), "km-1", 1.0)
    }

    #[test]
    fn a_callers_trace_goes_on_and_its_flag_decides() {
        for (flags, sampled) in [("01", true), ("00", false), ("03", true), ("02", false)] {
            let trace = of(&[
                ("traceparent", &format!("00-{ID}-00f067aa0ba902b7-{flags}")),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
            ]);
            assert_eq!(format!("{:032x}", trace.id), ID);
            assert_eq!((trace.parent, trace.sampled), (Some(0x00f0_67aa_0ba9_02b7), sampled));
            assert_eq!(trace.state.as_deref(), Some("a=1,b=2"));
            let out = trace.traceparent(1);
            assert_eq!(
                out,
                format!("00-{ID}-{:016x}-{}", trace.client_span(1), if sampled { "01" } else { "00" })
            );
        }
        let later = format!("cc-{ID}-00f067aa0ba902b7-01-what-the-future-says");
        assert_eq!(of(&[("traceparent", &later)]).parent, Some(0x00f0_67aa_0ba9_02b7), "a version to come");
    }

    #[test]
    fn what_cannot_be_read_in_full_begins_a_new_trace() {
        let good = format!("00-{ID}-00f067aa0ba902b7-01");
        for bad in [
            String::new(),
            "x".to_owned(),
            good.to_uppercase(),
            format!("{good}-"),
            format!("{good}-more"),
            good.replace("00-4", "ff-4"),
            good.replace("00-4", "0-4"),
            good.replace(ID, &"0".repeat(32)),
            good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            good.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            good.replace(ID, &ID[1..]),
            good.replace("-01", "-1"),
            good.replace("-01", ""),
            good.replace("-01", "-é"),
        ] {
            let trace = of(&[("traceparent", &bad), ("tracestate", "a=1")]);
            assert_eq!((trace.parent, trace.state.as_deref()), (None, None), "{bad}");
            assert_ne!(format!("{:032x}", trace.id), ID, "{bad}");
        }
        assert_eq!(of(&[("traceparent", &good), ("traceparent", &good)]).parent, None, "two of them");
        let long = "a".repeat(STATE_BYTES_MAX + 1);
        assert_eq!(of(&[("traceparent", &good), ("tracestate", &long)]).state, None);
    }

    #[test]
    fn ids_differ_and_of_new_traces_the_asked_share_is_wanted() {
        let traces: Vec<Trace> = (0..4_000)
            .map(|n| Trace::begin(&Fields::default(), &format!("km-00000000000000000{n:010x}"), 0.25))
            .collect();
        let ids: HashSet<u128> = traces.iter().map(|t| t.id).collect();
        let spans = traces.iter().flat_map(|t| [t.server_span(), t.client_span(1), t.client_span(2)]);
        assert_eq!((ids.len(), spans.collect::<HashSet<u64>>().len()), (4_000, 12_000));
        let wanted = traces.iter().filter(|t| t.sampled).count();
        assert!((900..1_100).contains(&wanted), "{wanted} of 4000 at a quarter");
        for (sample, all) in [(0.0, 0), (1.0, 4_000)] {
            let wanted =
                (0..4_000).filter(|n| Trace::begin(&Fields::default(), &format!("{n}"), sample).sampled);
            assert_eq!(wanted.count(), all);
        }
    }
}
