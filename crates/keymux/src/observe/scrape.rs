//! What a scrape says: every row of the table with its series. Counters are read as they stand; state is asked of the
//! policy, the store and the machine at that moment, so that nothing is shown longer than it is true, and only of what the
//! configuration in force has, so that nothing is shown of what it dropped. What has happened is read before what is
//! the case: a scrape that tells of an event shows the state after it.

use super::count::WAIT_CLASSES;
use super::keys::Pool;
use super::process::Process;
use super::table::{Definition, Metric, TABLE};
use super::{Histogram, Metrics, OTHER};
use crate::happening::Kind;
use crate::live::Snapshot;
use crate::serve::Gateway;
use keymux_policy::View;
use keymux_policy::budget::BudgetView;
use keymux_store::Health;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Written = Result<(), fmt::Error>;

/// Everything, as Prometheus reads it.
pub fn scrape(gateway: &Arc<Gateway>) -> String {
    write(Scrape::of(gateway.clone()))
}

pub(super) fn write(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// The state of one moment.
pub(super) struct Scrape {
    gateway: Arc<Gateway>,
    events: Vec<(Kind, u64)>,
    config_refused: bool,
    snapshot: Arc<Snapshot>,
    view: View,
    health: Option<Health>,
    process: Process,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Written {
        for definition in TABLE {
            let (name, unit) = definition.parts();
            let kind = definition.metric_type();
            let encoder = encoder.encode_descriptor(name, definition.help, unit.as_ref(), kind)?;
            self.tell(&mut Series { definition, encoder })?;
        }
        Ok(())
    }
}

/// The series of one metric.
pub(super) struct Series<'a> {
    definition: &'static Definition,
    encoder: MetricEncoder<'a>,
}

type NoExemplar = [(&'static str, &'static str); 0];

impl Series<'_> {
    pub(super) fn metric(&self) -> Metric {
        self.definition.metric
    }

    fn with(&mut self, values: &[&str], write: impl FnOnce(&mut MetricEncoder<'_>) -> Written) -> Written {
        debug_assert_eq!(values.len(), self.definition.labels.len(), "{:?}", self.definition.metric);
        if values.is_empty() {
            return write(&mut self.encoder);
        }
        let labels: Vec<(&str, &str)> =
            self.definition.labels.iter().copied().zip(values.iter().copied()).collect();
        write(&mut self.encoder.encode_family(&labels)?)
    }

    pub(super) fn count(&mut self, labels: &[&str], n: u64) -> Written {
        self.with(labels, |e| e.encode_counter::<NoExemplar, _, f64>(&n, None))
    }

    pub(super) fn sum(&mut self, labels: &[&str], n: f64) -> Written {
        self.with(labels, |e| e.encode_counter::<NoExemplar, _, f64>(&n, None))
    }

    pub(super) fn gauge(&mut self, labels: &[&str], n: f64) -> Written {
        self.with(labels, |e| e.encode_gauge(&n))
    }

    pub(super) fn number(&mut self, labels: &[&str], n: u64) -> Written {
        self.with(labels, |e| e.encode_gauge(&n))
    }

    pub(super) fn flag(&mut self, labels: &[&str], on: bool) -> Written {
        self.number(labels, u64::from(on))
    }

    /// What was never seen is left out: it would be sixteen lines of nothing.
    pub(super) fn histogram(&mut self, labels: &[&str], histogram: &Histogram) -> Written {
        let (buckets, sum) = histogram.read();
        let count = buckets.iter().map(|(_, n)| n).sum();
        if count == 0 {
            return Ok(());
        }
        self.with(labels, |e| e.encode_histogram::<NoExemplar>(sum, count, &buckets, None))
    }
}

