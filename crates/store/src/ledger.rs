//! The ledger in the database: rows for a while, hourly sums for longer, spend for ever. Rows come in batches, each one
//! transaction; a row whose id is there already changes nothing, so a batch may come twice.

use crate::record::{CostSource, Record, UNKNOWN};
use crate::sql::{Cell, Fault, Holds, Sql, Table, transaction};
use std::collections::{BTreeMap, HashMap, HashSet};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Series whose numbers are remembered.
const SERIES_MAX: usize = 65_536;
/// The name of the row of `spend` for days that are no longer kept apart.
const LONG_AGO: i64 = -1;

/// What the drain knows of the database between two batches.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The number of each series by its names, and the last hour that is noted for it.
    series: HashMap<String, (i64, u64)>,
}

/// What is older than these instants goes; all in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutoffs {
    pub rows: u64,
    pub hours: u64,
    pub days: u64,
}

const SERIES_ADD: &str = "INSERT INTO series (client, team, model, provider, key_name, account, endpoint,
    last_hour) VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT DO NOTHING";
const SERIES_FIND: &str =
    "SELECT id, last_hour FROM series WHERE client = $1 AND team = $2 AND model = $3 AND provider = $4
    AND key_name = $5 AND account = $6 AND endpoint = $7";
const SERIES_LAST: &str = "UPDATE series SET last_hour = $1 WHERE id = $2";
/// Columns in the order of [`row_cells`].
const REQUESTS: Table = Table {
    name: "requests",
    columns: &[
        ("id", Holds::Text),
        ("generation", Holds::Text),
        ("series", Holds::Int),
        ("tags", Holds::Text),
        ("status", Holds::Int),
        ("outcome", Holds::Text),
        ("attempts", Holds::Int),
        ("queue_us", Holds::Int),
        ("first_output_us", Holds::Int),
        ("total_us", Holds::Int),
        ("started_unix_ms", Holds::Int),
        ("charged_unix_ms", Holds::Int),
        ("input_tokens", Holds::Int),
        ("cached_input_tokens", Holds::Int),
        ("cache_write_tokens", Holds::Int),
        ("input_audio_tokens", Holds::Int),
        ("output_tokens", Holds::Int),
        ("reasoning_tokens", Holds::Int),
        ("output_audio_tokens", Holds::Int),
        ("cost_nano_usd", Holds::Int),
        ("cost_source", Holds::Int),
        ("estimated", Holds::Int),
    ],
};
const SUM_ADD: &str = "INSERT INTO hourly (hour, series, requests, answered, attempts, input_tokens,
    cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, cost_unknown, estimated,
    unknown, queue_us, total_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
    ON CONFLICT (hour, series) DO UPDATE SET requests = hourly.requests + excluded.requests,
    answered = hourly.answered + excluded.answered, attempts = hourly.attempts + excluded.attempts,
    input_tokens = hourly.input_tokens + excluded.input_tokens,
    cached_input_tokens = hourly.cached_input_tokens + excluded.cached_input_tokens,
    cache_write_tokens = hourly.cache_write_tokens + excluded.cache_write_tokens,
    output_tokens = hourly.output_tokens + excluded.output_tokens,
    reasoning_tokens = hourly.reasoning_tokens + excluded.reasoning_tokens,
    cost_nano_usd = hourly.cost_nano_usd + excluded.cost_nano_usd,
    cost_unknown = hourly.cost_unknown + excluded.cost_unknown, estimated = hourly.estimated + excluded.estimated,
    unknown = hourly.unknown + excluded.unknown, queue_us = hourly.queue_us + excluded.queue_us,
    total_us = hourly.total_us + excluded.total_us";
const SPEND_ADD: &str = "INSERT INTO spend (kind, name, day, cost_nano_usd) VALUES ($1, $2, $3, $4)
    ON CONFLICT (kind, name, day) DO UPDATE SET cost_nano_usd = spend.cost_nano_usd + excluded.cost_nano_usd";

/// Numbers of a row in `hourly`, in the order of its columns.
type Sums = [u64; 14];

