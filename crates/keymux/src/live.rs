//! The configuration as the data path uses it: one immutable snapshot, replaced whole. Names become ids here, and an
//! id stays with its name over every reload, so that what the scheduler learned about a key survives.

use crate::observe::{KeyCounters, Metrics, ModelCounters, OTHER, TargetTimes};
use crate::upstream::Origin;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use keymux_config::prices::Price;
use keymux_config::{Auth, Config, Dialect, LimitHeaders, Provider, Timeouts};
use keymux_policy::fleet::{
    AccountId, AccountSpec, EndpointSet, Fleet, KeyId, KeySpec, Member, ProviderId, ProviderSpec, RouteId,
    RouteSpec,
};
use keymux_wire as wire;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One configuration, ready to serve.
pub struct Snapshot {
    /// As it was read.
    pub config: Config,
    /// By [`ProviderId`]; `None` where an id belongs to another configuration.
    pub upstreams: Vec<Option<Arc<Upstream>>>,
    /// By [`KeyId`].
    pub keys: Vec<Option<Arc<KeyEntry>>>,
    /// `provider/account`, for people.
    pub account_names: HashMap<AccountId, String>,
    /// By the index of the configuration's providers.
    pub provider_ids: Vec<ProviderId>,
    /// By the indices of the configuration's providers and their keys.
    pub key_ids: Vec<Vec<KeyId>>,
    /// By the index of the configuration's routes.
    pub route_ids: Vec<RouteId>,
    /// By the same; a variant counts for the route that it is made of.
    pub route_counters: Vec<Arc<ModelCounters>>,
    /// Of all names that are no route's.
    pub other_counters: Arc<ModelCounters>,
    /// Prices that were looked up.
    prices: Mutex<PricesOf>,
}

/// What a provider's models cost; `None`: nobody knows.
type PricesOf = HashMap<ProviderId, HashMap<Arc<str>, Option<Arc<Price>>>>;

/// Prices that are remembered for a provider: names come from clients.
const PRICES_MAX: usize = 4_096;

/// A provider, as requests are sent to it.
pub struct Upstream {
    /// Its id.
    pub id: ProviderId,
    /// Its name.
    pub name: Arc<str>,
    /// Its name, as a header shows it.
    pub shown: HeaderValue,
    /// Where connections go.
    pub origin: Origin,
    /// The stack of idle connections that they share.
    pub origin_id: usize,
    /// `Host` of its requests.
    pub authority: HeaderValue,
    /// Target before `/chat/completions` and so on, without a slash at its end: a path, or for a proxy that sees
    /// requests, a URL.
    pub target_base: String,
    /// What its bodies mean.
    pub dialect: wire::error::Dialect,
    /// What its limit headers mean.
    pub profile: wire::limits::Profile,
    /// Headers of every request to it.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What it serves.
    pub endpoints: EndpointSet,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Whether it is told of traces.
    pub trace_context: bool,
    /// A stream that is cancelled goes on there, and is billed.
    pub runs_on_after_cancel: bool,
    /// How long it took.
    pub times: Times,
}

/// The times of a provider's models: of those that routes lead to each for itself, of all others together, for their
/// names come from clients.
pub struct Times {
    models: BTreeMap<Arc<str>, Arc<TargetTimes>>,
    other: Arc<TargetTimes>,
}

impl Times {
    /// Those of a provider, with these models apart.
    pub fn new(provider: &Arc<str>, models: impl Iterator<Item = Arc<str>>, metrics: &Metrics) -> Self {
        let named = |model: Arc<str>| (model.clone(), metrics.target(provider, model));
        let other = metrics.target(provider, OTHER.into());
        Self { models: models.chain([OTHER.into()]).map(named).collect(), other }
    }

    /// Those of a model.
    pub fn model(&self, model: &str) -> &Arc<TargetTimes> {
        self.models.get(model).unwrap_or(&self.other)
    }

    /// All of them, with the name to show.
    pub fn all(&self) -> impl Iterator<Item = (&str, &TargetTimes)> {
        self.models.iter().map(|(model, times)| (&**model, &**times))
    }
}

