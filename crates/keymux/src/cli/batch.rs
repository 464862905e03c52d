//! `keymux batch`: a file of calls becomes a file of answers. Says on standard error how it goes and what it came to;
//! standard output is for answers, or with `--json` for the summary.

use super::amounts::{class, money, rate, time};
use super::number::whole;
use super::progress::Progress;
use super::{Failure, say, say_error, serve, state, world};
use crate::batch::engine::{Engine, NotNow, Payer};
use crate::batch::estimate::estimate;
use crate::batch::files::{self, BAD_SHOWN, Survey};
use crate::batch::input::Source;
use crate::batch::line::Call;
use crate::batch::output::{Opening, Output, Target, real};
use crate::batch::past::Past;
use crate::batch::run::{Batch, End, Outside, Standing, run as run_batch};
use crate::batch::tally::Tally;
use crate::batch::tell::{self, Summary};
use crate::batch::terms::Terms;
use crate::serve::descriptors;
use crate::{observe, rt};
use keymux_config::{BaseUrl, Config, Log, LogLevel, World, from_toml};
use keymux_policy::Priority;
use std::fmt::Write as _;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Lines out at once where nothing else is said: each needs a connection.
const CONCURRENT_MAX: usize = 4_096;

const EXAMPLES: &str = "Examples:
  keymux batch prompts.jsonl -o answers.jsonl --model gpt-5-mini
  keymux batch calls.jsonl.gz -o answers.jsonl.gz --errors failed.jsonl --config keymux.toml
  keymux batch calls.jsonl -o answers.jsonl --budget 5.00 --max-concurrent 64
  keymux batch calls.jsonl -o answers.jsonl --gateway http://127.0.0.1:4000 --key env:MY_KEY
  generate | keymux batch - -o - --model groq:llama-3.3-70b | consume

