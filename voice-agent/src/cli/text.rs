//! Figures in words: durations, counts, moments.

use crate::proto::admin::{Time, Value, value};

/// A duration a person reads at a glance: `85 ms`, `3.2 s`, `95 s`, `12 min 5 s`, `5 h 12 min`, `3 d 4 h`.
pub(super) fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{} s", s, ms % 1000 / 100),
        10_000..120_000 => format!("{s} s"),
        120_000..7_200_000 => format!("{} min {} s", s / 60, s % 60),
        7_200_000..172_800_000 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Microseconds below a millisecond, else as [`duration`].
pub(super) fn short(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        _ => duration(us / 1000),
    }
}

/// `1,234,567`
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 packet`, `2 packets`
pub(super) fn many(n: u64, one: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(n))
}

/// A value of a field, as JSON has it; `nothing` where there is none.
pub(super) fn value(value: Option<&Value>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => "nothing".into(),
        Some(value::Value::Text(text)) => format!("{text:?}"),
        Some(value::Value::Number(number)) => number.to_string(),
        Some(value::Value::Flag(flag)) => flag.to_string(),
    }
}

/// The moment in UTC.
pub(super) fn moment(at: Option<&Time>) -> &str {
    at.map_or("an unknown time", |t| t.rfc3339.as_str())
}

/// The clock part of a moment, `13:11:12.345`.
pub(super) fn clock(at: Option<&Time>) -> &str {
    let text = moment(at);
    text.get(11..23).unwrap_or(text)
}

/// The day of a moment, `2026-11-22`.
pub(super) fn day(at: Option<&Time>) -> &str {
    let text = moment(at);
    text.get(..10).unwrap_or(text)
}

/// What a room is bound by: `50000-50003`, `2 flows, 1 SSRC`; `none`.
pub(super) fn bound(ports: &[u32], flows: usize, ssrcs: usize) -> String {
    let mut parts = Vec::new();
    if !ports.is_empty() {
        parts.push(self::ports(ports));
    }
    for (n, what) in [(flows, "flow"), (ssrcs, "SSRC")] {
        if n > 0 {
            parts.push(many(n as u64, what));
        }
    }
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join(", ")
    }
}

/// Ports in as few words as possible: `50000-50003, 50010`; `none`.
pub(super) fn ports(ports: &[u32]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b);
    let runs: Vec<String> = runs
        .filter_map(|run| Some((run.first()?, run.last()?)))
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    if runs.is_empty() {
        "none".into()
    } else {
        runs.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        let said: Vec<String> = [0, 85, 3_249, 95_000, 725_000, 18_720_000, 273_600_000]
            .map(duration)
            .into();
        assert_eq!(
            said,
            [
                "0 ms",
                "85 ms",
                "3.2 s",
                "95 s",
                "12 min 5 s",
                "5 h 12 min",
                "3 d 4 h"
            ]
        );
        assert_eq!(
            [short(42), short(1_250), short(15_000)],
            ["42 µs", "1.2 ms", "15 ms"]
        );
    }

    #[test]
    fn counts_are_grouped_by_thousands_and_ports_by_runs() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(ports(&[50_002, 50_000, 50_001, 50_010]), "50000-50002, 50010");
        assert_eq!(ports(&[]), "none");
        assert_eq!([many(1, "packet"), many(2, "packet")], ["1 packet", "2 packets"]);
    }
}
