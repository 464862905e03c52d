//! The gateway as a whole: what all workers share, what each has for itself, and the order of its start and end.

mod connection;
mod head;
mod line;
mod listener;
mod logs;
mod run;
mod send;
mod tls;
mod watch;
mod writes;

pub use connection::on_stream;
pub use head::RequestHead;
pub use line::{Gone, Line};
pub use run::{Bound as BoundAddresses, Running, Stop, descriptors, start, start_with};

use crate::alerts::Alerts;
use crate::attempt::Dialer;
use crate::bound::Bound;
use crate::checks::Known;
use crate::clients::dear::TooDear;
use crate::clients::{Directory, Turnstile};
use crate::clock::Clock;
use crate::explain::Recent;
use crate::happening::Happening;
use crate::ledger::Gate;
use crate::live::{Names, Snapshot};
use crate::models::Lists;
use crate::observe::Metrics;
use crate::pulse::Pulse;
use crate::reload::Wish;
use crate::scheduler::Scheduler;
use crate::timeline::Timeline;
use crate::traces::Traces;
use arc_swap::ArcSwap;
use keymux_config::{Config, Secret};
use keymux_policy::fleet::KeyId;
use keymux_store::Store;
pub use logs::Logs;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use writes::Writes;

/// What all workers share.
pub struct Gateway {
    /// Decides.
    pub scheduler: Arc<Scheduler>,
    /// The configuration in force.
    pub live: ArcSwap<Snapshot>,
    /// Counters.
    pub metrics: Metrics,
    /// The clock.
    pub clock: Clock,
    /// Who may call.
    pub directory: Directory,
    /// What clients may use up.
    pub turnstile: Arc<Turnstile>,
    /// Models for which the prices of budgets are too low.
    pub too_dear: TooDear,
    /// State at providers.
    pub bound: Bound,
    /// The last requests, with why they went where they went.
    pub recent: Recent,
    /// How fast it goes, and went.
    pub pulse: Pulse,
    /// What checks found out about keys.
    pub checks: Known,
    /// What just happened.
    pub timeline: Timeline,
    /// Spans of requests, on their way to a collector.
    pub traces: Traces,
    /// Who is told when something needs a person.
    pub alerts: Alerts,
    /// An operator's wish for another look at the configuration.
    pub reload: Wish,
    /// Models of the providers.
    pub lists: Lists,
    /// What is written down; `None` if nothing is.
    pub store: Option<Arc<Store>>,
    /// Whether what requests leave behind can be written down.
    pub ledger: Gate,
    /// The admin token of the start.
    admin_token: OnceLock<Secret>,
    /// New requests are refused.
    pub draining: AtomicBool,
    /// Connections that owe their client an answer.
    writes: Writes,
    /// What is logged of requests, and from which level on.
    logs: Logs,
    /// Longest head of a request.
    head_bytes_max: AtomicUsize,
    /// A name where there is none yet.
    pub nobody: Arc<str>,
    names: Mutex<Names>,
    /// Keys that an operator switched on or off, whatever the configuration says.
    switched: Mutex<HashMap<KeyId, bool>>,
    connections: AtomicUsize,
    connections_max: usize,
    /// Bytes of bodies that are held.
    pub held_bytes: AtomicUsize,
    /// Where it listens since its start, whatever a later configuration says.
    listens_on: IpAddr,
}

impl Gateway {
    /// A gateway of this configuration, which writes into `store`. `seed` feeds the scheduler's dice.
    pub fn new(
        config: Config,
        connections_max: usize,
        seed: u64,
        (clock, store): (Clock, Option<Arc<Store>>),
    ) -> Result<Arc<Self>, String> {
        let (metrics, traces) = (Metrics::default(), Traces::default());
        let mut names = Names::default();
        let logs = Logs::new(&config.server.log);
        let head_bytes_max = AtomicUsize::new(config.server.head_bytes_max);
        let listens_on = config.server.listen.ip();
        let (snapshot, fleet) = Snapshot::new(config, &mut names, &metrics)?;
        let directory = Directory::new(store.is_some());
        let turnstile = Turnstile::new(clock.clone(), store.is_some());
        directory.configure(&snapshot, |dues| turnstile.set(dues));
        Ok(Arc::new(Self {
            directory,
            turnstile,
            scheduler: Scheduler::new(clock.clone(), fleet, seed),
            live: ArcSwap::from_pointee(snapshot),
            metrics,
            clock,
            too_dear: TooDear::default(),
            bound: Bound::default(),
            recent: Recent::default(),
            pulse: Pulse::default(),
            checks: Known::default(),
            timeline: Timeline::default(),
            traces,
            alerts: Alerts::default(),
            reload: Wish::default(),
            lists: Lists::default(),
            store,
            ledger: Gate::default(),
            admin_token: OnceLock::new(),
            draining: AtomicBool::new(false),
            writes: Writes::default(),
            logs,
            head_bytes_max,
            nobody: Arc::from("-"),
            names: Mutex::new(names),
            switched: Mutex::default(),
            connections: AtomicUsize::new(0),
            connections_max,
            held_bytes: AtomicUsize::new(0),
            listens_on,
        }))
    }

