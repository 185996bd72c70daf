//! Settings under which nothing is cut, or more may be done than one might think.

use super::{Finding, Known};
use crate::{cli::kill_file, config::Config};
use voice_room::config::Mode;

pub(super) fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let on = match &known.agent {
        Some(agent) => agent.kill_switch,
        None => kill_file::is_on(&config.paths.run),
    };
    let in_force = known.agent.as_ref().map(|agent| agent.mode.as_str());
    vec![
        kill_switch(on),
        mode(config.rules.mode, in_force),
        Finding::info("host tokens", "no keys: only trusted sources may start rooms"),
    ]
}

fn kill_switch(on: bool) -> Finding {
    if !on {
        return Finding::ok("kill switch", "off");
    }
    let advice = "voice-agent kill-switch off, once the reason for it is gone";
    Finding::warn("kill switch", "on: nothing is dropped and no room trips", advice)
}

fn mode(configured: Mode, in_force: Option<&str>) -> Finding {
    let check = "mode";
    let name = match configured {
        Mode::Enforce => "enforce",
        Mode::Shadow => "shadow",
        Mode::Off => "off",
    };
    if let Some(other) = in_force.filter(|mode| *mode != name) {
        let said = format!("the agent runs with {other}, trip.mode says {name}");
        return Finding::warn(check, said, "restart the agent: cuts stay in force meanwhile");
    }
    let advice = "set trip.mode to \"enforce\" and restart the agent when it shall cut";
    match configured {
        Mode::Enforce => Finding::ok(check, "enforce"),
        Mode::Shadow => Finding::warn(check, "shadow: drops are only counted", advice),
        Mode::Off => Finding::warn(check, "off: no room trips", advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn whatever_keeps_rooms_from_being_cut_warns() {
        assert_eq!(kill_switch(true).level, Level::Warn);
        assert_eq!(mode(Mode::Shadow, None).level, Level::Warn);
        assert_eq!(mode(Mode::Off, Some("off")).level, Level::Warn);
        assert_eq!(mode(Mode::Enforce, Some("enforce")).level, Level::Ok);
    }

    #[test]
    fn an_agent_started_with_another_mode_than_the_file_has_now_is_told() {
        let found = mode(Mode::Enforce, Some("shadow"));
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("runs with shadow"));
    }
}
