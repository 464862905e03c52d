//! Telling a person. One task of the control plane reads the timeline and the state of keys, works out for each webhook
//! what is to be said, and sends it. Nothing on the data path waits for it, and a webhook that does not answer holds up
//! no other.

mod conditions;
mod deliver;
mod message;
mod register;
mod watch;

use crate::happening::{Happening, Kind};
use crate::serve::Gateway;
use crate::upstream::Connector;
use conditions::{Conditions, Message};
use deliver::{Undelivered, deliver};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use keymux_config::Webhook;
use keymux_policy::Now;
use register::Register;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How soon something that happened is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often the state of keys is looked at while nothing happens to them.
const STAND_NS: u64 = 10_000_000_000;
/// After so many failures in a row a webhook is told of: one may be chance.
const FAILS: u32 = 2;

/// How the webhooks stand, for operators.
#[derive(Default)]
pub struct Alerts(Mutex<BTreeMap<Arc<str>, Standing>>);

#[derive(Clone, Default)]
struct Standing {
    open: usize,
    delivered: u64,
    last_unix_ms: Option<u64>,
    failing: Option<String>,
}

impl Alerts {
    fn update(&self, name: &Arc<str>, change: impl FnOnce(&mut Standing)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(name.clone()).or_default());
    }

    /// Every webhook of a configuration. No token, no secret.
    pub(crate) fn json(&self, hooks: &[Webhook]) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = |hook: &Webhook| {
            let stands = all.get(&hook.name).cloned().unwrap_or_default();
            json!({
                "name": &*hook.name,
                "kind": hook.kind.word(),
                "url": hook.url.to_string(),
                "signed": hook.secret.is_some(),
                "events": hook.topics.iter().map(|topic| topic.word()).collect::<Vec<_>>(),
                "severity": hook.severity.word(),
                "open": stands.open,
                "delivered": stands.delivered,
                "last_unix_ms": stands.last_unix_ms,
                "failing": stands.failing,
            })
        };
        json!({ "webhooks": hooks.iter().map(one).collect::<Vec<_>>() })
    }
}

/// Sends one webhook a test, now.
///
/// # Errors
/// Why it did not come through.
pub(crate) async fn test(gateway: &Gateway, connector: &Connector, hook: &Webhook) -> Result<(), String> {
    let message = message::test(gateway.clock.now().unix_ns / 1_000_000);
    send(gateway.clock.now(), connector, hook, &message).await.map_err(|undelivered| undelivered.why)
}

async fn send(now: Now, connector: &Connector, hook: &Webhook, message: &Message) -> Result<(), Undelivered> {
    let id = format!("msg_{}", crate::random::hex::<12>());
    let from = message::From { instance: &instance(), unix_ms: now.unix_ns / 1_000_000, id: &id };
    deliver(connector, hook, message::written(message, hook, &from)).await
}

/// The name of this machine.
fn instance() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "this machine".to_owned() } else { name }
}

/// One webhook, and what it was told.
struct Told {
    hook: Webhook,
    conditions: Conditions,
    /// A message is on its way.
    busy: bool,
    /// It was told of as failing.
    fails: bool,
}

type Sent = (Arc<str>, Message, Result<(), Undelivered>);

/// Everything that the task knows.
struct Task {
    gateway: Arc<Gateway>,
    connector: Connector,
    told: Vec<Told>,
    register: Register,
    on_their_way: FuturesUnordered<BoxFuture<'static, Sent>>,
    providers: watch::Providers,
    refusals: watch::Refusals,
    last_event: u64,
    stood_ns: u64,
}

/// Tells whoever is to be told, for ever.
pub async fn run(gateway: Arc<Gateway>, connector: Connector) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut task = Task {
        gateway,
        connector,
        told: Vec::new(),
        register: Register::default(),
        on_their_way: FuturesUnordered::new(),
        providers: watch::Providers::default(),
        refusals: watch::Refusals::default(),
        last_event: 0,
        stood_ns: 0,
    };
    loop {
        tokio::select! {
            _ = every.tick() => task.look(),
            Some(sent) = task.on_their_way.next() => task.sent(sent),
        }
    }
}