/// A key, as requests carry it.
pub struct KeyEntry {
    /// Its name, which may be shown.
    pub name: Arc<str>,
    /// Its name, as a header shows it.
    pub shown: HeaderValue,
    /// Its account.
    pub account: AccountId,
    /// The account's name.
    pub account_name: Arc<str>,
    /// The credential, marked sensitive.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// Counters of this key.
    pub counters: Arc<KeyCounters>,
    /// The owner that its answers named last; 0: none yet.
    pub owner: AtomicU64,
}

impl KeyEntry {
    /// An answer names the key's owner. Tells whether that is news.
    pub fn tells_owner(&self, owner: u64) -> bool {
        self.owner.load(Ordering::Relaxed) != owner && self.owner.swap(owner, Ordering::Relaxed) != owner
    }
}

/// Gives names their ids, for the life of the process.
#[derive(Default)]
pub struct Names {
    ids: HashMap<String, u32>,
    next: [u32; 5],
}

#[derive(Clone, Copy)]
enum What {
    Provider,
    Account,
    Key,
    Route,
    Origin,
}

impl Names {
    fn id(&mut self, what: What, name: &str) -> u32 {
        let kind = what as usize;
        let next = &mut self.next[kind];
        *self.ids.entry(format!("{kind}\0{name}")).or_insert_with(|| {
            let id = *next;
            *next += 1;
            id
        })
    }
}

impl Snapshot {
    /// Makes a configuration ready to serve, and says what the scheduler has to know of it.
    ///
    /// # Errors
    /// A header or secret that HTTP cannot carry, in words that name it.
    pub fn new(config: Config, names: &mut Names, metrics: &Metrics) -> Result<(Self, Fleet), String> {
        let mut snapshot = Self {
            upstreams: Vec::new(),
            keys: Vec::new(),
            account_names: HashMap::new(),
            provider_ids: Vec::new(),
            key_ids: Vec::new(),
            route_ids: Vec::new(),
            route_counters: Vec::new(),
            other_counters: metrics.route(&OTHER.into()),
            prices: Mutex::default(),
            config,
        };
        let mut fleet = Fleet {
            settings: snapshot.config.settings.clone(),
            default_strategy: snapshot.config.default_strategy,
            ..Fleet::default()
        };
        let providers = std::mem::take(&mut snapshot.config.providers);
        for provider in &providers {
            let key_ids = snapshot.add_provider(provider, names, metrics, &mut fleet)?;
            snapshot.key_ids.push(key_ids);
        }
        snapshot.config.providers = providers;
        for route in &snapshot.config.routes {
            let id = RouteId(names.id(What::Route, &route.model));
            let member = |t: &keymux_config::Target| Member {
                provider: snapshot.provider_ids[t.provider],
                model: t.model.clone(),
                keys: t.keys.iter().map(|k| snapshot.key_ids[t.provider][*k]).collect(),
                weight: t.weight,
            };
            fleet.routes.push(RouteSpec {
                id,
                name: route.model.clone(),
                tiers: route.tiers.iter().map(|tier| tier.iter().map(member).collect()).collect(),
                strategy: route.strategy,
            });
            snapshot.route_ids.push(id);
            let declared = route.variant_of.and_then(|at| snapshot.config.routes.get(at)).unwrap_or(route);
            snapshot.route_counters.push(metrics.route(&declared.model));
        }
        Ok((snapshot, fleet))
    }

