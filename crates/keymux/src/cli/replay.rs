//! `keymux simulate --replay`: what would have been. Reads the past, or a file; sends nothing and writes nothing.

use super::compare::{self, Line};
use super::number::whole;
use super::simulate::{AS_IT_IS, json, scenario, variants};
use super::{Failure, levels, say, serve, simulate, width, world};
use crate::batch::tell::{counted, duration};
use crate::clock::Clock;
use crate::keys::shown;
use crate::replay::TOKENS_MAX;
use crate::replay::fleet::Fleet;
use crate::replay::past::Past;
use crate::replay::read::{self, Batch, Found, LedgerError};
use crate::replay::row::{self, Row};
use crate::replay::traffic::{self, LeftOut};
use crate::upstream::client_config;
use keymux_config::prices::{At, Usage};
use keymux_config::{Config, Database};
use keymux_sim::{Figures, Scenario, Served, replay, report};
use keymux_store::{Kind, Span, Target};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// From when on, where it is not said.
const SINCE: &str = "24h";
/// No longer time is replayed: a simulated gateway that has nothing to do for a year takes that for a fault, and stops.
const DAYS_MAX: u64 = 366;

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Requests of the past instead of a scenario's: the ledger of the configuration, or FROM: a ledger's SQLite file, a
    /// `postgres://` URL (or `env:NAME` with one), an export of the ledger (CSV, JSON lines), or a batch file.
    #[arg(long = "replay", value_name = "FROM", num_args = 0..=1, default_missing_value = "")]
    pub(super) from: Option<String>,
    /// The fleet, and with --replay alone the ledger: a configuration (TOML); without it, the environment.
    #[arg(long, short, value_name = "PATH", requires = "from", conflicts_with = "scenario")]
    config: Option<PathBuf>,
    /// From when on: so long ago (7d, 36h), a day in UTC or an instant. Without it 24h of a ledger, all of a file.
    #[arg(long, value_name = "WHEN", requires = "from")]
    since: Option<String>,
    /// Until when; without it, now.
    #[arg(long, value_name = "WHEN", requires = "from")]
    until: Option<String>,
    /// Lines of a batch file a second; without it all come at once.
    #[arg(long, value_name = "N", requires = "from", allow_negative_numbers = true, value_parser = rate)]
    rate: Option<f64>,
    /// The model of lines of a batch file that name none.
    #[arg(long, value_name = "NAME", requires = "from")]
    model: Option<String>,
    /// Tokens of an answer to a line of a batch file, if its own cap is not smaller.
    #[arg(long, value_name = "N", requires = "from", default_value_t = 300, allow_negative_numbers = true, value_parser = whole(0..=TOKENS_MAX))]
    output_tokens: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "give lines a second, such as 50 or 0.5".to_owned())
}

/// A run with what it cost.
struct Ran {
    runs: Vec<Figures>,
    /// Nano-dollars, of the first run.
    cost_nano_usd: u64,
    /// Answers whose price nobody knows.
    unpriced: u64,
    /// When the last answer ended.
    ended_s: f64,
}