fn sums(r: &Record) -> Sums {
    let u = &r.used;
    [
        1,
        u64::from((200..300).contains(&r.status) && r.outcome == "answered"),
        u64::from(r.attempts),
        u.input_tokens,
        u.cached_input_tokens,
        u.cache_write_tokens,
        u.output_tokens,
        u.reasoning_tokens,
        u.cost_nano_usd.unwrap_or(0),
        u64::from(u.cost_nano_usd.is_none()),
        u64::from(u.estimated),
        u64::from(r.outcome == UNKNOWN),
        r.queue_ns / 1000,
        r.total_ns / 1000,
    ]
}

fn row_cells<'a>(r: &'a Record, series: i64, tags: Option<&'a str>) -> Vec<Cell<'a>> {
    let u = &r.used;
    vec![
        Cell::Text(&r.id),
        r.generation.as_deref().map_or(Cell::Null, Cell::Text),
        Cell::Int(series),
        tags.map_or(Cell::Null, Cell::Text),
        Cell::count(r.status.into()),
        Cell::Text(&r.outcome),
        Cell::count(r.attempts.into()),
        Cell::count(r.queue_ns / 1000),
        Cell::maybe(r.first_output_ns.map(|ns| ns / 1000)),
        Cell::count(r.total_ns / 1000),
        Cell::count(r.started_unix_ms),
        Cell::count(r.bears_unix_ms()),
        Cell::count(u.input_tokens),
        Cell::count(u.cached_input_tokens),
        Cell::count(u.cache_write_tokens),
        Cell::count(u.input_audio_tokens),
        Cell::count(u.output_tokens),
        Cell::count(u.reasoning_tokens),
        Cell::count(u.output_audio_tokens),
        Cell::maybe(u.cost_nano_usd),
        Cell::count(u.cost_source.code().into()),
        Cell::count(u.estimated.into()),
    ]
}

fn tags(r: &Record) -> Option<String> {
    let list: Vec<&str> = r.tags.iter().map(|t| &**t).collect();
    if list.is_empty() { None } else { serde_json::to_string(&list).ok() }
}

impl Ledger {
    /// Writes these rows in one transaction; returns how many of them are new.
    pub(crate) fn apply(&mut self, db: &mut dyn Sql, rows: &[Record]) -> Result<u64, Fault> {
        // Two rows of one id in one batch are the same row twice.
        let mut seen = HashSet::new();
        let rows: Vec<&Record> = rows.iter().filter(|r| seen.insert(&*r.id)).collect();
        let done = transaction(db, |db| self.write(db, &rows));
        if done.is_err() {
            // Numbers that were given in it are gone with it.
            self.series.clear();
        }
        done
    }

    fn write(&mut self, db: &mut dyn Sql, rows: &[&Record]) -> Result<u64, Fault> {
        if self.series.len() > SERIES_MAX {
            self.series.clear();
        }
        let series: Vec<i64> = rows.iter().map(|r| self.series_of(db, r)).collect::<Result<_, _>>()?;
        let tags: Vec<Option<String>> = rows.iter().map(|r| tags(r)).collect();
        let cells: Vec<_> =
            (0..rows.len()).map(|i| row_cells(rows[i], series[i], tags[i].as_deref())).collect();
        let added = db.add(&REQUESTS, &cells)?;
        // In the order of their keys, so that two writers could never wait for each other in a circle.
        let mut hours: BTreeMap<(u64, i64), Sums> = BTreeMap::new();
        let mut spend: BTreeMap<(&str, &str, u64), u64> = BTreeMap::new();
        let mut new = 0;
        for ((r, series), _) in rows.iter().zip(&series).zip(&added).filter(|(_, added)| **added) {
            new += 1;
            let hour = hours.entry((r.bears_unix_ms() / HOUR_MS, *series)).or_default();
            for (sum, n) in hour.iter_mut().zip(sums(r)) {
                *sum = sum.saturating_add(n);
            }
            let Some(cost) = r.used.cost_nano_usd.filter(|c| *c > 0) else { continue };
            for (kind, name) in [("client", &*r.client), ("team", &*r.team)] {
                if !name.is_empty() {
                    let day = spend.entry((kind, name, r.bears_unix_ms() / DAY_MS)).or_default();
                    *day = day.saturating_add(cost);
                }
            }
        }
        let sums: Vec<Vec<Cell<'_>>> = hours
            .iter()
            .map(|((hour, series), sums)| {
                let key = [Cell::count(*hour), Cell::Int(*series)];
                key.into_iter().chain(sums.iter().map(|n| Cell::count(*n))).collect()
            })
            .collect();
        db.run_many(SUM_ADD, &sums)?;
        let spend: Vec<Vec<Cell<'_>>> = spend
            .iter()
            .map(|((kind, name, day), cost)| {
                vec![Cell::Text(kind), Cell::Text(name), Cell::count(*day), Cell::count(*cost)]
            })
            .collect();
        db.run_many(SPEND_ADD, &spend)?;
        Ok(new)
    }