    fn add_provider(
        &mut self,
        provider: &Provider,
        names: &mut Names,
        metrics: &Metrics,
        fleet: &mut Fleet,
    ) -> Result<Vec<KeyId>, String> {
        let id = ProviderId(names.id(What::Provider, &provider.name));
        let index = self.provider_ids.len();
        self.provider_ids.push(id);
        let targets = self.config.routes.iter().flat_map(|route| route.tiers.iter().flatten());
        let models = targets.filter(|target| target.provider == index).map(|target| target.model.clone());
        let upstream = upstream(id, provider, names, Times::new(&provider.name, models, metrics))?;
        put(&mut self.upstreams, id.0, Arc::new(upstream));
        fleet.providers.push(ProviderSpec {
            id,
            name: provider.name.clone(),
            endpoints: provider.endpoints,
            charging: provider.charging,
        });
        let mut accounts = Vec::new();
        for account in &provider.accounts {
            let account_id =
                AccountId(names.id(What::Account, &format!("{}\0{}", provider.name, account.name)));
            fleet.accounts.push(AccountSpec {
                id: account_id,
                provider: id,
                name: account.name.clone(),
                named: account.named,
                limits: account.limits.clone(),
            });
            self.account_names.insert(account_id, format!("{}/{}", provider.name, account.name));
            accounts.push(account_id);
        }
        let mut keys = Vec::new();
        for key in &provider.keys {
            let key_id = KeyId(names.id(What::Key, &format!("{}\0{}", provider.name, key.name)));
            let account = accounts[key.account];
            let credential = credential(provider, key)?;
            let secret = credential.as_ref().map_or(0, |(_, value)| digest(value));
            let entry = KeyEntry {
                name: key.name.clone(),
                shown: HeaderValue::try_from(&*key.name).map_err(|_| {
                    format!(
                        "provider {}: key {}: its name cannot be shown in a header",
                        provider.name, key.name
                    )
                })?,
                account,
                account_name: provider.accounts[key.account].name.clone(),
                credential,
                counters: metrics.key(&provider.name, &key.name),
                owner: AtomicU64::new(0),
            };
            put(&mut self.keys, key_id.0, Arc::new(entry));
            fleet.keys.push(KeySpec {
                id: key_id,
                account,
                provider: id,
                name: key.name.clone(),
                weight: key.weight,
                enabled: key.enabled,
                secret,
                models: key.models.clone(),
                limits: key.limits.clone(),
            });
            keys.push(key_id);
        }
        Ok(keys)
    }

    /// What is counted of a route; `None`: of a name that is none's.
    pub fn counters(&self, route: Option<usize>) -> &Arc<ModelCounters> {
        route.and_then(|route| self.route_counters.get(route)).unwrap_or(&self.other_counters)
    }

    /// The provider of this id.
    pub fn upstream(&self, id: ProviderId) -> Option<&Arc<Upstream>> {
        self.upstreams.get(id.0 as usize)?.as_ref()
    }

    /// The key of this id.
    pub fn key(&self, id: KeyId) -> Option<&Arc<KeyEntry>> {
        self.keys.get(id.0 as usize)?.as_ref()
    }

    /// What a provider's model costs, if that is known.
    pub fn price(&self, provider: ProviderId, model: &Arc<str>) -> Option<Arc<Price>> {
        let mut prices = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
        let known = prices.entry(provider).or_default();
        if let Some(price) = known.get(model) {
            return price.clone();
        }
        let index = self.provider_ids.iter().position(|id| *id == provider)?;
        let price = self.config.price(index, model).cloned().map(Arc::new);
        if known.len() >= PRICES_MAX {
            known.clear();
        }
        known.insert(model.clone(), price.clone());
        price
    }

