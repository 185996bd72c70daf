//! `doctor`: looks at everything the agent stands on and says what to do about what is wrong. Each group of checks has a
//! file; there, what is read from the system and what is made of it are apart. Here: in which order, and how it is shown.

mod as_agent;
mod capabilities;
mod clock;
mod disk;
mod files;
mod hooks;
mod media;
mod metrics;
mod pins;
mod policy;
mod ports;
mod routes;
mod shared;
mod system;
mod tls;

use super::{
    Code, Failure,
    client::Agent,
    output::{Output, Tone},
    text,
};
use crate::{
    config::{Config, Paths},
    kernel::pinned::Pinned,
    proto::admin::{Dependency, StatusRequest, StatusResponse, TopologyRequest},
};
use serde::Serialize;
use std::collections::BTreeSet;
use voice_room::Port;

/// How a check went, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Neither good nor bad, worth knowing.
    Info,
    /// Works, but not as well as it could, or could not be looked at.
    Warn,
    /// The agent cannot do its work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: String,
    level: Level,
    said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, said: impl Into<String>) -> Finding {
        let (check, said) = (check.into(), said.into());
        Finding {
            check,
            level: Level::Ok,
            said,
            advice: None,
        }
    }

    fn info(check: impl Into<String>, said: impl Into<String>) -> Finding {
        Finding {
            level: Level::Info,
            ..Finding::ok(check, said)
        }
    }

    fn warn(check: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            level: Level::Warn,
            advice: Some(advice.into()),
            ..Finding::ok(check, said)
        }
    }

    fn fail(check: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding {
            level: Level::Fail,
            ..Finding::warn(check, said, advice)
        }
    }
}

/// What only the agent, or in its place the pinned maps, can tell.
#[derive(Debug, Default)]
struct Known {
    /// `None`: no agent answers.
    agent: Option<StatusResponse>,
    /// The roles of the connected peers.
    peers: Vec<String>,
    /// Ports bound to rooms, by the pinned maps. `None`: no pins, or not permitted.
    bound: Option<BTreeSet<Port>>,
    /// Indexes of the interfaces with both our TC programs.
    attached: BTreeSet<u32>,
}

/// Every check, in this order.
pub(super) async fn doctor(config: &Config, out: Output) -> Result<String, Failure> {
    let mut findings = Vec::new();
    let known = known(&config.paths, &mut findings).await;
    findings.extend(system::check(config));
    findings.extend(pins::check(config));
    findings.extend(capabilities::check(known.agent.as_ref().map(|a| a.pid)));
    findings.extend(hooks::check(config, &known));
    findings.extend(routes::check(config, &known));
    findings.extend(ports::check(config, &known));
    findings.extend(clock::check());
    findings.extend(disk::check(config, known.agent.as_ref()).await);
    findings.extend(files::check(&config.paths.state));
    findings.extend(shared::check(config, known.agent.as_ref()).await);
    findings.extend(media::check(config, &known).await);
    findings.push(tls::check(config));
    findings.push(metrics::check(config, known.agent.is_some()).await);
    findings.extend(policy::check(config, &known));
    conclude(&findings, out)
}

async fn known(paths: &Paths, findings: &mut Vec<Finding>) -> Known {
    let mut known = Known::default();
    match ask(paths).await {
        Ok((status, peers)) => {
            let said = format!("pid {}, version {}, answers", status.pid, status.version);
            findings.push(Finding::ok("agent", said));
            findings.extend(status.dependencies.iter().filter_map(tier));
            (known.agent, known.peers) = (Some(status), peers);
        }
        Err(away) if away.code == Code::AgentNotRunning => {
            let advice =
                "start it with `voice-agent run`, or by its service; the checks below hold for a start, too";
            findings.push(Finding::warn("agent", away.message, advice));
        }
        Err(away) => {
            let advice = "see its log; the checks below go on without it";
            findings.push(Finding::fail("agent", away.message, advice));
        }
    }
    if let Ok(pins) = Pinned::open(&paths.pin_dir()) {
        known.bound = Some(pins.ports().into_values().flatten().collect());
        let attached = pins.status().map(|s| s.interfaces).unwrap_or_default();
        let both = |i: &crate::kernel::InterfaceStatus| {
            [&i.tc_ingress, &i.tc_egress]
                .iter()
                .all(|side| side.starts_with("tcx") || *side == "clsact")
        };
        known.attached = attached.iter().filter(|i| both(i)).map(|i| i.index).collect();
    }
    known
}