A line is a call as OpenAI's Batch API has it,
  {\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":…}}
or just {\"prompt\":\"…\"}, with --model. The output has the same form as OpenAI's.

Stopped, killed or cut off, it goes on where it was: run the same command again. What was answered
is not paid for twice. Ctrl-C finishes what is under way, a second one ends at once.

Exit codes: 0 every line has its answer; 1 a file failed while running; 2 something to mend in the
command, the configuration or the input (no line can be sent, or with --strict one cannot); 3 every
line is done, some with an error; 4 stopped before the end: the budget is spent, no key can be used,
nothing was answered for longer than --patience; 130 interrupted.
After 1, 4 and 130 the same command goes on.";

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The calls, one JSON object a line; `-` is standard input, `….gz` is compressed.
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Where the answers go; `-` is standard output, which cannot be gone on with later.
    #[arg(long, short, value_name = "OUT")]
    output: PathBuf,
    /// The model of lines that name none.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The configuration (TOML); without it keys come from the environment, as for `keymux serve`.
    #[arg(long, short, value_name = "PATH", conflicts_with = "gateway")]
    config: Option<PathBuf>,
    /// Go through a running gateway instead of to the providers.
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    /// The key for --gateway: `env:NAME`, `file:PATH`, or itself. Without it `KEYMUX_API_KEY`.
    #[arg(long, value_name = "KEY", requires = "gateway")]
    key: Option<String>,
    /// Answers in the order in which they come, not in that of the input.
    #[arg(long)]
    unordered: bool,
    /// Lines that end with an error go here and not into the output.
    #[arg(long, value_name = "PATH")]
    errors: Option<PathBuf>,
    /// Where to remember what is done; beside the output as OUT.journal if not given.
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,
    /// Look at all lines first, and send none if one of them is broken.
    #[arg(long)]
    strict: bool,
    /// Do lines again that ended with an error before.
    #[arg(long)]
    retry_failed: bool,
    /// Lines under way at once, at most; without it as many as bring more answers a second.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole(1..=u32::MAX))]
    max_concurrent: Option<u32>,
    /// Lines begun, at most: `50/s`, `600/m`, or a number a second.
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, value_parser = rate)]
    max_rate: Option<f64>,
    /// How long nothing may be answered while lines fail, before it ends with these undone: `90s`, `30m`, `8h`. Without it
    /// an hour; two minutes as long as nothing was answered at all.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, value_parser = time)]
    patience: Option<u64>,
    /// Dollars that the whole batch may cost, earlier runs included. It stops before more can be spent.
    #[arg(long, value_name = "USD", allow_negative_numbers = true, value_parser = money)]
    budget: Option<u64>,
    /// Its class among other work of the same keys: `high`, `normal` or `low`.
    #[arg(long, value_name = "CLASS", default_value = "low", value_parser = class)]
    priority: Priority,
    /// Send nothing: say how many lines there are, and about what they would cost and how long they would take.
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Say nothing but what went wrong.
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = configuration(args)?;
    let log = Log { level: LogLevel::Error, ..config.server.log };
    observe::init(&log, super::color());
    for warning in config.warnings.iter().filter(|_| !args.quiet) {
        say_error(&format!("warning: {}", warning.message));
    }
    let source = Source::of(&args.input);
    let target = target(args);
    if args.json && target.out.is_none() {
        let told = "--json and -o - both want standard output; give the output a file";
        return Err(Failure::Mend(told.to_owned()));
    }
    if args.journal.is_some() && target.out.is_none() {
        let told = "--journal has no meaning with -o -, which cannot be gone on with; give the output a file";
        return Err(Failure::Mend(told.to_owned()));
    }
    check_paths(args, &target)?;
    let concurrent_max = concurrent_max(args.max_concurrent)?;
    let stamp = source.stamp();
    // Before the output is touched: a wrong name must not leave files behind.
    source.check().map_err(Failure::Mend)?;
    if args.dry_run {
        return dry_run(args, config, (&source, &target));
    }
    // What cannot begin touches no file and leaves none behind.
    let fresh = target.is_fresh();
    let opening = (!fresh).then(|| Opening::of(&target)).transpose().map_err(Failure::Mend)?;
    let none = Past::default();
    let past = opening.as_ref().map_or(&none, |opening| &opening.past);
    let (engine, _) = engine(args, config, past)?;
    let lines = looked_over(args, &source, past, &engine)?;
    let opening = opening.map_or_else(|| Opening::of(&target), Ok).map_err(Failure::Mend)?;
    let (mut output, past) = Output::begin(opening).map_err(Failure::Mend)?;
    output.catch_up().map_err(Failure::Failed)?;
    let model = args.model.clone();
    let batch = Batch {
        source,
        stamp,
        model,
        past: Arc::new(past),
        lines,
        ordered: !args.unordered,
        concurrent_max,
        rate_max: args.max_rate,
        patience_ns: args.patience,
    };
    let mut progress = Progress::new(args.quiet, batch.past.spent_nano_usd);
    let (end, tally) = carried_out(&engine, &batch, output, &mut progress)?;
    progress.clear();
    if fresh && matches!(end, End::Empty(_)) {
        target.leave_nothing();
    }
    told(args, &batch, (&end, &tally), progress.elapsed_ns)
}

/// An engine with what the budget leaves for this run, and how much that is.
fn engine(args: &Args, config: Config, past: &Past) -> Result<(Arc<Engine>, Option<u64>), Failure> {
    let budget = left(args.budget, past.spent_nano_usd)?;
    let payer = Payer { class: args.priority, budget_nano_usd: budget };
    Ok((Engine::new(config, &payer, state::seed()).map_err(Failure::Mend)?, budget))
}

