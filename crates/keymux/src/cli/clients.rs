//! `keymux clients` and `keymux teams`: client keys and teams of a running gateway.

use super::gateway::{Gateway, Where, escaped};
use super::number::whole;
use super::table::{Table, cell, usd};
use super::{Failure, say, say_error};
use crate::keys::{COUNT_MAX, WAIT_MS_MAX, WEIGHT_MAX};
use clap::Subcommand;
use serde_json::{Map, Value, json};

const EXIT: &str = "Exit codes: 0 done, 1 the gateway is not there or failed, 2 something to mend";

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  keymux clients create nightly --team research --models 'gpt-*,sonnet' --budget 50 --reset monthly\n  \
KEY=$(keymux clients create ci)               the key alone goes to standard output\n  \
keymux clients set nightly --rpm 60 --unset models\n  \
keymux clients rotate nightly --grace 1h      the old key goes on for an hour\n  \
keymux clients list --json\n\n{EXIT}"))]
pub(super) struct Clients {
    #[command(subcommand)]
    command: ForClients,
    #[command(flatten)]
    at: Where,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ForClients {
    /// All keys, with what they may and have spent.
    List {
        /// Of this team alone.
        #[arg(long)]
        team: Option<String>,
        /// Revoked ones too.
        #[arg(long)]
        revoked: bool,
    },
    /// Make a key. It is printed once, and kept nowhere.
    Create {
        /// What to call it.
        name: String,
        #[command(flatten)]
        terms: Box<Terms>,
    },
    /// One key.
    Show {
        /// Its id or its name.
        key: String,
    },
    /// Change what a key may.
    Set {
        /// Its id or its name.
        key: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        terms: Box<Terms>,
        /// Limits to take away, by the names of these options.
        #[arg(long, value_delimiter = ',', value_name = "OPTION,…")]
        unset: Vec<String>,
    },
    /// Give a key another secret. It is printed once, and kept nowhere.
    Rotate {
        /// Its id or its name.
        key: String,
        /// How long the old secret goes on, such as 10m, 1h or 7d.
        #[arg(long, value_name = "TIME", default_value = "0s")]
        grace: String,
    },
    /// Switch a key off for now.
    Disable {
        /// Its id or its name.
        key: String,
    },
    /// Switch a key on again.
    Enable {
        /// Its id or its name.
        key: String,
    },
    /// End a key for ever.
    Revoke {
        /// Its id or its name.
        key: String,
    },
}

/// What a key may.
#[derive(Debug, clap::Args)]
struct Terms {
    /// The team that it belongs to.
    #[arg(long)]
    team: Option<String>,
    /// The only models it may use, with `*` for anything.
    #[arg(long, value_delimiter = ',', value_name = "MODEL,…")]
    models: Vec<String>,
    /// The only providers it may reach.
    #[arg(long, value_delimiter = ',', value_name = "PROVIDER,…")]
    providers: Vec<String>,
    /// The only accounts it may reach.
    #[arg(long, value_delimiter = ',', value_name = "PROVIDER:ACCOUNT,…")]
    accounts: Vec<String>,
    /// The only provider keys it may reach.
    #[arg(long, value_delimiter = ',', value_name = "PROVIDER:KEY,…")]
    keys: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    /// Its class in the waiting room: high, normal or low.
    #[arg(long)]
    priority: Option<String>,
    /// Its share against the others of its class.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=WEIGHT_MAX))]
    weight: Option<u64>,
    /// From when on it is refused: a day (UTC) or an instant, such as 2027-01-31.
    #[arg(long, value_name = "DAY")]
    expires: Option<String>,
    /// Labels for the ledger.
    #[arg(long, value_delimiter = ',', value_name = "TAG,…")]
    tags: Vec<String>,
    /// How long its requests may wait, in milliseconds.
    #[arg(long, value_name = "MS", allow_negative_numbers = true, value_parser = whole(0..=WAIT_MS_MAX))]
    max_wait_ms: Option<u64>,
}

/// What keys and teams have in common.
#[derive(Debug, clap::Args)]
struct Limits {
    /// Requests a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=COUNT_MAX))]
    rpm: Option<u64>,
    /// Tokens a minute.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=COUNT_MAX))]
    tpm: Option<u64>,
    /// Requests at the same time.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=u32::MAX))]
    concurrent: Option<u32>,
    /// US dollars in each period.
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = dollars)]
    budget: Option<f64>,
    /// When the budget is whole again: daily, weekly, monthly or never (UTC).
    #[arg(long)]
    reset: Option<String>,
}

