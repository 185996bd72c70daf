//! The configuration of an agent under test: the real rules with shortened times.

use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

/// The times that tests and the demo shorten. The ratios stay near those of the real ones (5 s, 90 s, 300 s).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// `rooms.heartbeat`
    pub heartbeat: Duration,
    /// `trip.stuck_after`
    pub stuck_after: Duration,
    /// `trip.isolation`
    pub isolation: Duration,
    /// `trip.witness_window`
    pub witness_window: Duration,
}

impl Times {
    /// As in production: 5 s, 90 s, 300 s, 25 s.
    pub const REAL: Times = Times::new(5000, 90_000, 300_000, 25_000);
    /// For the demo: under a minute in all.
    pub const DEMO: Times = Times::new(500, 8000, 12_000, 2500);
    /// For tests: as short as two busy cores allow.
    pub const TEST: Times = Times::new(300, 3000, 4000, 1500);

    const fn new(heartbeat: u64, stuck_after: u64, isolation: u64, witness_window: u64) -> Times {
        Times {
            heartbeat: Duration::from_millis(heartbeat),
            stuck_after: Duration::from_millis(stuck_after),
            isolation: Duration::from_millis(isolation),
            witness_window: Duration::from_millis(witness_window),
        }
    }

    /// The same with another isolation.
    #[must_use]
    pub const fn isolated_for(mut self, isolation: Duration) -> Times {
        self.isolation = isolation;
        self
    }
}

/// Keys and TOML values, on top of the paths and the times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The times.
    pub times: Times,
    values: BTreeMap<String, String>,
}

impl Settings {
    /// The defaults with these times, the session stream on 127.0.0.1:7400 of the agent's own namespace.
    pub fn new(times: Times) -> Settings {
        let mut values = BTreeMap::new();
        for (key, time) in [
            ("rooms.heartbeat", times.heartbeat),
            ("trip.stuck_after", times.stuck_after),
            ("trip.isolation", times.isolation),
            ("trip.witness_window", times.witness_window),
        ] {
            values.insert(
                key.to_owned(),
                format!("\"{}\"", humantime::format_duration(time)),
            );
        }
        values.insert("log.filter".into(), "\"info,voice_agent=debug\"".into());
        Settings { times, values }
    }

    /// Sets `key` to a TOML value: `set("kernel.xdp", "\"always\"")`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Settings {
        self.values.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The file, with every path below `dir`.
    pub fn toml(&self, dir: &Path) -> String {
        let mut text = String::new();
        for path in ["state", "run", "bpffs"] {
            let _ = writeln!(text, "paths.{path} = \"{}\"", dir.join(path).display());
        }
        for (key, value) in &self.values {
            let _ = writeln!(text, "{key} = {value}");
        }
        text
    }
}