    /// Tells of something that happened just now.
    pub fn tell(&self, happening: Happening) {
        self.timeline.tell(self.clock.now().unix_ns, happening);
    }

    /// Puts another configuration in force, whole or not at all.
    ///
    /// # Errors
    /// One line: what HTTP cannot carry, or that it would leave the gateway open to other machines. A configuration
    /// is checked against the address that it names, but the sockets stay where they are until a restart.
    pub fn reconfigure(&self, config: Config) -> Result<(), String> {
        let server = &config.server;
        let open =
            server.token.is_none() && config.clients.is_empty() && self.directory.is_closed() != Some(true);
        if !self.listens_on.is_loopback() && open && !server.allow_open {
            return Err(format!(
                "server.token: the gateway still listens on {}, and without a token anyone who reaches it could \
                 spend your keys; another server.listen needs a restart, so keep the token until then, or say \
                 allow_open = true",
                self.listens_on
            ));
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(config, &mut names)
    }

    /// Switches a key on or off until the process ends, whatever the configuration says. What is in flight finishes.
    ///
    /// # Errors
    /// As [`Gateway::reconfigure`].
    pub fn switch(&self, key: KeyId, on: bool) -> Result<(), String> {
        // Held throughout: a reload in between must not be undone by the configuration of before.
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.switched.lock().unwrap_or_else(PoisonError::into_inner).insert(key, on);
        let config = self.live.load().config.clone();
        self.put(config, &mut names)
    }

    /// The keys of a configuration that are switched on: by it, unless an operator had another mind.
    pub fn keys_in_use(&self, snapshot: &Snapshot) -> BTreeSet<KeyId> {
        let switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        let all = snapshot.config.providers.iter().zip(&snapshot.key_ids);
        all.flat_map(|(provider, ids)| ids.iter().zip(&provider.keys))
            .filter(|(id, key)| switched.get(id).copied().unwrap_or(key.enabled))
            .map(|(id, _)| *id)
            .collect()
    }

    fn put(&self, config: Config, names: &mut Names) -> Result<(), String> {
        let (log, head_bytes_max) = (config.server.log, config.server.head_bytes_max);
        let level_before = self.live.load().config.server.log.level;
        let (snapshot, mut fleet) = Snapshot::new(config, names, &self.metrics)?;
        let switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for key in &mut fleet.keys {
            key.enabled = switched.get(&key.id).copied().unwrap_or(key.enabled);
        }
        // The snapshot first: a lease on a new key must find its entry.
        let snapshot = Arc::new(snapshot);
        self.live.store(snapshot.clone());
        let in_use = self.keys_in_use(&snapshot);
        self.checks.keep(|key| in_use.contains(&key));
        self.directory.configure(&snapshot, |dues| self.turnstile.set(dues));
        self.scheduler.reconfigure(fleet);
        self.logs.reload(&log, level_before);
        self.head_bytes_max.store(head_bytes_max, Ordering::Relaxed);
        Ok(())
    }

    /// What is logged.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The admin token in force: a reload may have set another one than that of the start. `None`: nobody may manage.
    pub fn admin_token(&self) -> Option<Secret> {
        let live = self.live.load();
        live.config.server.admin_token.as_ref().or_else(|| self.admin_token.get()).cloned()
    }
}

/// What one worker has for itself.
pub struct Worker {
    /// What all share.
    pub gateway: Arc<Gateway>,
    /// Its connections to providers.
    pub dialer: Dialer,
    /// First half of its request ids.
    run: u64,
    counter: AtomicU64,
}

impl Worker {
    /// A worker; `run` tells its request ids from those of other workers and other runs.
    pub fn new(gateway: Arc<Gateway>, dialer: Dialer, run: u64) -> Arc<Self> {
        Arc::new(Self { gateway, dialer, run, counter: AtomicU64::new(0) })
    }

    /// An id that no other request has: this worker's run, then a count.
    pub fn next_id(&self) -> Arc<str> {
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = *b"km-00000000000000000000000000";
        let (run, counted) = id[3..].split_at_mut(16);
        hexadecimal(self.run, run);
        hexadecimal(count, counted);
        std::str::from_utf8(&id).unwrap_or_default().into()
    }
}

/// Writes the last digits of a number, as many as there is room for.
fn hexadecimal(mut n: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(n % 16) as usize];
        n /= 16;
    }
}

#[cfg(test)]
mod tests;