impl Scrape {
    pub(super) fn of(gateway: Arc<Gateway>) -> Self {
        Self {
            // In this order, as fields are computed.
            events: gateway.timeline.counts().collect(),
            config_refused: gateway.metrics.config_is_refused(),
            snapshot: gateway.live.load_full(),
            view: gateway.scheduler.view(),
            health: gateway.store.as_ref().map(|store| store.health()),
            process: Process::look(),
            gateway,
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.gateway.metrics
    }

    fn tell(&self, series: &mut Series<'_>) -> Written {
        use Metric as M;
        let (metrics, view, pool) = (self.metrics(), &self.view, Pool::new(&self.snapshot, &self.view));
        match series.definition.metric {
            M::Requests | M::RequestSeconds | M::FirstOutputSeconds => self.models(series),
            M::Refusals => metrics.refusals().try_for_each(|(code, n)| series.count(&[code], n)),
            M::InFlight => series.number(&[], whole(metrics.in_flight.get())),
            M::Attempts | M::Tokens | M::Cost | M::Unpriced => pool.counters(series),
            M::AttemptSeconds | M::AttemptFirstOutputSeconds => self.targets(series),
            M::Retries => series.count(&[], metrics.retries()),
            M::RetryBudget => series.gauge(&[], view.retry_budget),
            M::Waiting => {
                let mut classes = WAIT_CLASSES.iter().zip(view.waiting);
                classes.try_for_each(|(class, n)| series.number(&[class], n as u64))
            }
            M::WaitingTurn => series.number(&[], self.gateway.turnstile.waiting() as u64),
            M::WaitingBytes => series.number(&[], view.waiting_bytes),
            M::WaitSeconds => {
                metrics.waits().try_for_each(|(class, times)| series.histogram(&[class], times))
            }
            M::Headroom => pool.headroom(series),
            M::KeyState | M::KeyCooldown | M::KeyInFlight | M::KeyBreakers => pool.keys(series),
            M::KeyCheckAge => pool.checks(series, &self.gateway.checks),
            M::Checks => {
                // A key that is not asked is no check.
                let asked = self.gateway.checks.counts().filter(|(word, _)| *word != "not checked");
                asked.into_iter().try_for_each(|(word, n)| series.count(&[&word.replace(' ', "_")], n))
            }
            M::AccountBenched => pool.accounts(series),
            M::ProviderKeys | M::ProviderKeysOut | M::ProviderOut | M::ProviderNoCapacity => {
                pool.providers(series)
            }
            M::KeysLeftOut => series.number(&[], view.keys_left_out as u64),
            M::Events => self.events.iter().try_for_each(|(kind, n)| series.count(&[kind.row().word], *n)),
            M::EventsDropped => series.count(&[], view.events_dropped),
            M::EstimateError => told(self.gateway.scheduler.input_error(), |error| series.gauge(&[], error)),
            M::BudgetSpent => self.budgets(series),
            M::PriceTableAge => {
                let age_s = self.snapshot.config.prices.table.age_s(view.at.unix_ns / 1_000_000_000);
                told(age_s, |age_s| series.number(&[], age_s))
            }
            M::ConfigGood => series.flag(&[], !self.config_refused),
            M::LedgerUp
            | M::LedgerBuffered
            | M::LedgerLog
            | M::LedgerCapacity
            | M::LedgerLogRows
            | M::LedgerOldest
            | M::LedgerWritable
            | M::LedgerOpen
            | M::LedgerRows
            | M::LedgerLost
            | M::LedgerDamaged => told(self.health.as_ref(), |health| self.ledger(health, series)),
            M::TracesSent => series.count(&[], self.gateway.traces.sent.get()),
            M::TracesDropped => series.count(&[], self.gateway.traces.dropped.get()),
            M::Connections => series.number(&[], whole(metrics.connections.get())),
            M::HeldBytes => series.number(&[], self.gateway.held_bytes.load(Ordering::Relaxed) as u64),
            M::Draining => series.flag(&[], self.gateway.draining.load(Ordering::Acquire)),
            M::BuildInfo => series.number(&[env!("CARGO_PKG_VERSION")], 1),
            M::ProcessCpu => told(self.process.cpu_seconds, |seconds| series.sum(&[], seconds)),
            M::ProcessResident => told(self.process.resident_bytes, |bytes| series.number(&[], bytes)),
            M::ProcessOpenFds => told(self.process.open_fds, |n| series.number(&[], n)),
            M::ProcessMaxFds => told(self.process.max_fds, |n| series.number(&[], n)),
            M::ProcessThreads => told(self.process.threads, |n| series.number(&[], n)),
            M::ProcessStart => {
                series.gauge(&[], view.at.unix_ns.saturating_sub(view.at.mono_ns) as f64 / 1e9)
            }
        }
    }

    fn ledger(&self, health: &Health, series: &mut Series<'_>) -> Written {
        use Metric as M;
        let fill = &health.fill;
        match series.definition.metric {
            M::LedgerUp => series.flag(&[], health.away.is_none()),
            M::LedgerBuffered => series.number(&[], health.buffered as u64),
            M::LedgerLog => series.number(&[], fill.bytes),
            M::LedgerCapacity => series.number(&[], fill.capacity),
            M::LedgerLogRows => series.number(&[], fill.rows),
            M::LedgerOldest => {
                let began_ms = fill.oldest_unix_ms.filter(|_| fill.rows > 0);
                let now_ms = self.view.at.unix_ns / 1_000_000;
                let age_ms = began_ms.map_or(0, |began| now_ms.saturating_sub(began));
                series.gauge(&[], age_ms as f64 / 1e3)
            }
            M::LedgerWritable => series.flag(&[], fill.trouble.is_none()),
            M::LedgerOpen => series.number(&[], fill.open),
            M::LedgerRows => series.count(&[], health.applied),
            M::LedgerLost => series.count(&[], health.lost),
            _ => series.count(&[], health.damaged_bytes),
        }
    }

    /// Routes, each with its variants, and all other names together.
    fn models(&self, series: &mut Series<'_>) -> Written {
        let routes = self.snapshot.config.routes.iter().zip(&self.snapshot.route_counters);
        let declared = routes.filter(|(route, _)| route.variant_of.is_none() && &*route.model != OTHER);
        let named = declared.map(|(route, counters)| (&*route.model, counters));
        for (model, counters) in named.chain([(OTHER, self.snapshot.counters(None))]) {
            match series.definition.metric {
                Metric::RequestSeconds => series.histogram(&[model], &counters.request)?,
                Metric::FirstOutputSeconds => series.histogram(&[model], &counters.first_output)?,
                _ => {
                    for (endpoint, outcome, n) in counters.requests() {
                        series.count(&[model, endpoint, outcome], n)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn targets(&self, series: &mut Series<'_>) -> Written {
        for upstream in self.snapshot.upstreams.iter().flatten() {
            for (model, times) in upstream.times.all() {
                let seen = match series.definition.metric {
                    Metric::AttemptSeconds => &times.answered,
                    _ => &times.first_output,
                };
                series.histogram(&[&upstream.name, model], seen)?;
            }
        }
        Ok(())
    }

    /// Clients and teams of the database are left out: there is no end to them.
    fn budgets(&self, series: &mut Series<'_>) -> Written {
        let (directory, turnstile) = (&self.gateway.directory, &self.gateway.turnstile);
        let config = &self.snapshot.config;
        for team in &config.teams {
            let view = turnstile.budget(directory.owner(true, &team.name));
            told(view.and_then(spent), |share| series.gauge(&["team", &team.name], share))?;
        }
        for client in &config.clients {
            let view = turnstile.budget(directory.owner(false, &format!("config:{}", client.name)));
            told(view.and_then(spent), |share| series.gauge(&["client", &client.name], share))?;
        }
        Ok(())
    }
}

/// A count that goes up and down; never below zero but for an instant between two threads.
fn whole(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Writes what is known.
fn told<T>(known: Option<T>, write: impl FnOnce(T) -> Written) -> Written {
    known.map_or(Ok(()), write)
}

/// `None`: there is no limit.
fn spent(view: BudgetView) -> Option<f64> {
    let limit = view.budget.limit_nano_usd.filter(|limit| *limit > 0)?;
    Some(view.spent_nano_usd as f64 / limit as f64)
}
