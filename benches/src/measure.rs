//! Settings from the environment, what a process used, and the last line.

use std::path::Path;

use serde_json::{Map, Value};

/// A number from the environment, or the one given.
#[expect(clippy::disallowed_methods, reason = "a bench is configured by its environment")]
pub fn environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Processor time in seconds, user and system.
    pub cpu_secs: f64,
    /// The most memory it had resident, in MB.
    pub peak_mb: f64,
    /// The memory it has resident, in MB.
    pub resident_mb: f64,
}

impl Usage {
    /// Reads it from `/proc/self`; zeros where there is none.
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kb: f64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
            kb / 1024.0
        };
        // The 14th and 15th field of the whole line, in hundredths of a second on Linux.
        let cpu_secs = (ticks(11) + ticks(12)) as f64 / 100.0;
        Self { cpu_secs, peak_mb: line("VmHWM:"), resident_mb: line("VmRSS:") }
    }
}

/// The bytes of all files below a folder.
pub fn dir_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => dir_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Prints the result as the last line: one JSON object, numbers cut to what they mean.
pub fn finish(bench: &str, values: &[(&str, Value)]) {
    let mut line = Map::new();
    line.insert("bench".to_owned(), bench.into());
    for (name, value) in values {
        let rounded = match value.as_f64() {
            Some(number) if value.is_f64() && number.abs() >= 100.0 => number.round().into(),
            Some(number) if value.is_f64() => ((number * 1_000.0).round() / 1_000.0).into(),
            _ => value.clone(),
        };
        line.insert((*name).to_owned(), rounded);
    }
    println!("{}", Value::Object(line));
}