    /// The id of the provider of this name.
    pub fn provider_named(&self, name: &str) -> Option<ProviderId> {
        let index = self.config.providers.iter().position(|p| p.name.eq_ignore_ascii_case(name))?;
        self.provider_ids.get(index).copied()
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, id: u32, value: T) {
    let index = id as usize;
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(value);
}

/// Tells secrets apart, and nothing of them.
fn digest(credential: &HeaderValue) -> u64 {
    Sha256::digest(credential).first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// A name that no other origin has. Two proxies that differ in their credential alone share no connection, but names
/// live as long as the process, so the credential stands in them as a digest.
fn origin_name(origin: &Origin) -> String {
    let credential = origin.proxy.as_ref().and_then(|p| p.authorization.as_ref()).map(Sha256::digest);
    format!("{origin:?} {credential:?}")
}

fn upstream(
    id: ProviderId,
    provider: &Provider,
    names: &mut Names,
    times: Times,
) -> Result<Upstream, String> {
    let base = &provider.base;
    let origin = Origin::of(base, provider.proxy.as_ref());
    let origin_id = names.id(What::Origin, &origin_name(&origin)) as usize;
    let bad = |what: &str| format!("provider {}: {what} cannot be sent in HTTP", provider.name);
    let mut headers = Vec::new();
    for (name, value) in &provider.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| bad(&format!("header name {name:?}")))?;
        let value =
            HeaderValue::try_from(value.as_str()).map_err(|_| bad(&format!("the value of {name}")))?;
        headers.push((name, value));
    }
    let seen_by_proxy = origin.proxy.is_some() && !origin.https;
    let target_base =
        if seen_by_proxy { format!("http://{}{}", base.authority(), base.path) } else { base.path.clone() };
    // It is written as it is: what ends a line would begin another request.
    format!("{target_base}/").parse::<http::Uri>().map_err(|_| bad("its base URL"))?;
    if origin.proxy.iter().filter_map(|p| p.authorization.as_ref()).any(|a| HeaderValue::try_from(a).is_err())
    {
        return Err(bad("its proxy's credential"));
    }
    Ok(Upstream {
        id,
        name: provider.name.clone(),
        shown: HeaderValue::try_from(&*provider.name).map_err(|_| bad("its name"))?,
        origin,
        origin_id,
        authority: HeaderValue::try_from(base.authority()).map_err(|_| bad("its host"))?,
        target_base,
        dialect: match provider.dialect {
            Dialect::OpenAi => wire::error::Dialect::OpenAi,
            Dialect::OpenRouter => wire::error::Dialect::OpenRouter,
            Dialect::Anthropic => wire::error::Dialect::Anthropic,
        },
        profile: match provider.limit_headers {
            LimitHeaders::OpenAi => wire::limits::Profile::OpenAi,
            LimitHeaders::Azure => wire::limits::Profile::Azure,
            LimitHeaders::Anthropic => wire::limits::Profile::Anthropic,
            LimitHeaders::Groq => wire::limits::Profile::Groq,
            LimitHeaders::Mistral => wire::limits::Profile::Mistral,
            LimitHeaders::Cerebras => wire::limits::Profile::Cerebras,
            LimitHeaders::OpenRouter => wire::limits::Profile::OpenRouter,
            LimitHeaders::Generic => wire::limits::Profile::Generic,
        },
        headers,
        endpoints: provider.endpoints,
        timeouts: provider.timeouts,
        trace_context: provider.trace_context,
        runs_on_after_cancel: provider.charging.runs_on_after_cancel,
        times,
    })
}

fn credential(
    provider: &Provider,
    key: &keymux_config::Key,
) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let Some(secret) = &key.secret else { return Ok(None) };
    let bad =
        |_| format!("provider {}: key {}: its secret cannot be sent in a header", provider.name, key.name);
    let (name, text) = match &provider.auth {
        Auth::Bearer => (AUTHORIZATION, format!("Bearer {}", secret.expose())),
        Auth::Header(name) => {
            let parsed = HeaderName::try_from(name.as_str());
            let parsed = parsed.map_err(|_| format!("provider {}: auth header {name:?}", provider.name))?;
            (parsed, secret.expose().to_owned())
        }
        Auth::None => return Ok(None),
    };
    let mut value = HeaderValue::try_from(text).map_err(bad)?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Proxy;

    #[test]
    fn origins_differ_by_their_proxys_credential_and_do_not_show_it() {
        let name = |authorization: Option<&str>| {
            let authorization = authorization.map(str::to_owned);
            let proxy = Some(Proxy { https: false, host: "proxy.test".to_owned(), port: 1, authorization });
            origin_name(&Origin { https: true, host: "host.test".to_owned(), port: 443, proxy })
        };
        let marked = name(Some("Basic MARKED"));
        assert_eq!(marked, name(Some("Basic MARKED")));
        assert!(!marked.contains("MARKED"), "{marked}");
        assert_ne!(marked, name(Some("Basic other")));
        assert_ne!(marked, name(None));
    }
}
