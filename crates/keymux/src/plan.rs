//! What one request needs to be asked for and sent, worked out once from its head, headers and the configuration.

use crate::clients::worth::Worth;
use crate::clients::{Client, reach};
use crate::errors::{Kind, Problem};
use crate::http1::Fields;
use crate::live::{Snapshot, Upstream};
use crate::options::Options;
use crate::wishes;
use bytes::Bytes;
use keymux_config::{Resolution, Timeouts};
use keymux_policy::fleet::{AccountId, Endpoint};
use keymux_policy::{Ask, ClientId, Destination, Now, Priority, Size};
use keymux_wire::error::Dialect;
use keymux_wire::head::{self, Field, Head, HeadError};
use keymux_wire::limits::Profile;
use keymux_wire::splice::Priced;
use keymux_wire::stored::Watch;
use keymux_wire::{affinity, estimate, splice};
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use std::sync::Arc;

/// What was read of the body.
pub enum Read<'a> {
    /// JSON.
    Json(Box<Head<'a>>),
    /// A form with files: its `model`, and where that stands.
    Form(Option<(String, Range<usize>)>),
}

impl Read<'_> {
    /// The model's name, as the caller wrote it. Empty where the endpoint needs none.
    pub fn model(&self) -> &str {
        match self {
            Read::Json(head) => head.model.as_ref().map_or("", |m| &m.value),
            Read::Form(model) => model.as_ref().map_or("", |(name, _)| name),
        }
    }

    /// Whether a stream is asked for.
    pub fn stream(&self) -> bool {
        matches!(self, Read::Json(head) if head.stream)
    }
}

/// Reads what has to be known of a body.
pub fn read<'a>(endpoint: Endpoint, headers: &Fields, body: &'a Bytes) -> Result<Read<'a>, Problem> {
    let content_type = headers.text("content-type").unwrap_or_default();
    let kind = crate::surface::body_kind(endpoint);
    let form = content_type.get(..19).is_some_and(|start| start.eq_ignore_ascii_case("multipart/form-data"));
    if form && kind == head::BodyKind::Other {
        return head::multipart_model(content_type, body).map(Read::Form).map_err(|e| bad_body(&e));
    }
    let head = head::parse(body, kind).map_err(|e| bad_body(&e))?;
    Ok(Read::Json(head))
}

pub(crate) fn bad_body(error: &HeadError) -> Problem {
    Problem::new(Kind::InvalidBody, error.to_string()).at(error.code(), error.param())
}

/// Where a request goes and how long it may take.
pub struct Plan {
    /// The question to the scheduler.
    pub ask: Ask,
    /// The route of the configuration, if it is one.
    pub route: Option<usize>,
    /// When the request must be over (monotonic).
    pub until_ns: u64,
    /// That is the caller's wish, not ours.
    pub clients_wish: bool,
    /// The cap on the output of each answer that its client's budget needs, where the request has none.
    pub cap: Option<u64>,
    /// Its answer is made also if nobody waits for it.
    pub background: bool,
    /// What may be made for it at the provider that is its client's from then on.
    pub watch: Watch,
    /// The `provider` object for `OpenRouter` that its client's budget needs.
    pub priced: Option<Box<Priced>>,
}

impl Plan {
    /// What it can cost is known.
    pub fn worth(&mut self, worth: Worth, read: &Read<'_>) {
        self.ask.cost_max_nano_usd = worth.bound_nano_usd;
        self.cap = worth.cap;
        self.background = worth.background;
        self.priced = worth.priced;
        if let (Some(cap), Read::Json(head)) = (worth.cap, read) {
            self.ask.size.output_tokens_max = Some(cap.saturating_mul(head.n.unwrap_or(1).max(1)));
        }
    }