pub(super) fn run(args: &simulate::Args) -> Result<(), Failure> {
    // A configuration is the fleet, where no scenario is, and tells where the ledger is, where nothing else does.
    let from = args.replay.from.as_deref().unwrap_or_default();
    let config = match &args.scenario {
        Some(_) if !from.is_empty() => None,
        _ => Some(serve::configuration(args.replay.config.as_ref())?.0),
    };
    let span = span(&args.replay)?;
    let mut found = found(&args.replay, from, config.as_ref(), span)?;
    if let Some(told) = too_long(&found, args.replay.rate) {
        return Err(Failure::Mend(told));
    }
    let fleet_of = config.as_ref().filter(|_| args.scenario.is_none());
    let saved = fleet_of.and_then(|config| levels::read(&levels::path(&config.server.data_dir)));
    let mut fleet = match (&args.scenario, fleet_of) {
        (Some(name), _) => Fleet::of_scenario(scenario(name)?),
        (None, Some(config)) => Fleet::of_config(config, saved.as_ref()),
        (None, None) => return Err(Failure::Mend("give a configuration or a scenario".to_owned())),
    };
    let past = Past::of(&found.rows);
    let guessed = row::guess_sizes(&mut found.rows);
    let left_out = traffic::put(&mut fleet, &found.rows, fleet_of, found.batch);
    let measured = fleet.hurry(&found.rows);
    let played: usize = fleet.scenario.traffic.iter().map(|t| t.lines.len()).sum();
    if played == 0 {
        let why: Vec<String> = left_out.iter().map(|(why, n)| format!("{} {why}", counted(*n))).collect();
        return Err(Failure::Mend(format!("none of the requests can be replayed: {}", why.join("; "))));
    }
    fleet.scenario.title = title(&found, played);
    let notes = notes(&fleet, &found, &left_out, (guessed, measured));
    // What is written wrong is told at once; millions of lines are copied for one variant after the other.
    let lines = std::mem::take(&mut fleet.scenario.traffic);
    variants(&fleet.scenario, &args.compare)?;
    fleet.scenario.traffic = lines;
    let mut all = vec![(AS_IT_IS.to_owned(), play(&fleet.scenario, args.seeds, (&found, fleet_of))?)];
    for what in &args.compare {
        for (what, other) in variants(&fleet.scenario, std::slice::from_ref(what))? {
            all.push((what, play(&other, args.seeds, (&found, fleet_of))?));
        }
    }
    let past = (!found.batch).then_some(past);
    if args.json {
        return told_json(&fleet.scenario, past.as_ref(), &all, &notes);
    }
    tell(&fleet.scenario, past.as_ref(), &all, &notes);
    Ok(())
}

/// The time to look at; `None`: nothing was said.
fn span(args: &Wanted) -> Result<Option<Span>, Failure> {
    if args.since.is_none() && args.until.is_none() {
        return Ok(None);
    }
    let now_unix_ms = Clock::start().now().unix_ns / 1_000_000;
    let at = |name: &str, text: &str| {
        let told = || Failure::Mend(format!("--{name} {text}: it must be {}", shown::WHEN));
        shown::when(text, now_unix_ms).ok_or_else(told)
    };
    let since_unix_ms = at("since", args.since.as_deref().unwrap_or(SINCE))?;
    let until_unix_ms = args.until.as_deref().map_or(Ok(now_unix_ms), |text| at("until", text))?;
    if since_unix_ms >= until_unix_ms {
        let (since, until) = (shown::instant(since_unix_ms), shown::instant(until_unix_ms));
        return Err(Failure::Mend(format!("--since {since} is not before --until {until}")));
    }
    Ok(Some(Span { since_unix_ms, until_unix_ms }))
}

/// Reads what is to be replayed.
fn found(args: &Wanted, from: &str, config: Option<&Config>, span: Option<Span>) -> Result<Found, Failure> {
    let target = match from {
        "" => Some(configured(config)?),
        from if ["postgres://", "postgresql://"].iter().any(|start| from.starts_with(start)) => {
            Some(Target::Postgres(from.to_owned()))
        }
        from if from.starts_with("env:") => {
            let name = &from["env:".len()..];
            let told = || Failure::Mend(format!("--replay {from}: the variable {name} is not set"));
            Some(Target::Postgres(world::variable(name).ok_or_else(told)?))
        }
        from => {
            let path = Path::new(from);
            let unread = |e: std::io::Error| {
                Failure::Mend(format!(
                    "--replay {from}: {e}; give a ledger, an export of one or a batch file"
                ))
            };
            if path.extension().is_some_and(|suffix| suffix == "toml") {
                let told = format!(
                    "--replay {from}: a scenario stands before --replay, a configuration behind --config"
                );
                return Err(Failure::Mend(told));
            }
            read::is_sqlite(path).map_err(unread)?.then(|| Target::Sqlite(path.to_owned()))
        }
    };
    if let Some(target) = target {
        if args.rate.is_some() {
            return Err(Failure::Mend(
                "--rate is for batch files: a ledger tells when requests came".to_owned(),
            ));
        }
        return of_ledger(&target, config, span);
    }
    let batch = Batch { rate: args.rate, model: args.model.clone(), output_tokens: args.output_tokens };
    let found = read::file(Path::new(from), span, &batch).map_err(Failure::Mend)?;
    if found.rows.is_empty() {
        return Err(Failure::Mend(format!(
            "{from} has no request in this time; look at --since and --until"
        )));
    }
    if !found.batch && args.rate.is_some() {
        return Err(Failure::Mend(format!("--rate is for batch files, and {from} tells when requests came")));
    }
    if found.batch && span.is_some() {
        return Err(Failure::Mend(format!("{from} is a batch file: it has no time for --since and --until")));
    }
    Ok(found)
}