fn dollars(text: &str) -> Result<f64, String> {
    let usd = text.trim_start_matches('$').parse().ok();
    let usd = usd.filter(|usd: &f64| usd.is_finite() && *usd >= 0.0);
    usd.ok_or_else(|| "give US dollars, such as 50 or 0.5".to_owned())
}

impl Limits {
    fn put(&self, into: &mut Map<String, Value>) {
        let given = [
            ("rpm", self.rpm.map(Value::from)),
            ("tpm", self.tpm.map(Value::from)),
            ("concurrent", self.concurrent.map(Value::from)),
            ("budget", self.budget.map(Value::from)),
            ("reset", self.reset.clone().map(Value::from)),
        ];
        into.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
}

impl Terms {
    fn put(&self, into: &mut Map<String, Value>) {
        self.limits.put(into);
        let list = |list: &Vec<String>| (!list.is_empty()).then(|| json!(list));
        let given = [
            ("team", self.team.clone().map(Value::from)),
            ("models", list(&self.models)),
            ("providers", list(&self.providers)),
            ("accounts", list(&self.accounts)),
            ("keys", list(&self.keys)),
            ("priority", self.priority.clone().map(Value::from)),
            ("weight", self.weight.map(Value::from)),
            ("expires", self.expires.clone().map(Value::from)),
            ("tags", list(&self.tags)),
            ("max_wait_ms", self.max_wait_ms.map(Value::from)),
        ];
        into.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
}

fn pretty(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
    say(&text);
    Ok(())
}

pub(super) fn clients(args: &Clients) -> Result<(), Failure> {
    let gateway = args.at.gateway()?;
    match &args.command {
        ForClients::List { team, revoked } => {
            let team = team.as_ref().map(|team| format!("&team={}", escaped(team))).unwrap_or_default();
            let listed = gateway.ask("GET", &format!("/admin/clients?revoked={revoked}{team}"), None)?;
            if args.json {
                return pretty(&listed);
            }
            list_clients(&listed["clients"]);
            Ok(())
        }
        ForClients::Create { name, terms } => {
            let mut fields = Map::from_iter([("name".to_owned(), json!(name))]);
            terms.put(&mut fields);
            secret(&gateway.ask("POST", "/admin/clients", Some(&fields.into()))?, args.json)
        }
        ForClients::Show { key } => shown(&one(&gateway, key)?, args.json),
        ForClients::Set { key, name, terms, unset } => {
            let mut fields = Map::new();
            terms.put(&mut fields);
            fields.extend(name.as_ref().map(|name| ("name".to_owned(), json!(name))));
            fields.extend(
                unset.iter().map(|name| (name.trim_start_matches("--").replace('-', "_"), Value::Null)),
            );
            if fields.is_empty() {
                return Err(Failure::Mend(
                    "there is nothing to set; say what, such as --budget 50 (see --help)".to_owned(),
                ));
            }
            change(&gateway, key, &fields.into(), args.json)
        }
        ForClients::Rotate { key, grace } => {
            let path = format!("{}/rotate", path_of(&one(&gateway, key)?));
            secret(&gateway.ask("POST", &path, Some(&json!({ "grace_s": seconds(grace)? })))?, args.json)
        }
        ForClients::Disable { key } => change(&gateway, key, &json!({ "disabled": true }), args.json),
        ForClients::Enable { key } => change(&gateway, key, &json!({ "disabled": false }), args.json),
        ForClients::Revoke { key } => {
            let path = path_of(&one(&gateway, key)?);
            shown(&gateway.ask("DELETE", &path, None)?, args.json)
        }
    }
}

fn seconds(text: &str) -> Result<u64, Failure> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let told = || Failure::Mend(format!("--grace {text}: give a number and s, m, h or d, such as 1h"));
    number.parse::<u64>().ok().filter(|_| factor > 0).and_then(|n| n.checked_mul(factor)).ok_or_else(told)
}

fn path_of(client: &Value) -> String {
    format!("/admin/clients/{}", escaped(client["id"].as_str().unwrap_or_default()))
}

/// A key by its id, or by its name if only one has it.
fn one(gateway: &Gateway, key: &str) -> Result<Value, Failure> {
    if key.starts_with("km-") {
        let told = "that looks like a key itself: name it by its id (ck-…) or its name, and keep the secret out of command lines";
        return Err(Failure::Mend(told.to_owned()));
    }
    if key.starts_with("ck-") || key.starts_with("config:") {
        return gateway.ask("GET", &format!("/admin/clients/{}", escaped(key)), None);
    }
    let found = gateway.ask("GET", &format!("/admin/clients?name={}", escaped(key)), None)?;
    match found["clients"].as_array().map_or(&[][..], Vec::as_slice) {
        [] => Err(Failure::Mend(format!(
            "there is no client key named \"{key}\"; `keymux clients list` shows all"
        ))),
        [one] => Ok(one.clone()),
        several => {
            let ids: Vec<String> = several.iter().map(|client| cell(&client["id"])).collect();
            Err(Failure::Mend(format!(
                "{} keys are named \"{key}\"; give the id of one: {}",
                ids.len(),
                ids.join(", ")
            )))
        }
    }
}

fn change(gateway: &Gateway, key: &str, fields: &Value, json: bool) -> Result<(), Failure> {
    let path = path_of(&one(gateway, key)?);
    shown(&gateway.ask("PATCH", &path, Some(fields))?, json)
}

/// A key that was just made: its secret is all that scripts want.
fn secret(made: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return pretty(made);
    }
    say(&cell(&made["key"]));
    let old = made["old_key_until"].as_str().map(|until| format!("; the old one goes on until {until}"));
    let told = format!(
        "this is the key of {} ({}), shown this once{}",
        cell(&made["name"]),
        cell(&made["id"]),
        old.unwrap_or_default()
    );
    say_error(&format!("{told}\n"));
    Ok(())
}