    /// Works it out.
    pub fn new(
        snapshot: &Snapshot,
        endpoint: Endpoint,
        read: &Read<'_>,
        body: &Bytes,
        (caller, options): (Option<&Client>, &Options),
        now: Now,
    ) -> Result<Self, Problem> {
        let now_ns = now.mono_ns;
        let (to, route) = destination(snapshot, read.model())?;
        if let Some(client) = caller {
            client.check(snapshot, (read, body), (&to, route))?;
        }
        let provider = match (&to, route) {
            (Destination::Adhoc { provider, .. }, _) => snapshot.upstream(*provider),
            // The first target's provider speaks for the route.
            (_, Some(route)) => {
                let first = snapshot.config.routes[route].tiers.iter().flatten().next();
                first.and_then(|target| snapshot.upstream(snapshot.provider_ids[target.provider]))
            }
            _ => None,
        };
        let config = &snapshot.config;
        let base = provider.map(|upstream| upstream.timeouts).unwrap_or_default();
        let timeouts = route.map_or(base, |route| config.routes[route].timeouts.over(&base));
        let total_ns = timeouts.total_ms.saturating_mul(1_000_000);
        let clients_wish = options.timeout_ns.is_some_and(|wish| wish < total_ns);
        let until_ns = now_ns.saturating_add(options.timeout_ns.unwrap_or(total_ns).min(total_ns));
        let max_wait_ms = route.map_or(config.server.max_wait_ms, |r| config.routes[r].max_wait_ms);
        let max_wait_ms = caller.and_then(|client| client.max_wait_ms).unwrap_or(max_wait_ms);
        let max_wait_ns = max_wait_ms.saturating_mul(1_000_000);
        let wait_ns = options.max_wait_ns.map_or(max_wait_ns, |wish| wish.min(max_wait_ns));
        let client = caller.map_or_else(ClientId::default, |caller| caller.payers.client);
        let size = size(read, body);
        let spent_at = (size.input_tokens, now.unix_ns / 1_000_000_000);
        let providers = wishes::providers(snapshot, (read, options), (&to, route), spent_at)?;
        let ask = Ask {
            to,
            endpoint,
            client,
            team: caller.and_then(|caller| caller.payers.team).unwrap_or_default(),
            class: class(caller, options.priority),
            weight: caller.map_or(1.0, |caller| caller.weight),
            deadline_mono_ns: now_ns.saturating_add(wait_ns).min(until_ns),
            size,
            cost_max_nano_usd: None,
            session: session(read, options),
            bound_to: None,
            allowed: caller.and_then(|caller| caller.allowed.clone()),
            providers,
            stream: read.stream(),
        };
        let watch = match read {
            Read::Json(head) => Watch::of(head),
            Read::Form(_) => Watch::default(),
        };
        Ok(Self { ask, route, until_ns, clients_wish, cap: None, background: false, watch, priced: None })
    }

    /// The accounts of the targets that the caller may use.
    fn accounts<'s>(&'s self, snapshot: &'s Snapshot) -> impl Iterator<Item = AccountId> + 's {
        let targets = reach::targets(snapshot, &self.ask.to, self.route).filter(|(provider, key)| {
            self.ask.allowed.as_ref().is_none_or(|allowed| allowed.has(*provider, *key))
        });
        targets.filter_map(|(_, key)| snapshot.key(key)).map(|key| key.account)
    }

    /// The account to which every target that the caller may use belongs, if there is only one.
    pub fn only_account(&self, snapshot: &Snapshot) -> Option<AccountId> {
        let mut accounts = self.accounts(snapshot);
        let first = accounts.next()?;
        accounts.all(|account| account == first).then_some(first)
    }

    /// Whether a target that the caller may use belongs to this account.
    pub fn may_come_to(&self, snapshot: &Snapshot, account: AccountId) -> bool {
        self.accounts(snapshot).any(|own| own == account)
    }

    /// How long the parts of an attempt at this provider may take.
    pub fn timeouts(&self, snapshot: &Snapshot, upstream: &Upstream) -> Timeouts {
        match self.route {
            Some(route) => snapshot.config.routes[route].timeouts.over(&upstream.timeouts),
            None => upstream.timeouts,
        }
    }
}

/// A request can ask for a lower class than its client's, not for a higher one.
fn class(caller: Option<&Client>, wish: Option<Priority>) -> Priority {
    let own = caller.map(|client| client.class);
    // The lower the class, the greater it is in its order.
    own.max(wish).unwrap_or_default()
}

fn destination(snapshot: &Snapshot, model: &str) -> Result<(Destination, Option<usize>), Problem> {
    // Some endpoints (moderations) need no model.
    if let (true, Some(provider)) = (model.is_empty(), snapshot.config.default_provider) {
        let provider = snapshot.provider_ids[provider];
        return Ok((Destination::Adhoc { provider, model: "".into() }, None));
    }
    match snapshot.config.resolve(model) {
        Resolution::Route(route) => Ok((Destination::Route(snapshot.route_ids[route]), Some(route))),
        Resolution::Adhoc { provider, model } => {
            let provider = snapshot.provider_ids[provider];
            Ok((Destination::Adhoc { provider, model: model.into() }, None))
        }
        Resolution::Unknown { suggestions } => {
            let shown: String = model.chars().take(120).collect();
            let mut message = format!("There is no model `{shown}` here.");
            if suggestions.is_empty() {
                message.push_str(" Write `provider:model`, or set `default_provider`.");
            } else {
                message.push_str(" Did you mean ");
                message
                    .push_str(&suggestions.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(", "));
                message.push('?');
            }
            Err(Problem::new(Kind::ModelUnknown, message).at("model_not_found", Some("model")))
        }
    }
}

