//! `testkit load` and `testkit streams`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use keymux_testkit::{Load, Shape, Shot, StreamLoad, Summary, raise_descriptor_limit};

#[derive(clap::Args)]
pub(crate) struct Target {
    /// Base URL, such as <http://127.0.0.1:4000/v1>.
    #[arg(long)]
    url: String,
    /// Sent as `Authorization: Bearer`.
    #[arg(long)]
    token: Option<String>,
    /// The model to ask.
    #[arg(long, default_value = "default")]
    model: String,
    /// A body to send instead of a small chat request.
    #[arg(long)]
    body: Option<PathBuf>,
    /// The path after the base URL.
    #[arg(long, default_value = "/chat/completions")]
    path: String,
}

impl Target {
    fn shot(&self, prompt: &str, max_tokens: u32, stream: bool) -> anyhow::Result<Shot> {
        let mut shot = Shot::chat(&self.model, prompt, max_tokens, stream);
        if let Some(path) = &self.body {
            shot.body =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        shot.path.clone_from(&self.path);
        Ok(shot)
    }
}

#[derive(clap::Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    target: Target,
    /// Requests a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// For so many seconds.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// At most so many requests.
    #[arg(long)]
    count: Option<u64>,
    /// At most so many connections.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Ask for streams.
    #[arg(long)]
    stream: bool,
    /// Send so many at once instead of one by one, at the same mean rate.
    #[arg(long)]
    burst: Option<u32>,
    /// Random distances with the same mean.
    #[arg(long, conflicts_with = "burst")]
    random: bool,
    /// The user's message.
    #[arg(long, default_value = "Tell me about harbours.")]
    prompt: String,
    /// Output cap of each request.
    #[arg(long, default_value_t = 128)]
    max_tokens: u32,
    /// Give an answer up after so many seconds.
    #[arg(long, default_value_t = 60.0)]
    patience: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl LoadArgs {
    /// Exit code 0 if every request was answered with success, else 1.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        raise_descriptor_limit();
        let shape = match (self.burst, self.random) {
            (Some(size), _) => Shape::Burst { size },
            (None, true) => Shape::Random,
            (None, false) => Shape::Steady,
        };
        let load = Load {
            target: self.target.url.clone(),
            token: self.target.token.clone(),
            rate: self.rate,
            shape,
            duration: Duration::try_from_secs_f64(self.duration)?,
            count: self.count,
            connections: self.connections,
            patience: Duration::try_from_secs_f64(self.patience)?,
            mix: vec![self.target.shot(&self.prompt, self.max_tokens, self.stream)?],
            seed: 1,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let summary = runtime.block_on(load.run())?;
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(&summary)?)?;
        } else {
            table(&summary, &mut out)?;
        }
        Ok(if summary.ok == summary.sent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn table(summary: &Summary, out: &mut impl std::io::Write) -> std::io::Result<()> {
    let Summary { sent, ok, late, seconds, .. } = summary;
    writeln!(out, "{sent} requests in {seconds:.1} s, {ok} ok, {late} late")?;
    for (name, l) in [("first byte", &summary.first_byte), ("total", &summary.total)] {
        let [p50, p90, p99, p999, max] =
            [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us].map(|us| us as f64 / 1e3);
        writeln!(
            out,
            "{name:<11} p50 {p50:>9.3} ms  p90 {p90:>9.3}  p99 {p99:>9.3}  p99.9 {p999:>9.3}  max {max:>9.3}"
        )?;
    }
    for (status, count) in &summary.statuses {
        writeln!(out, "status {status}: {count}")?;
    }
    for (error, count) in &summary.errors {
        writeln!(out, "{error}: {count}")?;
    }
    for sample in summary.samples.iter().take(2) {
        writeln!(out, "such as {}: {}", sample.status, sample.body.trim())?;
    }
    Ok(())
}

#[derive(clap::Args)]
pub(crate) struct StreamsArgs {
    #[command(flatten)]
    target: Target,
    /// How many streams.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// How many are being opened at a time.
    #[arg(long, default_value_t = 64)]
    opening: usize,
    /// How many seconds all are held.
    #[arg(long, default_value_t = 10.0)]
    hold: f64,
    /// Time between two events of a stream of a simulated provider, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    every_ms: u64,
}

impl StreamsArgs {
    /// Prints one JSON line when all are open and one at the end; exit code 1 if any was refused or lost.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        raise_descriptor_limit();
        let prompt =
            format!("sim: {{\"output_tokens\":1000000,\"ttft_ms\":10,\"per_token_ms\":{}}}", self.every_ms);
        let load = StreamLoad {
            target: self.target.url.clone(),
            token: self.target.token.clone(),
            count: self.count,
            opening: self.opening,
            hold: Duration::try_from_secs_f64(self.hold)?,
            shot: self.target.shot(&prompt, 1_000_000, true)?,
            patience: Duration::from_mins(1),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let summary = runtime.block_on(load.run(|summary| {
            let line = serde_json::json!({ "phase": "open", "streams": summary });
            // Whoever reads this line is gone if it cannot be written; the streams are held all the same.
            let _ = writeln!(std::io::stdout(), "{line}");
            let _ = std::io::stdout().flush();
        }))?;
        writeln!(std::io::stdout(), "{}", serde_json::json!({ "phase": "done", "streams": summary }))?;
        let whole = summary.lost == 0 && summary.refused == 0 && summary.opened == self.count as u64;
        Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