/// The ledger that the configuration names.
fn configured(config: Option<&Config>) -> Result<Target, Failure> {
    match config.map(|config| &config.ledger.database) {
        Some(Database::Sqlite(path)) => Ok(Target::Sqlite(path.clone())),
        Some(Database::Postgres { url, .. }) => Ok(Target::Postgres(url.expose().to_owned())),
        Some(Database::Off) | None => Err(Failure::Mend(
            "there is no past: ledger.database is \"off\"; name a ledger, an export of one or a batch file behind --replay"
                .to_owned(),
        )),
    }
}

fn of_ledger(target: &Target, config: Option<&Config>, span: Option<Span>) -> Result<Found, Failure> {
    let now_unix_ms = Clock::start().now().unix_ns / 1_000_000;
    let since_unix_ms = shown::when(SINCE, now_unix_ms).unwrap_or(0);
    let span = span.unwrap_or(Span { since_unix_ms, until_unix_ms: now_unix_ms });
    let ca_file = config.and_then(|config| config.server.ca_file.as_deref());
    let tls = match target {
        Target::Postgres(_) => {
            let mut tls = (*client_config(ca_file).map_err(Failure::Mend)?).clone();
            // A database does not speak HTTP.
            tls.alpn_protocols.clear();
            Some(std::sync::Arc::new(tls))
        }
        Target::Sqlite(_) => None,
    };
    let failed = |error: LedgerError| match error {
        LedgerError::Fault(fault) if fault.kind == Kind::Missing => Failure::Mend(format!(
            "the ledger: {fault}; a gateway writes one as it serves, or name one behind --replay"
        )),
        LedgerError::Fault(fault) => match fault.kind {
            Kind::Schema | Kind::Corrupt => Failure::Mend(format!("the ledger: {fault}")),
            _ => Failure::Failed(format!("the ledger: {fault}")),
        },
        LedgerError::TooMany(told) => Failure::Mend(told),
    };
    let found = read::ledger(target, tls.as_ref(), span).map_err(failed)?;
    if !found.rows.is_empty() {
        return Ok(found);
    }
    let mut newest = None;
    let whole = Span { since_unix_ms: 0, until_unix_ms: u64::MAX / 2 };
    let last = keymux_store::past(target, tls.as_ref(), whole, &mut |record| {
        newest = Some(record.started_unix_ms);
        false
    });
    last.map_err(|fault| failed(LedgerError::Fault(fault)))?;
    let (since, until) = (shown::instant(span.since_unix_ms), shown::instant(span.until_unix_ms));
    let hint = match newest {
        Some(at) => format!("the newest is of {}; say --since and --until", shown::instant(at)),
        None => "there is none at all yet".to_owned(),
    };
    Err(Failure::Mend(format!("the ledger has no request from {since} to {until}: {hint}")))
}

