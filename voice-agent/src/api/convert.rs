//! From the core's types to the admin messages. Wire names come from the types' own serde names; nothing is decided here.

mod entry;
mod kernel;
pub mod patrol;
mod peer;
mod room;

pub use entry::{entry, event};
pub use kernel::kernel;
pub use peer::{dependency, peer};
pub use room::{counts, room};

use crate::proto::admin::{Evidence, Maintenance, Time, Witness};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use voice_room::{Wall, config::Mode, timeline::Testimony};

/// The last moment RFC 3339 can name (year 9999).
const LAST_MS: u64 = 253_402_300_799_999;

/// The present moment.
pub fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(millis(since))
}

/// A moment, in both its forms.
pub fn time(at: Wall) -> Time {
    let named = UNIX_EPOCH + Duration::from_millis(at.0.min(LAST_MS));
    Time {
        rfc3339: humantime::format_rfc3339_millis(named).to_string(),
        unix_ms: at.0,
    }
}

/// Whole milliseconds.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// The wire name of a value that serializes as a bare text (`Hold::BlastCap` is `blast_cap`).
pub fn name<T: Serialize + std::fmt::Debug>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{value:?}"),
    }
}

/// `enforce`, `shadow` or `off`.
pub fn mode(mode: Mode) -> String {
    name(&mode)
}

/// An operator's maintenance.
pub fn maintenance(m: &voice_room::Maintenance, now: Wall) -> Maintenance {
    Maintenance {
        room: m.room.as_ref().map(ToString::to_string),
        reason: m.reason.clone(),
        actor: m.actor.to_string(),
        since: Some(time(m.since)),
        until: Some(time(m.until)),
        left_ms: millis(m.until.since(now)),
    }
}

fn witness(t: &Testimony) -> Witness {
    Witness {
        window_ms: millis(t.window),
        rtp_in_packets: t.rtp_in,
        rtp_out_packets: t.rtp_out,
        saw_egress: t.saw_egress,
    }
}

fn evidence(e: &voice_room::Evidence) -> Evidence {
    Evidence {
        misses: e.misses,
        heartbeat_age_ms: e.heartbeat_age.map(millis),
        progress_age_ms: millis(e.progress_age),
        progress: name(&e.progress),
        source: e.source.as_ref().map(ToString::to_string),
        source_silent_ms: e.source_silent_for.map(millis),
        sockets_gone: e.sockets_gone,
        witness: e.witness.as_ref().map(witness),
        cap_used: e.cap.0,
        cap_allowed: e.cap.1,
        mode: mode(e.mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voice_room::timeline::{Hold, Rule};

    #[test]
    fn a_moment_is_given_as_rfc_3339_and_as_unix_milliseconds_and_one_beyond_year_9999_does_not_panic() {
        let t = time(Wall(1_700_000_000_123));
        assert_eq!(t.rfc3339, "2023-11-14T22:13:20.123Z");
        assert_eq!(t.unix_ms, 1_700_000_000_123);
        assert_eq!(time(Wall(u64::MAX)).unix_ms, u64::MAX);
    }

    #[test]
    fn names_are_the_wire_names() {
        assert_eq!(name(&Hold::SourceStillSends), "source_still_sends");
        assert_eq!(name(&Rule::ContradictionTooLong), "contradiction_too_long");
        assert_eq!(mode(Mode::Shadow), "shadow");
    }
}
