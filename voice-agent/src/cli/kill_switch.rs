//! `kill-switch on|off|status`. Two things make the switch: the pinned word read before every drop, and the file
//! that makes an agent started later keep it on. The agent turns both; without it this does.

use super::{
    Code, Failure,
    args::Turn,
    client::call,
    kill_file,
    output::{Output, Tone},
    pinned,
    unattended::Unattended,
};
use crate::{
    config::{AuditConfig, Paths},
    proto::admin::{KernelRequest, KillSwitchRequest},
};
use serde::Serialize;
use serde_json::json;

/// How the switch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Switch {
    /// Whether word or file turns it on.
    on: bool,
    /// The pinned word; `None`: no program of ours is loaded.
    kernel: Option<bool>,
    /// Whether an agent that starts will turn it on.
    file: bool,
}

impl Switch {
    fn new(kernel: Option<bool>, file: bool) -> Switch {
        let on = kernel == Some(true) || file;
        Switch { on, kernel, file }
    }
}

/// Turns it, or tells how it is.
pub(super) async fn kill_switch(
    paths: &Paths,
    audit: &AuditConfig,
    out: Output,
    turn: Turn,
) -> Result<String, Failure> {
    let kernel = match turn {
        Turn::On => turn_to(paths, audit, true).await?,
        Turn::Off => turn_to(paths, audit, false).await?,
        Turn::Status => look(paths).await?,
    };
    out.print(&Switch::new(kernel, kill_file::is_on(&paths.run)), say)
}

async fn turn_to(paths: &Paths, audit: &AuditConfig, on: bool) -> Result<Option<bool>, Failure> {
    match call!(paths, kill_switch(KillSwitchRequest { on })) {
        Ok(answer) => Ok(Some(answer.on)),
        Err(away) if away.agent_is_away() => {
            let action = Unattended::new(audit, "kill_switch").saying(json!({ "on": on }));
            action.ended(turn_pinned(paths, on, &away))
        }
        Err(failure) => Err(failure),
    }
}

/// On: both are tried, whatever becomes of the other. Off: the file last, so that what fails leaves the switch on.
fn turn_pinned(paths: &Paths, on: bool, away: &Failure) -> Result<Option<bool>, Failure> {
    let who = format!("uid={} while the agent was away", nix::unistd::getuid());
    let file = || kill_file::turn(&paths.run, on, &who).map_err(|e| file_failure(&e));
    let filed = if on { file() } else { Ok(()) };
    let maps = pinned::find(paths)?;
    if let Some(maps) = &maps {
        let turned = maps.set_kill_switch(on);
        turned.map_err(|e| pinned::failure("turning the kill switch", &e))?;
        pinned::note(away, "turned in the pinned maps");
    } else {
        let what = "nothing is pinned in the kernel; an agent that starts honours the file";
        pinned::note(away, what);
    }
    filed?;
    if !on {
        file()?;
    }
    Ok(maps.map(|_| on))
}

async fn look(paths: &Paths) -> Result<Option<bool>, Failure> {
    match call!(paths, kernel(KernelRequest {})) {
        Ok(status) => Ok(Some(status.kill_switch)),
        Err(away) if away.agent_is_away() => look_pinned(paths, &away),
        Err(failure) => Err(failure),
    }
}

fn look_pinned(paths: &Paths, away: &Failure) -> Result<Option<bool>, Failure> {
    let Some(maps) = pinned::find(paths)? else {
        pinned::note(away, "nothing is pinned in the kernel");
        return Ok(None);
    };
    let word = maps.kill_switch();
    let word = word.map_err(|e| pinned::failure("reading the kill switch", &e))?;
    pinned::note(away, "read from the pinned maps");
    Ok(Some(word))
}

fn file_failure(e: &kill_file::KillFileError) -> Failure {
    let code = match e.source.kind() {
        std::io::ErrorKind::PermissionDenied => Code::Permission,
        _ => Code::Failed,
    };
    Failure::new(
        code,
        format!("{e}; the kill switch may be on in part: try again as root"),
    )
}

fn say(switch: &Switch, out: Output) -> String {
    let word = match switch.kernel {
        Some(true) => out.tone(
            Tone::Bad,
            "Kill switch: on. No packet is dropped and no room trips.",
        ),
        Some(false) => out.tone(Tone::Good, "Kill switch: off. Cuts apply."),
        None => "Kill switch: no program of ours is loaded, so nothing is dropped.".into(),
    };
    let file = match switch.file {
        true => "An agent that starts keeps it on (the file is there).",
        false => "An agent that starts leaves it off (no file).",
    };
    format!("{word}\n{file}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_says_what_the_kernel_does_and_what_a_later_start_will_do() {
        let on = Switch::new(Some(true), true);
        assert_eq!(
            say(&on, Output::plain()),
            "Kill switch: on. No packet is dropped and no room trips.\n\
             An agent that starts keeps it on (the file is there).\n"
        );
        let gone = Switch::new(None, false);
        assert_eq!(
            say(&gone, Output::plain()),
            "Kill switch: no program of ours is loaded, so nothing is dropped.\n\
             An agent that starts leaves it off (no file).\n"
        );
    }
}
