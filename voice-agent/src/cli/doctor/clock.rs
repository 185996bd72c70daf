//! The clocks. Deadlines use the monotonic one; records, tokens and peers the wall clock.

use super::Finding;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01, before this program was made.
const BUILT_AFTER: Duration = Duration::from_secs(1_767_225_600);
/// linux/timex.h
const STA_UNSYNC: i32 = 0x40;

pub(super) fn check() -> Vec<Finding> {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![judge(wall, synchronised())]
}

/// Whether the kernel's clock is kept in step by somebody.
fn synchronised() -> std::io::Result<bool> {
    // SAFETY: all zeroes is a valid timex, and with modes 0 the call only reads the clock's state into it.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if state < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(timex.status & STA_UNSYNC == 0)
}

fn judge(wall: Duration, synchronised: std::io::Result<bool>) -> Finding {
    let check = "clock";
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + wall);
    let advice = "run chronyd, systemd-timesyncd or ntpd on this node (in a container: on its host)";
    if wall < BUILT_AFTER {
        return Finding::fail(
            check,
            format!("the wall clock says {time}, which cannot be"),
            advice,
        );
    }
    match synchronised {
        Ok(true) => Finding::ok(check, format!("{time}, synchronised")),
        Ok(false) => {
            let said = format!(
                "{time}, not synchronised: times in records may not fit those of other nodes; cuts last as long as they should"
            );
            Finding::warn(check, said, advice)
        }
        Err(e) => Finding::warn(
            check,
            format!("{time}; whether it is synchronised cannot be told: {e}"),
            advice,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn a_clock_before_this_program_was_made_fails_and_one_out_of_step_warns() {
        let now = BUILT_AFTER + Duration::from_secs(1);
        assert_eq!(judge(Duration::from_secs(5), Ok(true)).level, Level::Fail);
        assert_eq!(judge(now, Ok(false)).level, Level::Warn);
        assert_eq!(judge(now, Ok(true)).said, "2026-01-01T00:00:01Z, synchronised");
    }
}
