//! Settings under which nothing is cut, or more may be done than one might think.

use super::{Finding, Known};
use crate::{
    cli::kill_file,
    config::{Config, TokensConfig},
    tokens::{KeyMistake, Tokens},
};
use voice_room::config::Mode;

pub(super) fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let on = match &known.agent {
        Some(agent) => agent.kill_switch,
        None => kill_file::is_on(&config.paths.run),
    };
    let in_force = known.agent.as_ref().map(|agent| agent.mode.as_str());
    let mut findings = vec![kill_switch(on), mode(config.rules.mode, in_force)];
    findings.extend(host_tokens(&config.tokens));
    findings
}

/// Reads the key files as a start would.
fn host_tokens(config: &TokensConfig) -> Vec<Finding> {
    let check = "host tokens";
    let tokens = match Tokens::load(config) {
        Ok(tokens) => tokens,
        Err(mistakes) => {
            let advice = "until it is mended the agent does not start; one that runs keeps the keys it has";
            let said = |KeyMistake { key, problem }| format!("tokens.keys {key}: {problem}");
            let fail = |mistake| Finding::fail(check, said(mistake), advice);
            return mistakes.into_iter().map(fail).collect();
        }
    };
    let keys: Vec<String> = tokens
        .keys()
        .map(|(id, algorithm)| format!("{id} ({algorithm})"))
        .collect();
    let finding = match keys.len() {
        0 => {
            let advice = "if gateways or signalling servers shall start rooms: set tokens.keys";
            Finding::warn(check, "no keys: only trusted sources may start rooms", advice)
        }
        1 => Finding::ok(check, format!("1 key: {}", keys[0])),
        n => Finding::ok(check, format!("{n} keys: {}", keys.join(", "))),
    };
    vec![finding]
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
        return Finding::warn(
            check,
            said,
            "reload the agent (SIGHUP), or restart it: cuts stay in force meanwhile",
        );
    }
    let advice = "set trip.mode to \"enforce\" and reload the agent (SIGHUP) when it shall cut";
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
    fn keys_are_counted_none_warns_and_each_that_cannot_be_read_fails() {
        let config = |keys: &[String]| TokensConfig {
            keys: keys.iter().map(|key| key.parse().unwrap()).collect(),
            issuer: None,
            audience: None,
            leeway: std::time::Duration::ZERO,
        };
        let none = &host_tokens(&config(&[]))[0];
        assert_eq!(none.level, Level::Warn);
        assert!(none.said.contains("only trusted sources may start rooms"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(40)).unwrap();
        let good = |id: &str| format!("{id}:HS256:{}", file.path().display());
        let found = &host_tokens(&config(&[good("a"), good("b")]))[0];
        assert_eq!(
            (found.level, found.said.as_str()),
            (Level::Ok, "2 keys: a (HS256), b (HS256)")
        );
        let broken = [
            good("a"),
            "b:HS256:/nonexistent".into(),
            "c:EdDSA:/nonexistent".into(),
        ];
        let found = host_tokens(&config(&broken));
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|f| f.level == Level::Fail));
        assert!(found[0].said.contains("b:HS256:/nonexistent"));
    }

    #[test]
    fn an_agent_started_with_another_mode_than_the_file_has_now_is_told() {
        let found = mode(Mode::Enforce, Some("shadow"));
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("runs with shadow"));
    }
}
