//! Every error that keymux itself answers with: one table gives the status, the codes of all envelopes, the metric
//! label, and `docs/errors.md`. What a provider answers is relayed and stands not here.

use crate::reply::Reply;
use http::StatusCode;
use keymux_wire::body::{Envelope, ErrorBody};

/// What a caller should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Mend the request; the same one will fail again.
    Mend,
    /// Come back after the stated time.
    Later,
    /// Trying again may help.
    Again,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// Machine code, also the metric label.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// `type` in `OpenAI`'s envelope.
    pub openai_type: &'static str,
    /// `type` in Anthropic's envelope.
    pub anthropic_type: &'static str,
    /// What to do.
    pub next: Next,
    /// For the documentation: what it means and how to mend it.
    pub meaning: &'static str,
}

macro_rules! table {
    ($($name:ident = $code:literal, $status:literal, $openai:literal, $anthropic:literal, $next:ident, $meaning:literal;)*) => {
        /// The errors of keymux.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind { $(#[doc = $meaning] $name),* }

        /// All rows, in the order of [`Kind`].
        pub const ROWS: &[Row] = &[$(Row {
            code: $code, status: $status, openai_type: $openai, anthropic_type: $anthropic, next: Next::$next, meaning: $meaning,
        }),*];
    };
}

