//! The machine, as the configuration asks for it: the one place that reads the environment.

use keymux_config::World;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a `cmd:` secret may take.
const COMMAND_MS: u64 = 5_000;

/// A variable of the environment.
#[expect(clippy::disallowed_methods, reason = "this file owns the environment")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Names of all variables that are text.
pub(super) fn variable_names() -> Vec<String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// Reads a text file.
pub(super) fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// The output of a program.
pub(super) fn output(words: &[String]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{program} cannot be started: {e}"))?;
    let pause = Duration::from_millis(10);
    let mut waited_ms = 0;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break,
            Ok(Some(status)) => return Err(format!("{program} failed: {status}")),
            Ok(None) if waited_ms >= COMMAND_MS => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} did not end within {} s", COMMAND_MS / 1_000));
            }
            Ok(None) => {
                std::thread::sleep(pause);
                waited_ms += 10;
            }
            Err(error) => return Err(format!("{program}: {error}")),
        }
    }
    let output = child.wait_with_output().map_err(|e| format!("{program}: {e}"))?;
    String::from_utf8(output.stdout).map_err(|_| format!("{program} printed something that is not text"))
}

/// Shows the machine to `look`.
pub(super) fn with<T>(look: impl FnOnce(&World<'_>) -> T) -> T {
    let env_names = variable_names();
    look(&World { env: &variable, env_names: &env_names, read: &read, run: &output })
}
