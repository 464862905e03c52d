//! Rows as the traffic of a scenario: one source a client, each request at its time, with its size, on its route.

use super::fleet::Fleet;
use super::row::Row;
use keymux_config::{Config, Resolution};
use keymux_policy::Priority;
use keymux_sim::spec::{Arrivals, Class, Line, Traffic};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// As long as a line of a batch may wait for room.
const BATCH_WAIT_MS: u64 = 25 * 3_600_000;

/// Requests that are not replayed, by reason: how many.
pub type LeftOut = BTreeMap<String, u64>;

/// Puts the rows into the fleet's scenario; says what had to be left out. Tags are the rows' places.
pub fn put(fleet: &mut Fleet<'_>, rows: &[Row], config: Option<&Config>, batch: bool) -> LeftOut {
    let mut left_out = LeftOut::new();
    route_by_weight(fleet, rows);
    let terms = Terms { config, batch, begin_ms: rows.first().map_or(0, |row| row.started_unix_ms) };
    let mut sources: Vec<Traffic> = Vec::new();
    let mut of_client: HashMap<Arc<str>, usize> = HashMap::new();
    for (tag, row) in rows.iter().enumerate() {
        if !row.comes() {
            *left_out.entry("were wrong or not allowed".to_owned()).or_default() += 1;
            continue;
        }
        let route = match fleet.route(&row.model, &row.endpoint) {
            Ok(route) => route,
            Err(why) => {
                *left_out.entry(format!("had {why}")).or_default() += 1;
                continue;
            }
        };
        let source = *of_client.entry(row.client.clone()).or_insert_with(|| {
            sources.push(terms.source(&row.client));
            sources.len() - 1
        });
        let fresh = fleet.charges_fresh_input_only(route);
        sources[source]
            .lines
            .push(Line { tag: u32::try_from(tag).unwrap_or(u32::MAX), ..terms.line(row, route, fresh) });
    }
    if let Some(max) = batch.then_some(rows.len()) {
        fleet.scenario.waiters_max = Some(max);
    }
    let last_s = sources.iter().filter_map(|s| s.lines.last()).map(|l| l.at_s).fold(0.0, f64::max);
    fleet.scenario.seconds = last_s.ceil().max(1.0);
    fleet.scenario.traffic = sources;
    left_out
}

/// The routes that most ask for come first: the oracle looks at the first few the closest.
fn route_by_weight(fleet: &mut Fleet<'_>, rows: &[Row]) {
    let mut asked: HashMap<(&Arc<str>, &Arc<str>), u64> = HashMap::new();
    for row in rows.iter().filter(|r| r.comes()) {
        *asked.entry((&row.model, &row.endpoint)).or_default() += 1;
    }
    let mut asked: Vec<_> = asked.into_iter().collect();
    asked.sort_by_key(|(of, n)| (std::cmp::Reverse(*n), *of));
    for ((model, endpoint), _) in asked {
        // Whether there is one is told row by row.
        let _ = fleet.route(model, endpoint);
    }
}

/// What rows do not tell of themselves.
struct Terms<'c> {
    config: Option<&'c Config>,
    batch: bool,
    begin_ms: u64,
}

impl Terms<'_> {
    /// A client of the configuration, by its id in the ledger.
    fn client(&self, id: &str) -> Option<&keymux_config::Client> {
        let name = id.strip_prefix("config:")?;
        self.config?.clients.iter().find(|client| &*client.name == name)
    }

    fn source(&self, id: &str) -> Traffic {
        let name = if id.is_empty() { "everybody" } else { id.strip_prefix("config:").unwrap_or(id) };
        Traffic {
            client: name.to_owned(),
            arrivals: Arrivals::Replay(name.to_owned()),
            class: match self.client(id).map(|client| client.priority) {
                Some(Priority::High) => Class::High,
                Some(Priority::Low) => Class::Low,
                None if self.batch => Class::Low,
                _ => Class::Normal,
            },
            // So that the first token is seen when it comes.
            stream: true,
            max_tokens: None,
            ..Traffic::default()
        }
    }

    fn line(&self, row: &Row, route: u32, fresh: bool) -> Line {
        Line {
            at_s: row.started_unix_ms.saturating_sub(self.begin_ms) as f64 / 1e3,
            input: row.input_tokens.saturating_sub(if fresh { row.cached_tokens } else { 0 }),
            output: row.output_tokens,
            route: Some(route),
            // The ledger does not say what its caller allowed; one that allows what it gets is charged for no more.
            max_tokens: row.max_tokens.or(Some(row.output_tokens.max(1))),
            deadline_ms: self.wait_ms(row),
            ..Line::default()
        }
    }

    /// How long it may wait; `None`: as scenarios have it.
    fn wait_ms(&self, row: &Row) -> Option<u64> {
        if self.batch {
            return Some(BATCH_WAIT_MS);
        }
        let config = self.config?;
        let of_client = self.client(&row.client).and_then(|client| client.max_wait_ms);
        Some(of_client.unwrap_or_else(|| match config.resolve(&row.model) {
            Resolution::Route(route) => config.routes[route].max_wait_ms,
            _ => config.server.max_wait_ms,
        }))
    }
}