pub(crate) fn size(read: &Read<'_>, body: &Bytes) -> Size {
    let body_bytes = body.len() as u64;
    match read {
        Read::Json(head) => {
            let size = estimate::Size::of(head);
            Size {
                body_bytes,
                input_tokens: size.input_token_guess(),
                wide: size.is_wide(),
                output_tokens_max: head
                    .output_cap()
                    .map(|cap| cap.saturating_mul(head.n.unwrap_or(1).max(1))),
            }
        }
        // Files are no text: such a call pays the request dimension.
        Read::Form(_) => Size { body_bytes, ..Size::default() },
    }
}

fn session(read: &Read<'_>, options: &Options) -> Option<u64> {
    match (&options.session, read) {
        (Some(name), _) => Some(named(name)),
        (None, Read::Json(head)) => Some(affinity::prefix_hash(head)),
        (None, Read::Form(_)) => None,
    }
}

/// A session that the caller named.
fn named(session: &str) -> u64 {
    let digest = Sha256::digest(session.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The body as one target gets it.
pub struct Outgoing {
    /// The bytes.
    pub body: Bytes,
    /// keymux asked for the usage chunk, the caller did not.
    pub usage_added: bool,
}

/// Changes what must change for this target: the model's name, usage where it would be missing, and what only
/// `OpenRouter` understands. Everything else goes as it came, and where nothing changes, nothing is copied.
pub fn outgoing(
    snapshot: &Snapshot,
    plan: &Plan,
    read: &Read<'_>,
    body: &Bytes,
    upstream: &Upstream,
    model: &Arc<str>,
) -> Outgoing {
    let mut edits = Vec::new();
    let mut usage_added = false;
    match read {
        Read::Form(Some((name, span))) if **name != **model => {
            edits.push(splice::Edit { range: span.clone(), with: model.as_bytes().to_vec() });
        }
        Read::Form(_) => {}
        Read::Json(head) => {
            if head.leads_list && upstream.dialect != Dialect::OpenRouter {
                edits.extend(splice::model_for_list(body, head, model));
            } else if head.model.as_ref().is_some_and(|m| *m.value != **model) {
                edits.extend(splice::set_model(head, model));
            }
            if let (Some(cap), Some(missing)) = (plan.cap, cap_field(head, upstream)) {
                edits.extend(splice::set_max_tokens(body, head, missing, cap));
            }
            if upstream.dialect == Dialect::OpenRouter {
                let defaults = || snapshot.config.routes[plan.route?].provider_defaults.as_deref();
                let priced = plan.priced.as_ref().map(|priced| priced.provider.as_str());
                match (priced, &head.provider) {
                    (Some(priced), Some(given)) => {
                        edits.push(splice::Edit { range: given.span.clone(), with: priced.into() });
                    }
                    (None, Some(_)) => {}
                    (priced, None) => {
                        let provider = priced.or_else(defaults);
                        edits.extend(provider.map(|object| splice::insert_field(head, "provider", object)));
                    }
                }
            } else {
                if head.provider.is_some() {
                    edits.extend(splice::remove_field(body, head, Field::Provider));
                }
                let metered = matches!(plan.ask.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
                if metered && head.stream {
                    let edit = splice::inject_include_usage(head, body);
                    usage_added = edit.is_some();
                    edits.extend(edit);
                }
            }
        }
    }
    let body = if edits.is_empty() { body.clone() } else { Bytes::from(splice::apply(body, &mut edits)) };
    Outgoing { body, usage_added }
}

/// Where a provider looks for the cap of a chat: the newer name is `OpenAI`'s own, and `OpenRouter` knows both. Most
/// other servers know the older one only.
fn cap_field(head: &Head<'_>, upstream: &Upstream) -> Option<splice::CapField> {
    let new = upstream.dialect == Dialect::OpenRouter
        || matches!(upstream.profile, Profile::OpenAi | Profile::Azure);
    match splice::CapField::of(head.kind)? {
        splice::CapField::MaxCompletionTokens if !new => Some(splice::CapField::MaxTokens),
        field => Some(field),
    }
}

/// How long the head may take. A plain answer's head comes when it is whole.
pub fn first_byte_ms(timeouts: &Timeouts, stream: bool) -> u64 {
    if stream { timeouts.first_byte_ms } else { timeouts.first_byte_plain_ms }
}
