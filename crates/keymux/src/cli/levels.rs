//! The levels of all limits in a small file, so that a restart in the middle of overload draws no refusals. Written
//! every few seconds and at the end if they have changed, whole or not at all; a file that cannot be read is as good as none.

use keymux_policy::fleet::Dimension;
use keymux_policy::saved::{Saved, SavedAccount, SavedLimit, SavedMeter};
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// How often it is written.
pub(super) const EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// Larger files are none of ours.
const BYTES_MAX: u64 = 64 << 20;
/// Of the form of the file: another one is not read.
const VERSION: u64 = 1;

const DIMENSIONS: [(Dimension, &str); 6] = [
    (Dimension::Requests, "requests"),
    (Dimension::InputTokens, "input_tokens"),
    (Dimension::OutputTokens, "output_tokens"),
    (Dimension::TotalTokens, "total_tokens"),
    (Dimension::Concurrent, "concurrent"),
    (Dimension::NanoUsd, "nano_usd"),
];

/// Where it lies.
pub(super) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("levels.json")
}

/// What the last process saved; `None` where there is nothing that can be used.
pub(super) fn read(path: &Path) -> Option<Saved> {
    let found = fs::metadata(path);
    if found.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return None;
    }
    let ours = found.ok().filter(|m| m.is_file() && m.len() <= BYTES_MAX);
    let text = ours.and_then(|_| fs::read(path).ok());
    let saved = text.and_then(|text| serde_json::from_slice(&text).ok()).and_then(|value| of_json(&value));
    if saved.is_none() {
        tracing::warn!(path = %path.display(), "the saved levels cannot be read; limits are taken for whole");
    }
    saved
}

/// The file, and what it holds.
pub(super) struct Kept {
    path: PathBuf,
    /// As it was written by this process.
    accounts: Option<Vec<SavedAccount>>,
    went_well: bool,
}

impl Kept {
    /// Nothing is written yet.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, accounts: None, went_well: true }
    }

    /// Writes it, unless all limits stand as they stood. A directory that cannot be written costs a burst of refusals
    /// after the next start, not this gateway's work; that is said once.
    pub(super) fn save(&mut self, saved: Saved) {
        if self.accounts.as_ref() == Some(&saved.accounts) {
            return;
        }
        let written = write(&self.path, &saved);
        if let (Err(error), true) = (&written, self.went_well) {
            tracing::warn!(%error, path = %self.path.display(), "the levels of the limits cannot be saved");
        }
        self.went_well = written.is_ok();
        self.accounts = written.is_ok().then_some(saved.accounts);
    }
}

/// Writes it beside, then puts it in place, so that there is always a whole one.
fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = path.with_extension("json.new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(to_json(saved).to_string().as_bytes())?;
    fs::rename(&beside, path).inspect_err(|_| _ = fs::remove_file(&beside))
}

