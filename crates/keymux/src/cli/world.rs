//! The machine, as the configuration asks for it: the one place that reads the environment.

use crate::rt;
use keymux_config::World;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
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

/// The output of a program. It and what it started are given 5 s; what is left of them then is killed.
pub(super) fn output(words: &[String]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, or what it leaves running could hold its output open for ever.
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{program} cannot be started: {e}"))?;
    let (read, output) = sync_channel(1);
    if let Some(mut stdout) = child.stdout.take() {
        // By a thread of its own: more than a pipe holds would stop the program, and the end may never come.
        let reader = move || {
            let mut bytes = Vec::new();
            let whole = stdout.read_to_end(&mut bytes).map(|_| bytes);
            // Nobody waits any more for what comes too late.
            let _ = read.send(whole);
        };
        rt::aside(format!("{program}-output"), reader).map_err(|e| format!("{program}: {e}"))?;
    }
    let ended = ended_in_time(&child);
    if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()) {
        // Before its end is collected, so that the number is still its own. All may have ended by themselves.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|e| format!("{program}: {e}"))?;
    if !ended {
        return Err(format!("{program} did not end within {} s", COMMAND_MS / 1_000));
    }
    if !status.success() {
        return Err(format!("{program} failed: {status}"));
    }
    let bytes = output
        .recv_timeout(Duration::from_secs(1))
        .map_err(|_| format!("{program} ended, but something that it started keeps its output open"))?
        .map_err(|e| format!("{program}: {e}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{program} printed something that is not text"))
}

/// Waits for the end of a program without collecting it.
fn ended_in_time(child: &Child) -> bool {
    let pause = Duration::from_millis(10);
    let Some(id) = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()) else { return false };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    for _ in 0..COMMAND_MS / 10 {
        match waitid(WaitId::Pid(id), look) {
            Ok(None) => std::thread::sleep(pause),
            Ok(Some(_)) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Shows the machine to `look`.
pub(super) fn with<T>(look: impl FnOnce(&World<'_>) -> T) -> T {
    let env_names = variable_names();
    look(&World { env: &variable, env_names: &env_names, read: &read, run: &output })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        output(&["sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }

    #[test]
    fn what_a_program_leaves_running_holds_nobody_up() {
        // Were it waited for, the test would take an hour.
        assert_eq!(shell("sleep 3600 & echo key").unwrap(), "key\n");
    }

    #[test]
    fn more_than_a_pipe_holds_is_read() {
        assert_eq!(shell("head -c 300000 /dev/zero | tr '\\0' x").unwrap().len(), 300_000);
    }

    #[test]
    fn a_program_that_fails_gives_no_secret() {
        assert!(shell("echo key; exit 3").unwrap_err().contains("failed"));
    }
}