/// What is wrong with a time that is too long to be replayed.
fn too_long(found: &Found, rate: Option<f64>) -> Option<String> {
    let (first, last) = (found.rows.first()?.started_unix_ms, found.rows.last()?.started_unix_ms);
    let days = (last - first).div_ceil(86_400_000);
    if days <= DAYS_MAX {
        return None;
    }
    if let Some(rate) = rate.filter(|_| found.batch) {
        return Some(format!(
            "--rate {rate:?}: the last of {} lines would come after {} days, and {DAYS_MAX} are the most that is replayed; \
             give a greater rate",
            counted(found.rows.len() as u64),
            counted(days),
        ));
    }
    let [from, to] = [first, last].map(shown::instant);
    Some(format!(
        "the requests came in {} days, from {from} (`started_unix_ms` {first}) to {to} ({last}), and {DAYS_MAX} are the most \
         that is replayed at once; look at less with --since and --until, or, if one of the two is wrong, mend it: it is in \
         milliseconds since 1970",
        counted(days),
    ))
}

/// What is replayed, in a line.
fn title(found: &Found, played: usize) -> String {
    let n = counted(played as u64);
    match (found.rows.first(), found.rows.last()) {
        _ if found.batch => format!("{n} lines of a batch"),
        (Some(first), Some(last)) => {
            let [from, to] = [first, last].map(|row| shown::instant(row.started_unix_ms));
            let length = (last.started_unix_ms - first.started_unix_ms) as f64 / 1e3;
            format!("{n} requests from {from} to {to} ({})", duration(length))
        }
        _ => n,
    }
}

/// What was left out and what was assumed: whoever reads the figures must know.
fn notes(
    fleet: &Fleet<'_>,
    found: &Found,
    left_out: &LeftOut,
    (guessed, measured): (u64, bool),
) -> Vec<String> {
    let mut notes: Vec<String> =
        left_out.iter().map(|(why, n)| format!("left out: {} that {why}", counted(*n))).collect();
    if let Some(first) = &found.first_bad {
        notes.push(format!(
            "left out: {} lines that could not be sent; the first is {first}",
            counted(found.bad)
        ));
    }
    if guessed > 0 && !found.batch {
        notes.push(format!(
            "{} refused or lost requests are taken to be as large as their like",
            counted(guessed)
        ));
    }
    if !measured {
        notes.push(
            "nobody measured how fast these models answer: 0.6 s to the first token, 12 ms for each other"
                .to_owned(),
        );
    }
    let unlimited = fleet.unlimited();
    if !unlimited.is_empty() {
        const SHOWN_MAX: usize = 6;
        let more = unlimited.len().saturating_sub(SHOWN_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown: Vec<&str> = unlimited.iter().take(SHOWN_MAX).map(String::as_str).collect();
        notes.push(format!(
            "no limit is known of {}{more}: taken as unlimited. Declare limits, or let a gateway learn them",
            shown.join(", ")
        ));
    }
    notes.extend(fleet.notes.iter().cloned());
    notes
}

/// Runs one fleet. A batch that comes at once lasts as long as its last answer takes, and is looked at for so long.
fn play(scenario: &Scenario, seeds: u64, (found, config): (&Found, Option<&Config>)) -> Result<Ran, Failure> {
    let wrong = |e: keymux_sim::SpecError| Failure::Mend(format!("it cannot be replayed: {e}"));
    let mut scenario = scenario.clone();
    if found.batch {
        let mut ended_s = 0.0_f64;
        replay(&scenario, 1, |served| ended_s = ended_s.max(served.ended_s)).map_err(wrong)?;
        scenario.seconds = ended_s.ceil().max(1.0);
    }
    let mut ran = Ran { runs: Vec::new(), cost_nano_usd: 0, unpriced: 0, ended_s: 0.0 };
    for seed in 1..=seeds {
        let mut each = |served: &Served<'_>| {
            ran.ended_s = ran.ended_s.max(served.ended_s);
            if seed == 1 {
                let row = usize::try_from(served.tag).ok().and_then(|tag| found.rows.get(tag));
                match row.and_then(|row| cost(row, served, config)) {
                    Some(cost) => ran.cost_nano_usd = ran.cost_nano_usd.saturating_add(cost),
                    None => ran.unpriced += 1,
                }
            }
        };
        let figures = replay(&scenario, seed, &mut each).map_err(wrong)?;
        ran.runs.push(figures);
    }
    Ok(ran)
}