fn money(of: &Value) -> String {
    match of["budget"].as_f64() {
        None => "unlimited".to_owned(),
        Some(_) if of["reset"] == "never" => format!("{} in all", usd(&of["budget"])),
        Some(_) => format!("{} {}", usd(&of["budget"]), cell(&of["reset"])),
    }
}

/// In this month; `?`: the gateway cannot say now.
fn spent(spent: &Value) -> String {
    if spent.is_null() { "?".to_owned() } else { usd(&spent["this_month"]) }
}

fn list_clients(clients: &Value) {
    let mut table = Table::new(&[
        "id",
        "name",
        "team",
        "status",
        "budget $>",
        "left $>",
        "this month $>",
        "rpm>",
        "tpm>",
        "expires",
    ]);
    for client in clients.as_array().into_iter().flatten() {
        table.row(vec![
            cell(&client["id"]),
            cell(&client["name"]),
            cell(&client["team"]),
            cell(&client["status"]),
            money(client),
            usd(&client["budget_left"]),
            spent(&client["spent"]),
            cell(&client["rpm"]),
            cell(&client["tpm"]),
            cell(&client["expires"]).chars().take(10).collect(),
        ]);
    }
    if table.is_empty() {
        say_error("no client keys in force; `keymux clients create NAME` makes one");
    } else {
        say(&table.text());
    }
}