/// Runs it, and hears who says stop.
fn carried_out(
    engine: &Arc<Engine>,
    batch: &Batch,
    output: Output,
    progress: &mut Progress,
) -> Result<(End, Tally), Failure> {
    let runtime = rt::single().map_err(|error| Failure::Failed(error.to_string()))?;
    let came = runtime.block_on(async {
        let (told, stop) = mpsc::channel(2);
        rt::spawn(signals(hear()?, told));
        let mut show = |standing: &Standing<'_>| progress.show(standing);
        let mut outside = Outside { stop, show: &mut show };
        Ok(run_batch(engine, batch, output, &mut outside).await)
    });
    // A reader that waits for its pipe is not waited for.
    runtime.shutdown_background();
    came
}

/// Says what it came to.
fn told(args: &Args, batch: &Batch, (end, tally): (&End, &Tally), elapsed_ns: u64) -> Result<(), Failure> {
    let counts = batch.past.counts;
    let failed = tally.total.failed + tally.bad + counts[1] + counts[2];
    let (word, exit, told) = ended(end, failed, tally.bad, args.output.as_os_str() != "-");
    let summary = Summary {
        tally,
        before: counts,
        spent_before_nano_usd: batch.past.spent_nano_usd,
        lines: batch.lines,
        elapsed_ns,
        end: word,
        why: told.as_deref(),
        exit,
    };
    if args.json {
        say(&summary.json().to_string());
    }
    if !args.quiet {
        say_error(&summary.text());
    }
    match (exit, told) {
        (0, _) => Ok(()),
        (code, told) => Err(Failure::Ended(code, told.unwrap_or_default())),
    }
}

/// How many lines may be out at once: each needs a connection.
fn concurrent_max(wished: Option<u32>) -> Result<usize, Failure> {
    let room = descriptors().max(1);
    match wished.map(|n| n as usize) {
        Some(n) if n > room => {
            let told = format!(
                "--max-concurrent {n}: this process may have {room} connections; give less, or raise the limit of open \
                 files (ulimit -Hn)"
            );
            Err(Failure::Mend(told))
        }
        Some(n) => Ok(n),
        None => Ok(CONCURRENT_MAX.min(room)),
    }
}

/// Says what it would take.
fn dry_run(args: &Args, config: Config, (source, target): (&Source, &Target)) -> Result<(), Failure> {
    if !source.is_lasting() {
        let told = "--dry-run would use up standard input; give a file";
        return Err(Failure::Mend(told.to_owned()));
    }
    let past = target.past().map_err(Failure::Mend)?;
    let model = args.model.as_deref();
    let (engine, budget) = engine(args, config, &past)?;
    looked_over(args, source, &past, &engine)?;
    let estimate = estimate(source, &past, model, (&engine, budget)).map_err(Failure::Mend)?;
    say(if args.json { estimate.json().to_string() } else { estimate.text() }.trim_end());
    Ok(())
}

fn target(args: &Args) -> Target {
    let terms = Terms {
        model: args.model.clone(),
        unordered: args.unordered,
        errors: args.errors.as_ref().map(|path| path.display().to_string()),
    };
    let out = (args.output.as_os_str() != "-").then(|| args.output.clone());
    Target { out, journal: args.journal.clone(), terms, retry_failed: args.retry_failed }
}

/// Where files are to be written there must be room for one, and no file may be two things at once.
fn check_paths(args: &Args, target: &Target) -> Result<(), Failure> {
    let written = [
        ("-o", target.out.as_ref()),
        ("--errors", args.errors.as_ref()),
        ("--journal", args.journal.as_ref()),
    ];
    for (option, path) in written.into_iter().filter_map(|(option, path)| Some((option, path?))) {
        let shown = path.display();
        if path.is_dir() {
            return Err(Failure::Mend(format!("{option} {shown} is a folder; name a file in it")));
        }
        if path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            let told = format!("{option} {shown}: its folder is not there; make it, or give another place");
            return Err(Failure::Mend(told));
        }
    }
    let journal = target.journal_path();
    let named = [
        ("the input", Some(&args.input)),
        ("-o", target.out.as_ref()),
        ("--errors", args.errors.as_ref()),
        ("the journal", journal.as_ref()),
    ];
    for (index, (one, path)) in named.iter().enumerate() {
        for (other, second) in &named[..index] {
            let (Some(path), Some(second)) = (path, second) else { continue };
            if path.as_os_str() != "-" && path.as_os_str() != "/dev/null" && real(path) == real(second) {
                let told =
                    format!("{other} and {one} are the same file, {}; give each its own", path.display());
                return Err(Failure::Mend(told));
            }
        }
    }
    Ok(())
}