fn to_json(saved: &Saved) -> Value {
    let accounts: Vec<Value> = saved
        .accounts
        .iter()
        .map(|a| {
            json!({
                "provider": a.provider,
                "account": a.account,
                "also": a.also,
                "shut_until_unix_ns": a.shut_until_unix_ns,
                "limits": a.limits.iter().map(limit_to_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "version": VERSION, "at_unix_ns": saved.at_unix_ns, "accounts": accounts })
}

fn limit_to_json(limit: &SavedLimit) -> Value {
    let dimension = DIMENSIONS.iter().find(|(d, _)| *d == limit.dimension).map(|(_, name)| *name);
    let meter = match limit.meter {
        SavedMeter::Bucket { capacity, rate, level } => {
            json!({ "bucket": { "capacity": capacity, "rate": rate, "level": level } })
        }
        SavedMeter::Window { limit, period_ns, used, end_unix_ns, by_clock } => json!({ "window": {
            "limit": limit, "period_ns": period_ns, "used": used,
            "end_unix_ns": end_unix_ns, "by_clock": by_clock,
        } }),
        SavedMeter::Slots { limit } => json!({ "slots": limit }),
        SavedMeter::Open => json!("open"),
    };
    json!({
        "key": limit.key,
        "dimension": dimension,
        "daily": limit.daily,
        "models": limit.models,
        "learned": limit.learned,
        "from_refusals": limit.from_refusals,
        "meter": meter,
        "shut_until_unix_ns": limit.shut_until_unix_ns,
    })
}

fn of_json(value: &Value) -> Option<Saved> {
    if value["version"].as_u64()? != VERSION {
        return None;
    }
    let accounts = value["accounts"].as_array()?.iter().map(|a| {
        Some(SavedAccount {
            provider: a["provider"].as_str()?.into(),
            account: a["account"].as_str()?.into(),
            // Files from before have none.
            also: a["also"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|n| n.as_str().map(Box::from))
                .collect(),
            shut_until_unix_ns: a["shut_until_unix_ns"].as_u64(),
            limits: a["limits"].as_array()?.iter().map(limit_of_json).collect::<Option<_>>()?,
        })
    });
    Some(Saved { at_unix_ns: value["at_unix_ns"].as_u64()?, accounts: accounts.collect::<Option<_>>()? })
}

fn limit_of_json(value: &Value) -> Option<SavedLimit> {
    let named = value["dimension"].as_str()?;
    let models = value["models"].as_array()?.iter().map(|m| m.as_str().map(Box::from));
    Some(SavedLimit {
        key: value["key"].as_str().map(Box::from),
        dimension: DIMENSIONS.iter().find(|(_, name)| *name == named)?.0,
        daily: value["daily"].as_bool()?,
        models: models.collect::<Option<_>>()?,
        learned: value["learned"].as_bool()?,
        from_refusals: value["from_refusals"].as_bool()?,
        meter: meter_of_json(&value["meter"])?,
        shut_until_unix_ns: value["shut_until_unix_ns"].as_u64(),
    })
}

fn meter_of_json(value: &Value) -> Option<SavedMeter> {
    if let Some(b) = value.get("bucket") {
        let (capacity, rate) = (b["capacity"].as_f64()?, b["rate"].as_f64()?);
        return Some(SavedMeter::Bucket { capacity, rate, level: b["level"].as_f64()? });
    }
    if let Some(w) = value.get("window") {
        return Some(SavedMeter::Window {
            limit: w["limit"].as_f64()?,
            period_ns: w["period_ns"].as_u64()?,
            used: w["used"].as_f64()?,
            end_unix_ns: w["end_unix_ns"].as_u64()?,
            by_clock: w["by_clock"].as_bool()?,
        });
    }
    if let Some(slots) = value.get("slots") {
        return Some(SavedMeter::Slots { limit: slots.as_u64()?.try_into().ok()? });
    }
    (value == "open").then_some(SavedMeter::Open)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let limit = |meter| SavedLimit {
            key: None,
            dimension: Dimension::TotalTokens,
            daily: false,
            models: vec!["m".into()],
            learned: true,
            from_refusals: true,
            meter,
            shut_until_unix_ns: Some(7),
        };
        let window = SavedMeter::Window {
            limit: 20.0,
            period_ns: 10,
            used: 3.0,
            end_unix_ns: u64::MAX / 2 + 1,
            by_clock: true,
        };
        let bucket = SavedMeter::Bucket { capacity: 5.0, rate: 0.1, level: -3.5 };
        let limits = vec![
            limit(bucket),
            limit(window),
            SavedLimit { key: Some("k".into()), ..limit(SavedMeter::Slots { limit: 3 }) },
            SavedLimit { shut_until_unix_ns: None, models: Vec::new(), ..limit(SavedMeter::Open) },
        ];
        let account = SavedAccount {
            provider: "p".into(),
            account: "a".into(),
            also: vec!["b".into()],
            shut_until_unix_ns: None,
            limits,
        };
        Saved { at_unix_ns: 1_800_000_000_123_456_789, accounts: vec![account] }
    }

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_not() {
        assert_eq!(of_json(&to_json(&saved())), Some(saved()));
        for wrong in
            ["{}", "[]", r#"{"version":2,"at_unix_ns":1,"accounts":[]}"#, r#"{"version":1,"accounts":[{}]}"#]
        {
            assert_eq!(of_json(&serde_json::from_str(wrong).unwrap()), None, "{wrong}");
        }
    }

    #[test]
    fn it_is_written_when_a_limit_stands_otherwise() {
        let folder = std::env::temp_dir().join(format!("levels-kept-{}", std::process::id()));
        let path = folder.join("levels.json");
        let mut kept = Kept::at(path.clone());
        kept.save(saved());
        fs::remove_file(&path).unwrap();
        kept.save(Saved { at_unix_ns: 2_000_000_000_000_000_000, ..saved() });
        assert!(!path.exists(), "only the time is another one");
        let mut other = saved();
        other.accounts[0].limits[0].shut_until_unix_ns = Some(8);
        kept.save(other.clone());
        assert_eq!(read(&path), Some(other.clone()));
        // What could not be written is tried again.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        kept.save(saved());
        fs::remove_dir(&path).unwrap();
        kept.save(saved());
        assert_eq!(read(&path), Some(saved()));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_was_cut_is_as_good_as_none() {
        let folder = std::env::temp_dir().join(format!("levels-{}", std::process::id()));
        let path = folder.join("new/levels.json");
        write(&path, &saved()).unwrap();
        assert_eq!(read(&path), Some(saved()));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(read(&path), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path), None);
        fs::create_dir(&path).unwrap();
        assert!(write(&path, &saved()).is_err() && !path.with_extension("json.new").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
