//! `keymux simulate`: a scenario in, a table out. The very scheduler of the gateway, against simulated providers, in
//! virtual time: what would another key, another strategy, another limit bring?

use super::compare::{self, Line};
use super::number::whole;
use super::{Failure, replay, say, width};
use keymux_sim::{Figures, SHELF, Scenario, SpecError, judge, report, simulate, variant};
use std::path::Path;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keymux simulate overload-130\n  keymux simulate my.toml --compare round_robin,+account\n  \
keymux simulate --all --seeds 20\n  \
keymux simulate --replay --config keymux.toml --since 24h --compare +account:openai,x2\n  \
keymux simulate --replay prompts.jsonl --compare +account,-key:openai/main\n\n\
A scenario is a TOML file; `keymux simulate overload-130 --show` prints one to start from.\n\
--replay sends nothing: it reads, and answers what would have been. docs/simulate.md tells what it knows and what it assumes.\n\n\
Exit codes: 0 done, 1 the ledger cannot be read, 2 something to mend"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Args {
    /// A scenario: a file, or the name of one that comes with the program (`--list`).
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["all", "list", "from"])]
    pub(super) scenario: Option<String>,
    /// Run all that come with the program, one line each.
    #[arg(long, conflicts_with_all = ["from", "compare", "scenario"])]
    all: bool,
    /// List those that come with the program.
    #[arg(long)]
    list: bool,
    /// Print the scenario instead of running it.
    #[arg(long, conflicts_with = "from")]
    show: bool,
    /// How many seeds to run it with; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = whole(1..=1_000_u64))]
    pub(super) seeds: u64,
    /// Beside it: a strategy, `declared` or `learned` limits, `no_affinity`, `+account[:PROVIDER[/ACCOUNT]]`,
    /// `-account:PROVIDER/ACCOUNT`, `-key:PROVIDER/KEY`, `x2` (the load); several with commas.
    #[arg(long, value_name = "WHAT,…", value_delimiter = ',', allow_hyphen_values = true)]
    pub(super) compare: Vec<String>,
    /// All figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) replay: replay::Wanted,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.list {
        for (name, text) in SHELF {
            say(&format!("{name:<22} {}", read(name, text)?.title));
        }
        return Ok(());
    }
    if args.all {
        return all(args);
    }
    if args.replay.from.is_some() {
        return replay::run(args);
    }
    let name = args.scenario.as_deref().unwrap_or_default();
    if args.show {
        say(text_of(name)?.0.trim_end());
        return Ok(());
    }
    let scenario = scenario(name)?;
    // All of them, before the first is run: what is written wrong is told at once.
    let others = variants(&scenario, &args.compare)?;
    let runs = seeds(name, &scenario, args.seeds)?;
    let judged = judge(&scenario, &runs);
    let mut lines = vec![Line::of(AS_IT_IS, &runs)];
    let mut beside = Vec::new();
    for (what, other) in &others {
        let runs = seeds(name, other, args.seeds)?;
        lines.push(Line::of(what, &runs));
        beside.push(serde_json::json!({ "name": what, "runs": runs }));
    }
    if args.json {
        return json(&serde_json::json!({
            "scenario": name, "title": scenario.title, "runs": runs, "judged": judged, "compare": beside,
        }));
    }
    say(report::page(&scenario, &runs, &judged, width()).trim_end());
    if !others.is_empty() {
        say(&format!("\n{}", compare::table(&lines, width())));
    }
    Ok(())
}

/// What the plain scenario is called beside others.
pub(super) const AS_IT_IS: &str = "as it is";

fn all(args: &Args) -> Result<(), Failure> {
    let mut every = Vec::new();
    let mut lines = Vec::new();
    for (name, text) in SHELF {
        let scenario = read(name, text)?;
        let runs = seeds(name, &scenario, args.seeds)?;
        lines.push(Line::of(name, &runs));
        if args.json {
            let judged = judge(&scenario, &runs);
            // What each of ten thousand keys did is told for one scenario, not for all of them twenty times.
            let brief = |run: &Figures| serde_json::json!({ "seed": run.seed, "by_name": run.by_name, "violations": run.violations });
            let runs: Vec<_> = runs.iter().map(brief).collect();
            every.push(serde_json::json!({
                "scenario": name, "title": scenario.title, "runs": runs, "judged": judged,
            }));
        }
    }
    if args.json {
        return json(&every);
    }
    say(&compare::table(&lines, width()));
    Ok(())
}

/// What is to be compared with.
pub(super) fn variants(scenario: &Scenario, names: &[String]) -> Result<Vec<(String, Scenario)>, Failure> {
    let of = |what: &String| match variant(scenario, what) {
        Ok(other) => Ok((what.clone(), other)),
        Err(SpecError::Unknown { what: kind, name, known }) => {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let hint = keymux_config::did_you_mean(&name, &known, "there are");
            Err(Failure::Mend(format!("--compare {what}: there is no {kind} `{name}`; {hint}")))
        }
        Err(error) => Err(Failure::Mend(error.to_string())),
    };
    names.iter().map(of).collect()
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
    say(&text);
    Ok(())
}

/// A scenario with its files.
pub(super) fn scenario(name: &str) -> Result<Scenario, Failure> {
    let (text, from) = text_of(name)?;
    let mut scenario = read(name, &text)?;
    let beside = from.unwrap_or(Path::new("."));
    scenario
        .attach(|file| std::fs::read_to_string(beside.join(file)).map_err(|e| e.to_string()))
        .map_err(|e| Failure::Mend(format!("{name}: {e}")))?;
    Ok(scenario)
}

/// The scenario's text, and where its files stand.
fn text_of(name: &str) -> Result<(String, Option<&Path>), Failure> {
    if let Some((_, text)) = SHELF.iter().find(|(known, _)| *known == name) {
        return Ok(((*text).to_owned(), None));
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::Mend(format!("{name}: {e}\nWrite the path of a scenario, or a name that `--list` shows."))
    })?;
    Ok((text, path.parent()))
}

fn read(name: &str, text: &str) -> Result<Scenario, Failure> {
    Scenario::read(text).map_err(|e| Failure::Mend(format!("{name}: {e}")))
}

fn seeds(name: &str, scenario: &Scenario, n: u64) -> Result<Vec<Figures>, Failure> {
    let runs = (1..=n).map(|seed| simulate(scenario, seed));
    runs.collect::<Result<_, _>>().map_err(|e| Failure::Mend(format!("{name}: {e}")))
}