impl Task {
    fn look(&mut self) {
        let gateway = self.gateway.clone();
        let now = gateway.clock.now();
        self.follow(now, &gateway.live.load().config.webhooks);
        let refused = gateway.metrics.refused(&watch::FOR_WANT_OF_ROOM);
        if let Some(happening) = self.refusals.look(now.mono_ns / 1_000_000_000, refused) {
            gateway.tell(happening);
        }
        let new = gateway.timeline.after(self.last_event);
        let touched = new.iter().any(|entry| {
            // Whatever happens to keys, and whoever changes which there are.
            watch::KINDS.contains(&entry.kind)
                || matches!(entry.kind, Kind::Reconfigured | Kind::Reloaded | Kind::ByOperator)
                || matches!(entry.kind, Kind::KeyRestored | Kind::AccountRestored | Kind::ProviderClosed)
        });
        for entry in &new {
            self.last_event = entry.id;
            let happening = Happening::new(entry.kind, &*entry.subject, &*entry.text);
            self.register.happens(now, &happening);
            for told in &mut self.told {
                told.conditions.happens(now, &happening, &told.hook);
            }
        }
        // What ends without a word is asked for only where somebody was told of its beginning.
        if touched || (!self.told.is_empty() && now.mono_ns >= self.stood_ns + STAND_NS) {
            self.stand(now);
        }
        for told in &mut self.told {
            gateway.alerts.update(&told.hook.name, |stands| stands.open = told.conditions.open());
            if told.busy {
                continue;
            }
            let Some(message) = told.conditions.message(now, &told.hook) else { continue };
            told.busy = true;
            let (hook, connector) = (told.hook.clone(), self.connector.clone());
            self.on_their_way.push(Box::pin(async move {
                let done = send(now, &connector, &hook, &message).await;
                (hook.name.clone(), message, done)
            }));
        }
    }

    /// Looks at which keys there are, and at their state.
    fn stand(&mut self, now: Now) {
        self.stood_ns = now.mono_ns;
        let troubles = self.gateway.scheduler.troubles();
        let snapshot = self.gateway.live.load_full();
        let stand = watch::standing(&troubles, &snapshot);
        for happening in self.providers.look(&stand) {
            self.gateway.tell(happening);
        }
        if self.told.is_empty() && self.register.is_empty() {
            return;
        }
        let (in_use, checks) = (self.gateway.keys_in_use(&snapshot), !self.gateway.checks.are_off());
        let there = watch::There::new(&snapshot, &in_use, checks);
        self.register.look(&stand, &there);
        for told in &mut self.told {
            told.conditions.still_there(now, &there, &told.hook);
            told.conditions.only(now, &stand, &told.hook);
        }
    }

    /// Takes the webhooks of the configuration in force; those that keep their name keep what they were told. New ones, and
    /// those that want to know more, are told what stands.
    fn follow(&mut self, now: Now, hooks: &[Webhook]) {
        self.told.retain(|told| hooks.iter().any(|hook| hook.name == told.hook.name));
        let wants = |hook: &Webhook| (hook.topics.clone(), hook.severity);
        let mut to_be_told = Vec::new();
        for hook in hooks {
            if let Some(told) = self.told.iter_mut().find(|told| told.hook.name == hook.name) {
                if wants(&told.hook) != wants(hook) {
                    to_be_told.push(hook.name.clone());
                }
                told.hook = hook.clone();
            } else {
                to_be_told.push(hook.name.clone());
                self.told.push(Told {
                    hook: hook.clone(),
                    conditions: Conditions::default(),
                    busy: false,
                    fails: false,
                });
            }
        }
        if to_be_told.is_empty() || self.register.is_empty() {
            return;
        }
        // What ended without a word since the last look is not told as if it stood.
        self.stand(now);
        for told in self.told.iter_mut().filter(|told| to_be_told.contains(&told.hook.name)) {
            self.register.tell(&mut told.conditions, &told.hook);
        }
    }

    fn sent(&mut self, (name, message, done): Sent) {
        let gateway = &self.gateway;
        let now = gateway.clock.now();
        let Some(told) = self.told.iter_mut().find(|told| told.hook.name == name) else { return };
        told.busy = false;
        match done {
            Ok(()) => {
                told.conditions.delivered(now, &message, &told.hook);
                gateway.alerts.update(&name, |stands| {
                    stands.delivered += 1;
                    (stands.last_unix_ms, stands.failing) = (Some(now.unix_ns / 1_000_000), None);
                });
                if std::mem::take(&mut told.fails) {
                    let text = format!("webhook works again: {name}");
                    gateway.tell(Happening::new(Kind::WebhookWorks, &*name, text));
                }
            }
            Err(Undelivered { why, wait_ns }) => {
                let times = told.conditions.failed(now, wait_ns);
                gateway.alerts.update(&name, |stands| stands.failing = Some(why.clone()));
                if times >= FAILS && !std::mem::replace(&mut told.fails, true) {
                    let text =
                        format!("webhook does not take its messages: {name}: {why}; it is tried again");
                    gateway.tell(Happening::new(Kind::WebhookFails, &*name, text));
                }
            }
        }
    }
}