/// What the agent says of a dependency that does not do well.
fn tier(dependency: &Dependency) -> Option<Finding> {
    let Dependency { name, tier, lasts_ms } = dependency;
    let said = format!("{name} is {tier} for {}", text::duration(*lasts_ms));
    let advice = match name.as_str() {
        "history" => {
            "make room on its disk, or bring its database back; nothing but `history` needs it, and the agent's log says since when and why"
        }
        _ => {
            "bring it back; rooms are watched, cut and told of meanwhile, and the agent's log says since when and why"
        }
    };
    match tier.as_str() {
        "Broken" => Some(Finding::fail("dependency", said, advice)),
        "Degraded" => Some(Finding::warn("dependency", said, advice)),
        _ => None,
    }
}

async fn ask(paths: &Paths) -> Result<(StatusResponse, Vec<String>), Failure> {
    let agent = Agent::connect(paths).await?;
    let status = agent.answer(agent.calls.clone().status(StatusRequest {})).await?;
    let all = TopologyRequest::default();
    let topology = agent.answer(agent.calls.clone().topology(all)).await?;
    let roles = topology.peers.into_iter().map(|peer| peer.role).collect();
    Ok((status, roles))
}

/// Shows the findings; any that fails makes the command fail.
fn conclude(findings: &[Finding], out: Output) -> Result<String, Failure> {
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    let (failed, warned) = (count(Level::Fail), count(Level::Warn));
    let verdict = findings
        .iter()
        .map(|f| f.level)
        .filter(|l| *l != Level::Info)
        .max();
    let report = serde_json::json!({
        "verdict": verdict.unwrap_or(Level::Ok),
        "failed": failed,
        "warned": warned,
        "checks": findings,
    });
    let done = out.print(&report, |_, out| show(findings, out))?;
    if failed == 0 {
        return Ok(done);
    }
    let what = if failed == 1 {
        "1 check fails".into()
    } else {
        format!("{failed} checks fail")
    };
    Err(Failure {
        done,
        ..Failure::new(
            Code::Failed,
            format!("doctor: {what}; what to do is said below each"),
        )
    })
}

fn show(findings: &[Finding], out: Output) -> String {
    let wide = findings.iter().map(|f| f.check.len()).max().unwrap_or_default();
    let line = |f: &Finding| {
        let (word, tone) = match f.level {
            Level::Ok => ("ok  ", Tone::Good),
            Level::Info => ("info", Tone::Faint),
            Level::Warn => ("warn", Tone::Look),
            Level::Fail => ("fail", Tone::Bad),
        };
        let advice = f
            .advice
            .iter()
            .map(|todo| format!("{:wide$}        → {todo}\n", ""));
        let head = format!("{}  {:wide$}  {}\n", out.tone(tone, word), f.check, f.said);
        head + &advice.collect::<String>()
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_one_line_with_what_to_do_below() {
        let findings = [
            Finding::ok("btf", "there"),
            Finding::warn("clock", "not synchronised", "run chronyd"),
        ];
        let text = conclude(&findings, Output::plain()).unwrap();
        assert_eq!(
            text,
            "ok    btf    there\nwarn  clock  not synchronised\n             → run chronyd\n"
        );
    }

    #[test]
    fn only_a_failing_check_makes_the_command_fail_and_the_report_is_still_printed() {
        let fine = [Finding::warn("a", "b", "c"), Finding::info("d", "e")];
        conclude(&fine, Output::plain()).unwrap();
        let failure = conclude(
            &[Finding::fail("bpffs", "not mounted", "mount it")],
            Output::plain(),
        )
        .unwrap_err();
        assert_eq!(failure.code, Code::Failed);
        assert!(failure.done.contains("mount it"), "{}", failure.done);
    }

    #[test]
    fn the_verdict_in_json_is_the_worst_level_and_information_does_not_count() {
        let verdict = |findings: &[Finding]| {
            let done = match conclude(findings, Output::new(true, true)) {
                Ok(done) => done,
                Err(failure) => failure.done,
            };
            serde_json::from_str::<serde_json::Value>(&done).unwrap()["verdict"].clone()
        };
        assert_eq!(verdict(&[Finding::info("a", "b")]), "ok");
        assert_eq!(
            verdict(&[Finding::ok("a", "b"), Finding::warn("a", "b", "c")]),
            "warn"
        );
        assert_eq!(
            verdict(&[Finding::fail("a", "b", "c"), Finding::warn("a", "b", "c")]),
            "fail"
        );
    }
}
