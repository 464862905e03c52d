//! `keymux usage`: what was used and spent, from the ledger of a running gateway.

use super::gateway::{Where, escaped};
use super::table::{Table, cell, csv, usd};
use super::{Failure, say, say_error};
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keymux usage --by team,model --since 7d\n  keymux usage --by day --since 2027-01-01 --csv > january.csv\n  \
keymux usage --client ck-0123456789abcdef --by hour --since 36h --json\n\n\
Hours count whole, in UTC. A cost of which nobody said anything is not in the sums; `cost unknown` counts such requests.\n\n\
Exit codes: 0 done, 1 the gateway is not there or failed, 2 something to mend"
)]
pub(super) struct Args {
    #[command(flatten)]
    at: Where,
    /// What to tell apart: team, client, model, provider, account, key, endpoint, day, hour.
    #[arg(long, value_name = "WHAT,…", default_value = "team")]
    by: String,
    /// From when on: so long ago (7d, 36h), a day in UTC or an instant.
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    since: String,
    /// Until when; without it, now.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Of this client alone, by its id.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Of this team alone.
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// Print CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Columns after the names, as the API calls them and as people read them.
const NUMBERS: [(&str, &str); 9] = [
    ("requests", "requests>"),
    ("answered", "answered>"),
    ("attempts", "attempts>"),
    ("input_tokens", "input>"),
    ("cached_input_tokens", "cached>"),
    ("output_tokens", "output>"),
    ("reasoning_tokens", "reasoning>"),
    ("cost_usd", "cost $>"),
    ("cost_unknown", "cost unknown>"),
];

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let gateway = args.at.gateway()?;
    let mut path = format!("/admin/usage?by={}&since={}", escaped(&args.by), escaped(&args.since));
    for (name, value) in [("until", &args.until), ("client", &args.client), ("team", &args.team)] {
        if let Some(value) = value {
            path = format!("{path}&{name}={}", escaped(value));
        }
    }
    let answer = gateway.ask("GET", &path, None)?;
    if args.json {
        let text = serde_json::to_string_pretty(&answer).map_err(|e| Failure::Failed(e.to_string()))?;
        say(&text);
        return Ok(());
    }
    let by: Vec<&str> = answer["by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
    if args.csv {
        lines(&by, rows);
        return Ok(());
    }
    let of = |name: &str| keymux_store::By::ALL.into_iter().map(keymux_store::By::label).find(|l| *l == name);
    let head: Vec<&'static str> =
        by.iter().filter_map(|name| of(name)).chain(NUMBERS.map(|(_, shown)| shown)).collect();
    let mut table = Table::new(&head);
    for row in rows {
        let names = by.iter().map(|name| {
            let text = cell(&row[*name]);
            if text.is_empty() { "-".to_owned() } else { text }
        });
        let numbers = NUMBERS
            .iter()
            .map(|(name, _)| if *name == "cost_usd" { usd(&row[*name]) } else { cell(&row[*name]) });
        table.row(names.chain(numbers).collect());
    }
    if table.is_empty() {
        say_error(&format!("nothing was used since {}", cell(&answer["since"])));
    } else {
        say(&table.text());
    }
    Ok(())
}

/// CSV with every number that there is, money in nano-dollars beside dollars.
fn lines(by: &[&str], rows: &[Value]) {
    const ALL: [&str; 15] = [
        "requests",
        "answered",
        "attempts",
        "input_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "cost_usd",
        "cost_nano_usd",
        "cost_unknown",
        "estimated",
        "unknown",
        "queue_ms",
        "total_ms",
    ];
    say(&by.iter().copied().chain(ALL).collect::<Vec<_>>().join(","));
    for row in rows {
        let names = by.iter().map(|name| csv(&cell(&row[*name])));
        say(&names.chain(ALL.iter().map(|name| cell(&row[*name]))).collect::<Vec<_>>().join(","));
    }
}
