//! `testkit script`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use keymux_testkit::{Script, raise_descriptor_limit};

#[derive(clap::Args)]
pub(crate) struct ScriptArgs {
    /// The script as JSON: `targets`, `requests`, `retry_429`, `start_unix_ms`, `patience_ms`.
    file: PathBuf,
}

impl ScriptArgs {
    /// Prints one JSON document; exit code 0 whatever the answers were, since to judge them is the caller's part.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        raise_descriptor_limit();
        let name = self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("cannot read {name}"))?;
        let script: Script = serde_json::from_str(&text).with_context(|| format!("in {name}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let replies = runtime.block_on(script.run())?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&replies)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