/// What a request costs where it was answered; where no price is known, what it cost when it was answered there.
fn cost(row: &Row, served: &Served<'_>, config: Option<&Config>) -> Option<u64> {
    let before = || row.cost_nano_usd.filter(|_| *row.provider == *served.provider);
    let Some(config) = config else { return before() };
    let provider = config.providers.iter().position(|p| *p.name == *served.provider)?;
    let usage = Usage {
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cache_read_tokens: row.cached_tokens,
        ..Usage::default()
    };
    let at = At { unix_s: row.started_unix_ms / 1_000, tier: None, fast: false };
    config.price(provider, served.model).and_then(|price| price.cost(&usage, &at)).or_else(before)
}

fn shown_cost(nano_usd: u64, unknown: u64, of: u64) -> Option<String> {
    let usd = super::table::usd(&serde_json::json!(nano_usd as f64 / 1e9));
    match unknown {
        0 => Some(usd),
        n if n >= of => None,
        _ => Some(format!("{usd}+")),
    }
}

fn answers(ran: &Ran) -> u64 {
    ran.runs.first().map_or(0, |run| run.clients.iter().map(|c| c.answered).sum())
}

fn lines(past: Option<&Past>, all: &[(String, Ran)]) -> Vec<Line> {
    let before = past.map(|past| {
        let answered = past.answered * past.requests as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let answered = answered.round() as u64;
        Line {
            name: "the past".to_owned(),
            requests: Some(past.requests as f64),
            answered: Some(past.answered),
            refused: Some(past.refused),
            errors: Some(past.errors as f64),
            wait_ms: Some(past.wait_ms),
            latency_ms: past.latency_ms,
            cost: shown_cost(past.cost_nano_usd, past.cost_unknown, answered),
            ..Line::default()
        }
    });
    let runs = all.iter().map(|(name, ran)| Line {
        cost: shown_cost(ran.cost_nano_usd, ran.unpriced, answers(ran)),
        // The bound goes by requests of mean size, and what is answered may be a better choice of sizes.
        possible: None,
        fifo: Some(report::median(&ran.runs, "fifo_answered")).filter(|share| *share > 0.0),
        ..Line::of(name, &ran.runs)
    });
    before.into_iter().chain(runs).collect()
}

fn tell(scenario: &Scenario, past: Option<&Past>, all: &[(String, Ran)], notes: &[String]) {
    let Some((_, base)) = all.first() else { return };
    let page = report::page(scenario, &base.runs, &[], width());
    let mut text = format!("{}\n\n{}", page.trim_end(), compare::table(&lines(past, all), width()));
    if past.is_none() {
        for (name, ran) in all {
            let _ = write!(text, "\n{name}: the last answer after {}", duration(ran.ended_s));
        }
    }
    let lacking = all.iter().map(|(_, ran)| ran.unpriced).max().unwrap_or(0);
    if lacking > 0 {
        let _ = write!(
            text,
            "\nThe price of up to {} answers is not known and not in the cost; write it down with [[price]]",
            counted(lacking)
        );
    }
    for note in notes {
        let _ = write!(text, "\n{note}");
    }
    say(&text);
}

fn told_json(
    scenario: &Scenario,
    past: Option<&Past>,
    all: &[(String, Ran)],
    notes: &[String],
) -> Result<(), Failure> {
    let usd = |nano: u64| nano as f64 / 1e9;
    let of = |(name, ran): &(String, Ran)| {
        serde_json::json!({
            "name": name,
            "cost_usd": usd(ran.cost_nano_usd),
            "cost_unknown": ran.unpriced,
            "ended_s": ran.ended_s,
            "runs": ran.runs,
        })
    };
    json(&serde_json::json!({
        "replayed": scenario.title,
        "seconds": scenario.seconds,
        "past": past,
        "notes": notes,
        "compare": all.iter().map(of).collect::<Vec<_>>(),
    }))
}
