//! Spans as bytes of OTLP (opentelemetry/proto/trace/v1, collector/trace/v1): the few messages and fields that are used
//! here, written by hand. `docs/decisions` says why, and `e2e/python/tests/test_traces.py` reads them with the
//! official types.

use std::borrow::Cow;

/// Who a span's operation is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(u64),
    Real(f64),
    Flag(bool),
}

/// A name and a value.
pub(super) type Attribute = (Cow<'static, str>, Value);

/// A span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace_id: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    /// The parent is in another process.
    pub(super) parent_is_remote: bool,
    pub(super) state: Option<Box<str>>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start_unix_ns: u64,
    pub(super) end_unix_ns: u64,
    pub(super) attributes: Vec<Attribute>,
    /// It failed, for this reason.
    pub(super) error: Option<String>,
}

/// Who made the spans.
pub(super) struct Origin<'a> {
    pub(super) service: &'a [Attribute],
    pub(super) version: &'static str,
    pub(super) schema_url: &'static str,
}

/// An `ExportTraceServiceRequest`.
pub(super) fn request(origin: &Origin<'_>, spans: impl Iterator<Item = Span>) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| resource.attributes(1, origin.service));
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, "keymux");
                scope.text(2, origin.version);
            });
            for span in spans {
                scope_spans.message(2, |message| message.span(&span));
            }
            scope_spans.text(3, origin.schema_url);
        });
    });
    request.0
}

/// A message of Protocol Buffers that is being written. Fields that have no value of their own are left out.
#[derive(Default)]
struct Message(Vec<u8>);

/// How a field's value is laid out.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Counted = 2,
    Fixed32 = 5,
}

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        self.0.push((n & 0x7f) as u8);
    }

    fn tag(&mut self, field: u32, wire: Wire) {
        self.varint(u64::from(field) << 3 | wire as u64);
    }

    fn number(&mut self, field: u32, n: u64) {
        self.tag(field, Wire::Varint);
        self.varint(n);
    }

    fn fixed64(&mut self, field: u32, n: u64) {
        self.tag(field, Wire::Fixed64);
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, n: u32) {
        self.tag(field, Wire::Fixed32);
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, Wire::Counted);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attributes(&mut self, field: u32, attributes: &[Attribute]) {
        for (name, value) in attributes {
            self.message(field, |pair| {
                pair.text(1, name);
                // Where a value is one of several, it is written even if it is zero.
                pair.message(2, |any| match value {
                    Value::Text(text) => any.bytes(1, text.as_bytes()),
                    Value::Flag(flag) => any.number(2, u64::from(*flag)),
                    Value::Whole(n) => any.number(3, *n),
                    Value::Real(n) => any.fixed64(4, n.to_bits()),
                });
            });
        }
    }

    fn span(&mut self, span: &Span) {
        self.bytes(1, &span.trace_id.to_be_bytes());
        self.bytes(2, &span.id.to_be_bytes());
        self.text(3, span.state.as_deref().unwrap_or_default());
        if let Some(parent) = span.parent {
            self.bytes(4, &parent.to_be_bytes());
        }
        self.text(5, &span.name);
        self.number(
            6,
            match span.kind {
                Kind::Server => 2,
                Kind::Client => 3,
            },
        );
        self.fixed64(7, span.start_unix_ns);
        self.fixed64(8, span.end_unix_ns);
        self.attributes(9, &span.attributes);
        if let Some(why) = &span.error {
            self.message(15, |status| {
                status.text(2, why);
                status.number(3, 2);
            });
        }
        // Sampled; and whether the parent is in another process, which is known.
        self.fixed32(16, 0x101 | if span.parent_is_remote { 0x200 } else { 0 });
    }
}
