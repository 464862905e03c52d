//! `keymux webhooks`: how the webhooks of a running gateway stand, and a test message.

use super::gateway::{Where, escaped};
use super::table::{Table, cell};
use super::{Failure, say, say_error};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keymux webhooks list\n  keymux webhooks test ops        send it a message now, and say what came of it\n\n\
Webhooks are declared in the configuration, as [[webhook]].\n\n\
Exit codes: 0 done, 1 the gateway is not there or the message did not come through, 2 something to mend"
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Verb,
    #[command(flatten)]
    at: Where,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All webhooks, and how they stand.
    List,
    /// Send one a test message, now.
    Test {
        /// Its name.
        name: String,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let gateway = args.at.gateway()?;
    let answer = match &args.command {
        Verb::List => gateway.ask("GET", "/admin/webhooks", None)?,
        Verb::Test { name } => {
            gateway.ask("POST", &format!("/admin/webhooks/{}/test", escaped(name)), None)?
        }
    };
    if args.json {
        let text = serde_json::to_string_pretty(&answer).map_err(|e| Failure::Failed(e.to_string()))?;
        say(&text);
    } else if let Verb::Test { .. } = args.command {
        say(&cell(&answer["done"]));
    } else {
        table(&answer);
    }
    Ok(())
}

fn table(answer: &Value) {
    let mut table =
        Table::new(&["name", "kind", "to", "from", "open>", "delivered>", "last delivered", "state"]);
    for hook in answer["webhooks"].as_array().into_iter().flatten() {
        let state = match hook["failing"].as_str() {
            Some(why) => format!("failing: {why}"),
            None if hook["last_unix_ms"].is_null() => "nothing sent yet".to_owned(),
            None => "well".to_owned(),
        };
        let last = hook["last_unix_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let last = last.map_or("-".to_owned(), |at| format!("{at:.0}"));
        let (name, kind, url) = (cell(&hook["name"]), cell(&hook["kind"]), cell(&hook["url"]));
        let (open, delivered) = (cell(&hook["open"]), cell(&hook["delivered"]));
        table.row(vec![name, kind, url, cell(&hook["severity"]), open, delivered, last, state]);
    }
    if table.is_empty() {
        say_error(
            "this gateway has no webhooks; declare a [[webhook]] in its configuration (docs/webhooks.md)",
        );
    } else {
        say(&table.text());
    }
}
