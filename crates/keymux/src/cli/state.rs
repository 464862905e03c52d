//! The state directory: who may read it, and the admin token in it.

use crate::random;
use keymux_config::Config;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::Failure;

/// The admin token: the configured one, the one of the last run, or a new one in a file that only its owner reads.
pub(super) fn admin_token(config: &Config) -> Result<String, Failure> {
    if let Some(token) = &config.server.admin_token {
        return Ok(token.expose().to_owned());
    }
    let dir = &config.server.data_dir;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| cannot("make", dir, &e))?;
    let path = dir.join("admin-token");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot("read", &path, &error)),
    }
    let token = format!("kma-{}", random::hex::<32>());
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(|e| cannot("write", &path, &e))?;
    writeln!(file, "{token}").map_err(|e| cannot("write", &path, &e))?;
    Ok(token)
}

fn cannot(do_what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Mend(format!(
        "cannot {do_what} {}: {error}; set server.data_dir or KEYMUX_DATA_DIR to a directory that this user may write",
        path.display()
    ))
}

/// A seed for dice that need not be secret.
pub(super) fn seed() -> u64 {
    u64::from_le_bytes(random::bytes())
}