/// What the budget leaves for this run.
fn left(budget: Option<u64>, spent: u64) -> Result<Option<u64>, Failure> {
    let Some(budget) = budget else { return Ok(None) };
    if let Some(left) = budget.checked_sub(spent).filter(|left| *left > 0) {
        return Ok(Some(left));
    }
    let told = format!(
        "stopped before the first call: earlier runs spent {} of the budget of {}; give a larger --budget to go on",
        tell::dollars(spent),
        tell::dollars(budget)
    );
    Err(Failure::Ended(4, told))
}

/// Looks a file over before anything is sent.
fn looked_over(args: &Args, source: &Source, past: &Past, engine: &Engine) -> Result<Option<u64>, Failure> {
    if !source.is_lasting() {
        if args.strict {
            let told = "--strict has to read all lines before the first call, and standard input can be read only once; \
                        give a file";
            return Err(Failure::Mend(told.to_owned()));
        }
        let nothing =
            *source == Source::Stdin && std::io::stdin().lock().fill_buf().is_ok_and(<[u8]>::is_empty);
        return if nothing { Err(Failure::Mend(files::empty(source))) } else { Ok(None) };
    }
    let snapshot = engine.snapshot();
    let plan = |call: &Call| engine.plan(&snapshot, call).map(drop);
    let survey =
        files::survey(source, past, (args.model.as_deref(), args.strict), plan).map_err(Failure::Mend)?;
    if !survey.sendable && survey.nameless == survey.lines {
        let lines = match survey.lines {
            1 => "its line names no model".to_owned(),
            n => format!("none of its {n} lines names a model"),
        };
        let told = format!("{}: {lines}; give --model MODEL, or `model` in each line", source.shown());
        return Err(Failure::Mend(told));
    }
    if let (false, [(_, first), rest @ ..]) = (survey.sendable, &*survey.first_bad)
        && !rest.is_empty()
        && rest.iter().all(|(_, bad)| bad.message == first.message)
        && survey.bad == survey.lines
    {
        let told =
            format!("{}: none of its {} lines can be sent: {}", source.shown(), survey.lines, first.message);
        return Err(Failure::Mend(told));
    }
    if args.strict && survey.bad > 0 || !survey.sendable {
        return Err(Failure::Mend(broken(&source.shown(), &survey)));
    }
    Ok(Some(survey.lines))
}

fn broken(shown: &str, survey: &Survey) -> String {
    let why = if survey.sendable { " (--strict)" } else { "" };
    let lines = if survey.bad == survey.lines && survey.bad > 1 {
        format!("all {} lines are broken", survey.bad)
    } else if survey.bad == 1 {
        "1 line is broken".to_owned()
    } else {
        format!("{} lines are broken", survey.bad)
    };
    let mut text = format!("error: {shown}: {lines}, and nothing was sent{why}\n");
    for (number, bad) in &survey.first_bad {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  line {number}: {}", bad.message);
    }
    if survey.bad > BAD_SHOWN as u64 {
        let _ = writeln!(text, "  … and {} more", survey.bad - BAD_SHOWN as u64);
    }
    text
}

