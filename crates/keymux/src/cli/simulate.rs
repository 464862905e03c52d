//! `keymux simulate`: a scenario in, a table out. The very scheduler of the gateway, against simulated providers, in
//! virtual time: what would another key, another strategy, another limit bring?

use super::{Failure, say};
use keymux_sim::{Figures, SHELF, Scenario, judge, report, simulate, variant};
use std::path::Path;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  keymux simulate overload-130\n  keymux simulate my.toml --compare round_robin,+account\n  \
keymux simulate --all --seeds 20\n\nA scenario is a TOML file; `keymux simulate overload-130 --show` prints one to start from."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Args {
    /// A scenario: a file, or the name of one that comes with the program (`--list`).
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["all", "list"])]
    scenario: Option<String>,
    /// Run all that come with the program, one line each.
    #[arg(long)]
    all: bool,
    /// List those that come with the program.
    #[arg(long)]
    list: bool,
    /// Print the scenario instead of running it.
    #[arg(long)]
    show: bool,
    /// How many seeds to run it with; figures are medians.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Beside it: other strategies, `declared` or `learned` limits, `no_affinity`, `+account`; several with commas.
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    compare: Vec<String>,
    /// All figures as JSON.
    #[arg(long)]
    json: bool,
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
    let name = args.scenario.as_deref().unwrap_or_default();
    let (text, from) = text_of(name)?;
    if args.show {
        say(text.trim_end());
        return Ok(());
    }
    let mut scenario = read(name, &text)?;
    let beside = from.unwrap_or(Path::new("."));
    scenario
        .attach(|file| std::fs::read_to_string(beside.join(file)).map_err(|e| e.to_string()))
        .map_err(|e| Failure::Mend(format!("{name}: {e}")))?;
    // All of them, before the first is run: what is written wrong is told at once.
    let other = |what| variant(&scenario, what).map_err(|e| Failure::Mend(e.to_string()));
    let others: Vec<_> =
        args.compare.iter().map(|what| Ok((what, other(what)?))).collect::<Result<_, _>>()?;
    let runs = seeds(name, &scenario, args.seeds)?;
    if args.json {
        return json(&runs);
    }
    say(report::page(&scenario, &runs, &judge(&scenario, &runs)).trim_end());
    if !others.is_empty() {
        say(&format!("\n{}\n{}", report::head(), report::line("as it is", &runs)));
        for (what, other) in others {
            say(&report::line(what, &seeds(name, &other, args.seeds)?));
        }
    }
    Ok(())
}

fn all(args: &Args) -> Result<(), Failure> {
    let mut every = Vec::new();
    if !args.json {
        say(&report::head());
    }
    for (name, text) in SHELF {
        let runs = seeds(name, &read(name, text)?, args.seeds)?;
        if args.json {
            every.push(serde_json::json!({ "scenario": name, "runs": runs }));
        } else {
            say(&report::line(name, &runs));
        }
    }
    if args.json { json(&every) } else { Ok(()) }
}

fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
    say(&text);
    Ok(())
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