    fn series_of(&mut self, db: &mut dyn Sql, r: &Record) -> Result<i64, Fault> {
        let of = [&*r.client, &*r.team, &*r.model, &*r.provider, &*r.key, &*r.account, &*r.endpoint];
        // No text has a NUL.
        let names = of.join("\0");
        let hour = r.bears_unix_ms() / HOUR_MS;
        let (id, last_hour) = match self.series.get(&names) {
            Some((id, last_hour)) if hour <= *last_hour => return Ok(*id),
            Some(known) => *known,
            None => series_in(db, &of.map(Cell::Text))?,
        };
        if hour > last_hour {
            db.run(SERIES_LAST, &[Cell::count(hour), Cell::Int(id)])?;
        }
        self.series.insert(names, (id, last_hour.max(hour)));
        Ok(id)
    }

    /// Deletes at most `step` of what is too old of each kind; returns how many rows went. Call again while it is more
    /// than nothing.
    pub(crate) fn prune(&mut self, db: &mut dyn Sql, cut: Cutoffs, step: u32) -> Result<u64, Fault> {
        let step = Cell::count(step.into());
        let gone = transaction(db, |db| {
            // Rows stand in the order in which requests ended, so the old ones are the first: no index by time is
            // needed, and no step looks at more rows than it may delete.
            let rows = db.run(
                "DELETE FROM requests WHERE n IN (SELECT n FROM requests ORDER BY n LIMIT $1) AND charged_unix_ms < $2",
                &[step, Cell::count(cut.rows)],
            )?;
            let hours = db.run(
                "DELETE FROM hourly WHERE (hour, series) IN
                 (SELECT hour, series FROM hourly WHERE hour < $1 ORDER BY hour LIMIT $2)",
                &[Cell::count(cut.hours / HOUR_MS), step],
            )?;
            Ok(rows + hours + fold_days(db, cut.days / DAY_MS, step)?)
        })?;
        if gone > 0 {
            db.shrink()?;
            return Ok(gone);
        }
        // Names that nothing refers to any more: a client that invents models must not fill the database. A day of
        // grace, since rows go in the order in which they came.
        let unused = cut.rows.min(cut.hours).saturating_sub(DAY_MS) / HOUR_MS;
        let series = db.run(
            "DELETE FROM series WHERE id IN (SELECT id FROM series WHERE last_hour < $1 LIMIT $2)",
            &[Cell::count(unused), step],
        );
        if series.as_ref().is_ok_and(|n| *n > 0) {
            self.series.clear();
        }
        series
    }
}

/// The number of a series, made if need be, and its last hour.
fn series_in(db: &mut dyn Sql, of: &[Cell<'_>]) -> Result<(i64, u64), Fault> {
    db.run(SERIES_ADD, of)?;
    let mut found = db.rows(SERIES_FIND, of)?;
    let lost = || Fault::new(crate::sql::Kind::Other, "a series that was just written is not there");
    let row = found.first_mut().ok_or_else(lost)?;
    Ok((row.int()?, row.count()?))
}

/// Adds days before this one to the long ago, so that what was spent in all stays known.
fn fold_days(db: &mut dyn Sql, before: u64, step: Cell<'_>) -> Result<u64, Fault> {
    let old = db.rows(
        "SELECT kind, name, day, cost_nano_usd FROM spend WHERE day >= 0 AND day < $1 LIMIT $2",
        &[Cell::count(before), step],
    )?;
    let mut folded = 0;
    for mut row in old {
        let (kind, name, day, cost) = (row.text()?, row.text()?, row.int()?, row.int()?);
        db.run(SPEND_ADD, &[Cell::Text(&kind), Cell::Text(&name), Cell::Int(LONG_AGO), Cell::Int(cost)])?;
        db.run(
            "DELETE FROM spend WHERE kind = $1 AND name = $2 AND day = $3",
            &[Cell::Text(&kind), Cell::Text(&name), Cell::Int(day)],
        )?;
        folded += 1;
    }
    Ok(folded)
}

/// A request, by the gateway's id or the provider's, if it is that client's; the newest one if several have the id.
pub(crate) fn generation(db: &mut dyn Sql, client: &str, id: &str) -> Result<Option<Record>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM requests r JOIN series s ON s.id = r.series
         WHERE (r.id = $1 OR r.generation = $2) AND s.client = $3 ORDER BY r.n DESC LIMIT 1"
    );
    let mut found = db.rows(&sql, &[Cell::Text(id), Cell::Text(id), Cell::Text(client)])?;
    found.first_mut().map(record).transpose()
}