fn configuration(args: &Args) -> Result<Config, Failure> {
    let Some(url) = &args.gateway else { return Ok(serve::configuration(args.config.as_ref())?.0) };
    if args.budget.is_some() {
        let told = "--budget has no meaning with --gateway, which knows the prices; give the client key a budget there";
        return Err(Failure::Mend(told.to_owned()));
    }
    // The address may hold a password, which is a mistake and no reason to show it.
    BaseUrl::parse(url)
        .map_err(|e| Failure::Mend(format!("--gateway: {e}; write it like http://127.0.0.1:4000")))?;
    let key = args.key.clone().or_else(|| world::variable("KEYMUX_API_KEY"));
    let secret = match key {
        Some(key) if ["env:", "file:"].iter().any(|scheme| key.starts_with(scheme)) => Some(key),
        Some(key) => Some(format!("literal:{}", key.trim())),
        None => None,
    };
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let key = secret.map_or_else(
        || "{ name = \"none\", auth = \"none\" }".to_owned(),
        |secret| format!("{{ name = \"key\", secret = {} }}", text(&secret)),
    );
    let base = url.trim_end_matches('/');
    let base = if base.ends_with("/v1") { base.to_owned() } else { format!("{base}/v1") };
    let class = match args.priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    };
    let toml = format!(
        "default_provider = \"gateway\"\n[[provider]]\nname = \"gateway\"\ndialect = \"openai\"\nbase_url = {}\n\
         headers = {{ x-keymux-priority = \"{class}\" }}\nlist_models = false\nkeys = [{key}]\n\
         endpoints = [\"chat/completions\", \"completions\", \"embeddings\", \"responses\", \"messages\", \"moderations\", \
         \"rerank\"]\n",
        text(&base)
    );
    world::with(|machine: &World<'_>| from_toml("--gateway and --key", &toml, machine))
        .map_err(|problems| Failure::Mend(problems.render("--gateway and --key", &toml, super::color())))
}

fn hear() -> Result<(Signal, Signal), Failure> {
    let on = |kind| signal(kind).map_err(|e| Failure::Failed(format!("signals cannot be heard: {e}")));
    Ok((on(SignalKind::interrupt())?, on(SignalKind::terminate())?))
}

/// Passes on what people and service managers say.
async fn signals((mut interrupt, mut terminate): (Signal, Signal), told: mpsc::Sender<()>) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if told.send(()).await.is_err() {
            return;
        }
    }
}

/// How it ends for whoever called it: in a word, as an exit code, and why.
fn ended(end: &End, failed: u64, bad: u64, goes_on: bool) -> (&'static str, u8, Option<String>) {
    let again = if goes_on {
        "run the same command again to go on"
    } else {
        "with -o - it cannot be gone on with: the same command pays for all lines again"
    };
    match end {
        End::Complete if failed == 0 => ("complete", 0, None),
        End::Complete => {
            let lines =
                if failed == 1 { "1 line".to_owned() } else { format!("{} lines", tell::counted(failed)) };
            let mend = if bad > 0 { "mend the broken ones in the input; " } else { "" };
            let retry =
                if goes_on { format!("; {mend}--retry-failed does them again") } else { String::new() };
            ("complete", 3, Some(format!("{lines} ended with an error{retry}")))
        }
        End::Stopped { number, why } => {
            if let NotNow::Silence(told) = why {
                let then = if goes_on { again } else { "A larger --patience waits longer" };
                let told = format!("stopped at line {number}: {told}. Once that is over, {then}");
                return ("stopped", 4, Some(told));
            }
            let told = match why {
                NotNow::Budget(told) | NotNow::NoRoom(told) => told.trim_end_matches('.'),
                NotNow::Stopping | NotNow::Silence(_) => "told to",
            };
            let at = if *number == 0 { String::new() } else { format!(" at line {number}") };
            let then = if goes_on { "Mend that, and " } else { "" };
            ("stopped", 4, Some(format!("stopped{at}: {told}. {then}{again}")))
        }
        End::Interrupted => ("interrupted", 130, Some(format!("interrupted; {again}"))),
        End::Empty(told) => ("failed", 2, Some(told.clone())),
        End::Input(told) | End::Output(told) => {
            ("failed", 1, Some(format!("{told}; {}{again}", if goes_on { "then " } else { "" })))
        }
    }
}
