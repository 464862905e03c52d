//! What the machine says of this process, under the names that every Prometheus client gives it. What cannot be read
//! (off Linux) is left out.

use std::fs::read_to_string;

/// Ticks of `/proc/self/stat` in a second: the same on every Linux that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// Figures of a process.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// As it stands.
    pub(super) fn look() -> Self {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |field| number(&status, field).map(|kb| kb * 1024);
        Self {
            cpu_seconds: read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: kilobytes("VmRSS:"),
            threads: number(&status, "Threads:"),
            open_fds: std::fs::read_dir("/proc/self/fd").ok().map(|found| found.count() as u64),
            max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        }
    }
}

/// The number behind a field's name at the beginning of a line.
fn number(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok())
}

/// Fields 14 and 15: user and system time. The second is a name in brackets that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some((user + system) as f64 / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_fields() {
        let stat = "7 (a b) 1 2) S 1 7 7 0 -1 4194560 900 0 2 0 150 50 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (cut) S 1 7"), None);
        assert_eq!(number("VmPeak:\t 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:"), Some(12));
    }

    #[test]
    fn this_process_has_figures() {
        let seen = Process::look();
        assert!(seen.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{seen:?}");
        assert!(seen.cpu_seconds.is_some() && seen.threads.is_some_and(|n| n > 0), "{seen:?}");
        assert!(seen.open_fds.is_some_and(|n| n > 2) && seen.max_fds > seen.open_fds, "{seen:?}");
    }
}