/// What [`record`] reads.
pub(crate) const COLUMNS: &str =
    "r.id, r.generation, s.client, s.team, s.endpoint, s.model, s.provider, s.key_name, s.account, r.tags,
     r.outcome, r.status, r.attempts, r.queue_us, r.first_output_us, r.total_us, r.started_unix_ms,
     r.charged_unix_ms, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.input_audio_tokens,
     r.output_tokens, r.reasoning_tokens, r.output_audio_tokens, r.cost_nano_usd, r.cost_source, r.estimated";

pub(crate) fn record(row: &mut crate::sql::Row) -> Result<Record, Fault> {
    let mut r = Record {
        id: row.text()?.into(),
        generation: row.maybe_text()?.map(Into::into),
        client: row.text()?.into(),
        team: row.text()?.into(),
        endpoint: row.text()?.into(),
        model: row.text()?,
        provider: row.text()?.into(),
        key: row.text()?.into(),
        account: row.text()?.into(),
        ..Record::default()
    };
    let tags: Vec<String> = row.maybe_text()?.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
    r.tags = tags.into_iter().map(Into::into).collect();
    r.outcome = row.text()?.into();
    r.status = u16::try_from(row.count()?).unwrap_or(0);
    r.attempts = u32::try_from(row.count()?).unwrap_or(0);
    r.queue_ns = row.count()? * 1000;
    r.first_output_ns = row.maybe()?.map(|us| us * 1000);
    r.total_ns = row.count()? * 1000;
    r.started_unix_ms = row.count()?;
    r.charged_unix_ms = row.count()?;
    let u = &mut r.used;
    for n in [
        &mut u.input_tokens,
        &mut u.cached_input_tokens,
        &mut u.cache_write_tokens,
        &mut u.input_audio_tokens,
        &mut u.output_tokens,
        &mut u.reasoning_tokens,
        &mut u.output_audio_tokens,
    ] {
        *n = row.count()?;
    }
    u.cost_nano_usd = row.maybe()?;
    u.cost_source = CostSource::from_code(row.count()?).unwrap_or_default();
    u.estimated = row.count()? == 1;
    Ok(r)
}

/// What one client or team has spent, by day (of 1970, in UTC); days that are too old to keep apart have none.
pub(crate) fn spend_by_day(
    db: &mut dyn Sql,
    team: bool,
    name: &str,
) -> Result<Vec<(Option<u64>, u64)>, Fault> {
    let kind = if team { "team" } else { "client" };
    let of = [Cell::Text(kind), Cell::Text(name)];
    let rows = db.rows("SELECT day, cost_nano_usd FROM spend WHERE kind = $1 AND name = $2", &of)?;
    rows.into_iter().map(|mut row| Ok((u64::try_from(row.int()?).ok(), row.count()?))).collect()
}

/// What everybody has spent on this day (of 1970, in UTC) and since, in nano-dollars; `None` means ever.
pub(crate) fn spend(db: &mut dyn Sql, since: Option<u64>) -> Result<Vec<Spend>, Fault> {
    let from = since.map_or(Cell::Int(LONG_AGO), Cell::count);
    let rows = db.rows(
        "SELECT kind, name, CAST(sum(cost_nano_usd) AS BIGINT) FROM spend WHERE day >= $1 GROUP BY kind, name",
        &[from],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Spend { team: row.text()? == "team", name: row.text()?, cost_nano_usd: row.count()? })
        })
        .collect()
}

/// What a client or a team has spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// A team, not a client.
    pub team: bool,
    /// The client's id, or the team's name.
    pub name: String,
    /// How much, in nano-dollars.
    pub cost_nano_usd: u64,
}