table! {
    InvalidBody = "invalid_body", 400, "invalid_request_error", "invalid_request_error", Mend, "The body is not what the endpoint takes: not JSON, not UTF-8, a field missing, doubled or of the wrong type. The `code` of the answer names which.";
    InvalidHeader = "invalid_header", 400, "invalid_request_error", "invalid_request_error", Mend, "An `x-keymux-…` header cannot be understood.";
    BadFraming = "bad_framing", 400, "invalid_request_error", "invalid_request_error", Mend, "The head of the request is not HTTP/1.1, or could be read in two ways: its length (`Content-Length` and `Transfer-Encoding`), its `Host`, the ends of its lines. The connection is closed.";
    EndpointNotServed = "endpoint_not_served", 400, "invalid_request_error", "invalid_request_error", Mend, "No provider of this model serves this endpoint. keymux does not translate between dialects.";
    NoProviderLeft = "no_provider_left", 400, "invalid_request_error", "invalid_request_error", Mend, "The request's own choice of providers leaves none.";
    TooLargeForLimit = "too_large_for_limit", 400, "invalid_request_error", "invalid_request_error", Mend, "The request is larger than a limit could ever admit, so it would wait for ever.";
    Unauthorized = "invalid_api_key", 401, "authentication_error", "authentication_error", Mend, "The key is missing, wrong, expired, switched off or revoked; for a key that exists the `code` of the answer says which (`key_expired`, `key_disabled`, `key_revoked`).";
    BudgetSpent = "budget_exhausted", 402, "insufficient_quota", "billing_error", Mend, "What is left of the budget of the key or its team cannot pay for what this request could cost, whatever is refunded. The message says what is left and when it resets.";
    CostNotBounded = "cost_not_bounded", 403, "permission_error", "permission_error", Mend, "The key has a budget, and what this request could cost has no bound: the model's price is unknown, or the request asks for something that nothing limits. The message says what.";
    NotAllowed = "not_allowed", 403, "permission_error", "permission_error", Mend, "The caller's key may not use this model, provider, account or key. The message names what.";
    ForeignHost = "foreign_host", 403, "permission_error", "permission_error", Mend, "An open gateway answers only to its own name: the `Host` is foreign. Set `server.token` or `server.allowed_hosts`.";
    ForeignOrigin = "foreign_origin", 403, "permission_error", "permission_error", Mend, "A web page that is not in `server.cors_origins` called.";
    PathUnknown = "path_not_found", 404, "invalid_request_error", "not_found_error", Mend, "No such path here. A provider's management paths are never passed on.";
    ModelUnknown = "model_not_found", 404, "invalid_request_error", "not_found_error", Mend, "No route has this name, and no default provider is set.";
    TooDear = "no_provider_within_price", 404, "invalid_request_error", "not_found_error", Mend, "No provider behind OpenRouter serves the model for the price that the key's budget was asked for. The message says which; a `[[price]]` of the operator's can raise it.";
    StateUnknown = "state_not_found", 404, "invalid_request_error", "not_found_error", Mend, "The stored response that the request builds on was not made through this gateway, or is not yours.";
    KeyUnknown = "key_not_found", 404, "invalid_request_error", "not_found_error", Mend, "There is no client key with this hash (any more).";
    GenerationUnknown = "generation_not_found", 404, "invalid_request_error", "not_found_error", Mend, "No request of yours has this id, or its row was not written yet or is too old.";
    MethodNotAllowed = "method_not_allowed", 405, "invalid_request_error", "invalid_request_error", Mend, "The path takes another method, named in `Allow`.";
    HeadTimeout = "head_timeout", 408, "invalid_request_error", "timeout_error", Again, "The head of the request did not come within `server.header_timeout`. The connection is closed.";
    BodyTimeout = "body_timeout", 408, "invalid_request_error", "timeout_error", Again, "The body stopped coming.";
    KeyConflict = "key_conflict", 409, "invalid_request_error", "invalid_request_error", Mend, "The client key was changed by somebody else, was revoked, or this gateway keeps none (`ledger.database = \"off\"`).";
    BodyTooLarge = "body_too_large", 413, "invalid_request_error", "request_too_large", Mend, "The body is over `server.body_bytes_max`.";
    EncodedBody = "encoded_body", 415, "invalid_request_error", "invalid_request_error", Mend, "The body is compressed. Send it plain: the model has to be read from it.";
    HeadTooLarge = "head_too_large", 431, "invalid_request_error", "invalid_request_error", Mend, "The head of the request is over `server.head_bytes_max`, or has over 100 fields. The connection is closed.";
    QuotaExhausted = "rate_limit_exceeded", 429, "rate_limit_error", "rate_limit_error", Later, "No key has room before the request's deadline. `Retry-After` says when one will.";
    ClientLimit = "client_rate_limit_exceeded", 429, "rate_limit_error", "rate_limit_error", Later, "A limit of the key or its team is used up: requests or tokens a minute, or requests at once. `Retry-After` says when there is room.";
    BudgetHeld = "budget_reserved", 429, "rate_limit_error", "rate_limit_error", Later, "What is left of a budget is held for requests that are still running.";
    RoomFull = "waiting_room_full", 429, "rate_limit_error", "rate_limit_error", Later, "Too many requests wait already.";
    Internal = "internal_error", 500, "server_error", "api_error", Again, "A fault of the gateway itself. Please report it with the request id.";
    UpstreamFailed = "upstream_failed", 502, "server_error", "api_error", Again, "Every provider that was tried failed.";
    LedgerUnavailable = "ledger_unavailable", 503, "server_error", "overloaded_error", Later, "Requests cannot be accounted for: the ledger's database is away and its log is full, or `ledger.when_unavailable` says to refuse.";
    AllOut = "no_key_available", 503, "server_error", "overloaded_error", Later, "Every key that could serve this is out: refused, empty, or behind an open breaker.";
    NoKey = "no_key_configured", 503, "server_error", "api_error", Later, "No key is configured for this provider.";
    Draining = "shutting_down", 503, "server_error", "overloaded_error", Later, "The gateway is shutting down.";
    JournalUnavailable = "journal_unavailable", 503, "server_error", "overloaded_error", Later, "The key has a budget, and its reservation cannot be written down, or what was spent before cannot be read: without that a budget would not hold.";
    ClientsUnread = "clients_unavailable", 503, "server_error", "overloaded_error", Later, "The client keys in the database could not be read since the start, so nobody knows whether this one is among them.";
    BodiesFull = "too_many_bytes", 503, "server_error", "overloaded_error", Later, "The bodies of all requests together are over `server.bodies_bytes_max`.";
    TooManyConnections = "too_many_connections", 503, "server_error", "overloaded_error", Later, "The gateway is at its limit of connections.";
    UpstreamTimeout = "upstream_timeout", 504, "server_error", "timeout_error", Again, "The provider did not answer in time.";
}

impl Kind {
    /// Its row.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// An error that goes to a client.
#[derive(Debug)]
pub struct Problem {
    /// Which.
    pub kind: Kind,
    /// What happened, to which thing, and what to do.
    pub message: String,
    /// A finer machine code than the row's, where there is one.
    pub code: Option<&'static str>,
    /// The field at fault.
    pub param: Option<String>,
    /// When to come back.
    pub retry_after_ns: Option<u64>,
    /// The method to use instead, for [`Kind::MethodNotAllowed`].
    pub allow: Option<&'static str>,
}

impl Problem {
    /// An error of this kind, with what to tell.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, param: None, retry_after_ns: None, allow: None }
    }

