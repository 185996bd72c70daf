//! Times as people give them: RFC 3339, or how long ago.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use voice_room::Wall;

pub(super) fn now() -> Wall {
    wall(SystemTime::now())
}

pub(super) fn before(now: Wall, ago: Duration) -> Wall {
    Wall(
        now.0
            .saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
    )
}

/// `1h`, `90s`, `2d`.
pub(in crate::cli) fn ago(text: &str) -> Result<Duration, String> {
    let given = humantime::parse_duration(text);
    given.map_err(|_| format!("{text:?} is no length of time: allowed are such as 90s, 30m, 1h or 2d"))
}

/// A time, or how long ago it was.
pub(in crate::cli) fn moment(text: &str) -> Result<Wall, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(wall(time));
    }
    humantime::parse_duration(text).map(|ago| before(now(), ago)).map_err(|_| {
        format!("{text:?} is no time: allowed are RFC 3339, such as 2026-11-22T13:11:12Z, or how long ago, such as 30m")
    })
}

fn wall(time: SystemTime) -> Wall {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `2026-11-22 13:11:12`, UTC.
pub(super) fn shown(at: Wall) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(at.0));
    let in_years = time.filter(|_| at.0 < 253_402_300_800_000);
    in_years.map_or_else(
        || format!("{} ms", at.0),
        |time| {
            humantime::format_rfc3339_seconds(time)
                .to_string()
                .replace('T', " ")
                .replace('Z', "")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_how_long_ago_and_else_what_is_allowed_is_said() {
        assert_eq!(moment("2025-11-22T13:11:12Z").unwrap(), Wall(1_763_817_072_000));
        assert_eq!(shown(Wall(1_763_817_072_000)), "2025-11-22 13:11:12");
        let hour = now().0 - moment("1h").unwrap().0;
        assert!((3_600_000..3_660_000).contains(&hour));
        assert!(moment("yesterday").unwrap_err().contains("allowed are RFC 3339"));
        assert!(ago("x").is_err());
        assert_eq!(before(Wall(5), Duration::from_secs(10)), Wall(0));
        assert_eq!(shown(Wall(u64::MAX)), "18446744073709551615 ms");
    }
}
