//! Exports: the hourly sums, grouped by what is asked for.

use crate::sql::{Cell, Fault, Sql};

/// What sums can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Hour, as its number since 1970 (UTC).
    Hour,
    /// Day, as its number since 1970 (UTC).
    Day,
    /// Client, by its id.
    Client,
    /// Team.
    Team,
    /// Model, as clients wrote it.
    Model,
    /// Provider.
    Provider,
    /// Provider key, by its name.
    Key,
    /// Provider account.
    Account,
    /// Endpoint.
    Endpoint,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hour,
        Self::Day,
        Self::Client,
        Self::Team,
        Self::Model,
        Self::Provider,
        Self::Key,
        Self::Account,
        Self::Endpoint,
    ];

    /// Its name on command lines and in the heads of exports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Client => "client",
            Self::Team => "team",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Key => "key",
            Self::Account => "account",
            Self::Endpoint => "endpoint",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::Hour => "CAST(h.hour AS TEXT)",
            Self::Day => "CAST(h.hour / 24 AS TEXT)",
            Self::Client => "s.client",
            Self::Team => "s.team",
            Self::Model => "s.model",
            Self::Provider => "s.provider",
            Self::Key => "s.key_name",
            Self::Account => "s.account",
            Self::Endpoint => "s.endpoint",
        }
    }
}

/// Which sums. Hours count whole: `since` is rounded down, `until` up.
#[derive(Clone, Debug, Default)]
pub struct UsageQuery {
    /// Told apart by these; all in one without any.
    pub by: Vec<By>,
    /// From the hour of this instant on, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// Up to the end of the hour of this instant; `None` is for ever.
    pub until_unix_ms: Option<u64>,
    /// Of this client alone.
    pub client: Option<String>,
    /// Of this team alone.
    pub team: Option<String>,
}

/// One line of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The names, in the order of [`UsageQuery::by`].
    pub names: Vec<String>,
    /// Requests.
    pub requests: u64,
    /// Of these, answered whole and well.
    pub answered: u64,
    /// Attempts.
    pub attempts: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from a cache.
    pub cached_input_tokens: u64,
    /// Of the input, written to a cache.
    pub cache_write_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Of these, reasoning.
    pub reasoning_tokens: u64,
    /// Nano-dollars, of the requests whose cost is known.
    pub cost_nano_usd: u64,
    /// Requests whose cost is not known.
    pub cost_unknown: u64,
    /// Requests whose tokens keymux counted itself.
    pub estimated: u64,
    /// Requests whose end is not known, charged as reserved.
    pub unknown: u64,
    /// Microseconds in the waiting room, summed up.
    pub queue_us: u64,
    /// Microseconds in all, summed up.
    pub total_us: u64,
}

pub(crate) fn usage(db: &mut dyn Sql, query: &UsageQuery) -> Result<Vec<Usage>, Fault> {
    const SUMS: [&str; 14] = [
        "requests",
        "answered",
        "attempts",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_nano_usd",
        "cost_unknown",
        "estimated",
        "unknown",
        "queue_us",
        "total_us",
    ];
    const HOUR_MS: u64 = 3_600_000;
    let names: Vec<&str> = query.by.iter().map(|by| by.column()).collect();
    let sums = SUMS.map(|c| format!("CAST(coalesce(sum(h.{c}), 0) AS BIGINT)"));
    let columns: Vec<&str> = names.iter().copied().chain(sums.iter().map(String::as_str)).collect();
    let until = query.until_unix_ms.map_or(i64::MAX.unsigned_abs(), |ms| ms.div_ceil(HOUR_MS));
    let mut cells = vec![Cell::count(query.since_unix_ms / HOUR_MS), Cell::count(until)];
    let mut wanted = String::from("h.hour >= $1 AND h.hour < $2");
    for (column, only) in [("s.client", &query.client), ("s.team", &query.team)] {
        if let Some(only) = only {
            cells.push(Cell::Text(only));
            wanted = format!("{wanted} AND {column} = ${}", cells.len());
        }
    }
    let mut sql = format!(
        "SELECT {} FROM hourly h JOIN series s ON s.id = h.series WHERE {wanted}",
        columns.join(", ")
    );
    if !names.is_empty() {
        let numbers: Vec<String> = (1..=names.len()).map(|n| n.to_string()).collect();
        let numbers = numbers.join(", ");
        sql = format!("{sql} GROUP BY {numbers} ORDER BY {numbers}");
    }
    db.rows(&sql, &cells)?.into_iter().map(|mut row| line(&mut row, names.len())).collect()
}

fn line(row: &mut crate::sql::Row, names: usize) -> Result<Usage, Fault> {
    Ok(Usage {
        names: (0..names).map(|_| row.text()).collect::<Result<_, _>>()?,
        requests: row.count()?,
        answered: row.count()?,
        attempts: row.count()?,
        input_tokens: row.count()?,
        cached_input_tokens: row.count()?,
        cache_write_tokens: row.count()?,
        output_tokens: row.count()?,
        reasoning_tokens: row.count()?,
        cost_nano_usd: row.count()?,
        cost_unknown: row.count()?,
        estimated: row.count()?,
        unknown: row.count()?,
        queue_us: row.count()?,
        total_us: row.count()?,
    })
}