    /// Says when to come back.
    #[must_use]
    pub fn after(mut self, retry_after_ns: Option<u64>) -> Self {
        self.retry_after_ns = retry_after_ns;
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(mut self, code: &'static str, param: Option<&str>) -> Self {
        self.code = Some(code);
        self.param = param.map(str::to_owned);
        self
    }

    /// The answer in the endpoint's dialect; Anthropic's says the request's id in its body.
    pub fn reply(&self, envelope: Envelope, request_id: Option<&str>) -> Reply {
        let row = self.kind.row();
        let type_ = match envelope {
            // OpenRouter's envelope has no type; its machine code stands in the metadata.
            Envelope::OpenAi | Envelope::OpenRouter => row.openai_type,
            Envelope::Anthropic => row.anthropic_type,
        };
        let code = self.code.unwrap_or(row.code);
        let (param, message) = (self.param.as_deref(), &*self.message);
        let body = ErrorBody { status: row.status, type_, code, param, message, request_id }.render(envelope);
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut reply = Reply::whole(status, "application/json", body);
        match row.next {
            Next::Mend => reply.field("x-should-retry", b"false"),
            Next::Later => {
                // A refusal always says when: a client that is told nothing comes back at once.
                let ms = self.retry_after_ns.unwrap_or(1_000_000_000).div_ceil(1_000_000).max(1);
                reply.number("retry-after", ms.div_ceil(1_000));
                reply.number("retry-after-ms", ms);
            }
            Next::Again => {}
        }
        if let Some(allow) = self.allow {
            reply.field("allow", allow.as_bytes());
        }
        // Where this request ends is not sure, or it has not ended: nothing behind it is one.
        reply.closes = matches!(self.kind, Kind::BadFraming | Kind::HeadTooLarge | Kind::HeadTimeout);
        reply
    }
}

/// `docs/errors.md`, generated so that it cannot drift from the table.
pub fn docs() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "# Errors\n\nGenerated from `crates/keymux/src/errors.rs`; a test keeps it fresh.\n\nWhat a provider answers is relayed unchanged. These are keymux' own, in the envelope that the path promises: Anthropic's for `messages`, OpenRouter's for the rest below `/api/v1` (`error.code` is the status as a number, the code of this table stands in `error.metadata.error_type`), else OpenAI's.\n\n| code | status | `type` (OpenAI) | `type` (Anthropic) | try again? | meaning |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for row in ROWS {
        let next = match row.next {
            Next::Mend => "no, mend the request (`x-should-retry: false`)",
            Next::Later => "after `Retry-After`",
            Next::Again => "yes",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | `{}` | `{}` | {} | {} |",
            row.code, row.status, row.openai_type, row.anthropic_type, next, row.meaning
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");

    #[test]
    fn the_documentation_is_fresh() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(DOCS, docs()).unwrap();
        }
        let written = std::fs::read_to_string(DOCS).unwrap_or_default();
        assert!(written == docs(), "docs/errors.md is stale: run this test once with UPDATE_DOCS=1");
    }

    #[test]
    fn a_refusal_always_says_when_and_a_fault_of_the_request_says_never() {
        for (index, row) in ROWS.iter().enumerate() {
            let kind = [
                Kind::QuotaExhausted,
                Kind::RoomFull,
                Kind::AllOut,
                Kind::Draining,
                Kind::TooManyConnections,
                Kind::BodiesFull,
                Kind::ClientsUnread,
                Kind::ClientLimit,
                Kind::BudgetHeld,
                Kind::JournalUnavailable,
                Kind::NoKey,
            ];
            for kind in kind.into_iter().filter(|k| *k as usize == index) {
                let reply = Problem::new(kind, "x").after(Some(1_200_000_000)).reply(Envelope::OpenAi, None);
                assert_eq!(reply.get("retry-after"), Some("2"), "{}", row.code);
                assert_eq!(reply.get("retry-after-ms"), Some("1200"));
                let untold = Problem::new(kind, "x").reply(Envelope::OpenAi, None);
                assert_eq!(untold.get("retry-after"), Some("1"));
            }
        }
        let mend = Problem::new(Kind::InvalidBody, "x").reply(Envelope::Anthropic, None);
        assert_eq!(mend.get("x-should-retry"), Some("false"));
    }
}