/// Everything that is said of it, a line each.
fn shown(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return pretty(value);
    }
    let mut lines = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(list) if list.is_empty() => {}
            Value::Object(parts) => {
                let parts: Vec<String> = parts
                    .iter()
                    .map(|(part, value)| format!("{} {}", part.replace('_', " "), usd(value)))
                    .collect();
                lines.push((name, format!("$ {}", parts.join(", "))));
            }
            _ if ["budget", "budget_left"].contains(&name.as_str()) => {
                lines.push((name, format!("$ {}", usd(value))));
            }
            value => lines.push((name, cell(value))),
        }
    }
    let lines: Vec<String> =
        lines.into_iter().map(|(name, text)| format!("{:<14} {text}", name.replace('_', " "))).collect();
    say(&lines.join("\n"));
    Ok(())
}

#[derive(Debug, clap::Args)]
#[command(after_help = format!("Examples:\n  keymux teams set research --budget 500 --reset monthly --rpm 600\n  keymux teams list\n  \
keymux teams remove research                  once no key is left in it\n\n{EXIT}"))]
pub(super) struct Teams {
    #[command(subcommand)]
    command: ForTeams,
    #[command(flatten)]
    at: Where,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ForTeams {
    /// All teams, with what they may and have spent.
    List,
    /// One team.
    Show {
        /// Its name.
        name: String,
    },
    /// Make a team, or change what it may.
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        limits: Limits,
        /// Limits to take away, by the names of these options.
        #[arg(long, value_delimiter = ',', value_name = "OPTION,…")]
        unset: Vec<String>,
    },
    /// Switch all keys of a team off for now.
    Disable {
        /// Its name.
        name: String,
    },
    /// Switch them on again.
    Enable {
        /// Its name.
        name: String,
    },
    /// End a team in which no key is left.
    Remove {
        /// Its name.
        name: String,
    },
}

pub(super) fn teams(args: &Teams) -> Result<(), Failure> {
    let gateway = args.at.gateway()?;
    let path = |name: &str| format!("/admin/teams/{}", escaped(name));
    let switch = |name: &str, disabled: bool| {
        // A name that is new would make a team.
        gateway.ask("GET", &path(name), None)?;
        shown(&gateway.ask("PUT", &path(name), Some(&json!({ "disabled": disabled })))?, args.json)
    };
    match &args.command {
        ForTeams::List => {
            let listed = gateway.ask("GET", "/admin/teams", None)?;
            if args.json {
                return pretty(&listed);
            }
            list_teams(&listed["teams"]);
            Ok(())
        }
        ForTeams::Show { name } => shown(&gateway.ask("GET", &path(name), None)?, args.json),
        ForTeams::Set { name, limits, unset } => {
            let mut fields = Map::new();
            limits.put(&mut fields);
            fields.extend(
                unset.iter().map(|name| (name.trim_start_matches("--").replace('-', "_"), Value::Null)),
            );
            shown(&gateway.ask("PUT", &path(name), Some(&fields.into()))?, args.json)
        }
        ForTeams::Disable { name } => switch(name, true),
        ForTeams::Enable { name } => switch(name, false),
        ForTeams::Remove { name } => {
            gateway.ask("DELETE", &path(name), None)?;
            say_error(&format!("removed the team {name}"));
            Ok(())
        }
    }
}

fn list_teams(teams: &Value) {
    let mut table = Table::new(&[
        "name",
        "origin",
        "state",
        "budget $>",
        "left $>",
        "this month $>",
        "rpm>",
        "tpm>",
        "at once>",
    ]);
    for team in teams.as_array().into_iter().flatten() {
        table.row(vec![
            cell(&team["name"]),
            cell(&team["origin"]),
            if team["disabled"] == true { "disabled" } else { "active" }.to_owned(),
            money(team),
            usd(&team["budget_left"]),
            spent(&team["spent"]),
            cell(&team["rpm"]),
            cell(&team["tpm"]),
            cell(&team["concurrent"]),
        ]);
    }
    if table.is_empty() {
        say_error("no teams yet; `keymux teams set NAME` makes one");
    } else {
        say(&table.text());
    }
}
