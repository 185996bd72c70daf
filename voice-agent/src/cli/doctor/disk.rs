//! The state directory, and the databases in it. They are opened only when no agent has them.

use super::{Finding, as_agent::as_agent};
use crate::{
    config::{AuditConfig, Config},
    lock::{AgentLock, LockError},
    proto::admin::StatusResponse,
    store::{
        StoreError, aside,
        trial::{self, Database},
    },
};
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};
use std::path::Path;

/// Below this the databases may not finish their housekeeping: journals of 128 MiB each, and their compaction.
const FREE_WARN_MIB: u64 = 1024;
const FREE_FAIL_MIB: u64 = 64;

pub(super) async fn check(config: &Config, agent: Option<&StatusResponse>) -> Vec<Finding> {
    let state = &config.paths.state;
    let there = state
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let mut found = vec![directory(state, there, usable(there)), free(there)];
    found.push(if let Some(agent) = agent {
        unstored(agent.rooms.unwrap_or_default().unstored_changes)
    } else if there == state {
        store(state).await
    } else {
        Finding::ok("store", "not there yet; the agent makes it")
    });
    found.extend(
        [Database::Rooms, Database::Journal]
            .iter()
            .filter_map(|which| set_aside(&state.join(which.name()))),
    );
    found.push(audit(&config.audit, state, agent));
    found
}

/// Whether the agent could write there, of which root alone is no proof: it gives up CAP_DAC_OVERRIDE.
fn usable(path: &Path) -> nix::Result<()> {
    as_agent(|| access(path, AccessFlags::R_OK | AccessFlags::W_OK))
}

/// The store of a live agent, by what it has not taken yet. A few are on their way at any moment.
fn unstored(changes: u32) -> Finding {
    let check = "store";
    if changes == 0 {
        return Finding::ok(check, "open in the agent; every change is stored");
    }
    let said = format!("{changes} changes are not stored yet");
    let advice = "a number that stays: its disk is full or fails, see the log; cuts work all the same, and the changes are \
                  stored once the disk works, unless the agent ends before";
    Finding::warn(check, said, advice)
}

/// What earlier starts found damaged and kept.
fn set_aside(path: &Path) -> Option<Finding> {
    let kept = aside::set_aside_before(path).ok()?;
    let (_, last) = kept.last()?;
    let advice = "a start found it damaged and began a new one; look at the disk, and remove it when nobody needs it any more";
    Some(Finding::warn(
        "damaged databases",
        format!("{} kept aside, the last is {}", kept.len(), last.display()),
        advice,
    ))
}

/// What a live agent says of it; else whether the file could be written.
fn audit(config: &AuditConfig, state: &Path, agent: Option<&StatusResponse>) -> Finding {
    let (check, advice) = (
        "audit log",
        "make room, or let the agent's user write there; until then nobody can tell afterwards who did what",
    );
    let Some(file) = &config.file else {
        return Finding::info(
            check,
            "off (audit.file): who blocked or released what is not kept",
        );
    };
    if let Some(problem) = agent.and_then(|a| a.audit_problem.as_ref()) {
        return Finding::warn(check, format!("not written: {problem}"), advice);
    }
    let there = if file.exists() {
        Some(file.as_path())
    } else {
        file.parent()
    };
    match there.map_or(Ok(()), usable) {
        // The agent makes its state directory, which is judged above, and no other.
        Err(nix::Error::ENOENT) if file.parent() == Some(state) => {
            Finding::ok(check, "not there yet; the agent makes it")
        }
        Ok(()) => Finding::ok(check, file.display().to_string()),
        Err(e) => Finding::warn(
            check,
            format!("{} cannot be written: {e}", file.display()),
            advice,
        ),
    }
}

fn directory(state: &Path, there: &Path, writable: nix::Result<()>) -> Finding {
    let (check, shown) = ("state directory", there.display());
    match writable {
        Ok(()) if state == there => Finding::ok(check, format!("{shown} is writable")),
        Ok(()) => Finding::ok(check, format!("{} can be made in {shown}", state.display())),
        Err(e) => {
            let advice =
                "run as its owner, make the file system writable, or set paths.state to another directory";
            Finding::fail(check, format!("{shown} cannot be written: {e}"), advice)
        }
    }
}

fn free(there: &Path) -> Finding {
    match statvfs(there) {
        Ok(fs) => space((fs.blocks_available() * fs.fragment_size()) >> 20),
        Err(e) => Finding::warn(
            "disk space",
            format!("{}: {e}", there.display()),
            "run doctor as root",
        ),
    }
}

fn space(mib: u64) -> Finding {
    let (check, said) = ("disk space", format!("{mib} MiB free for the state directory"));
    let advice = "free some, or set paths.state to another file system; without space no change of a room can be stored";
    if mib < FREE_FAIL_MIB {
        Finding::fail(check, said, advice)
    } else if mib < FREE_WARN_MIB {
        Finding::warn(check, said, advice)
    } else {
        Finding::ok(check, said)
    }
}

/// Opens what is there, under the agent's own lock.
async fn store(state: &Path) -> Finding {
    let check = "store";
    let lock = match AgentLock::state_only(state) {
        Ok(lock) => lock,
        Err(LockError::Held { first, .. }) => {
            let advice = "see its log; it starts or stops, or it is stuck and has to be restarted";
            return Finding::fail(
                check,
                format!("held by an agent that does not answer: {first}"),
                advice,
            );
        }
        Err(e) => return Finding::fail(check, e.to_string(), "run doctor as root"),
    };
    let mut problem = None;
    for which in [Database::Rooms, Database::Journal] {
        let path = state.join(which.name());
        let tried = trial::passes(Path::new(trial::THIS_PROGRAM), which, &path).await;
        problem = problem.or(tried.err());
    }
    drop(lock);
    match problem {
        None => Finding::ok(check, "opens; no agent has it"),
        Some(StoreError::Damaged(problem)) => {
            let advice = "the agent's next start keeps it under another name and begins a new one: cuts in the kernel stay, \
                          rooms are learnt from their media servers; look at the disk";
            Finding::warn(check, problem, advice)
        }
        Some(other) => Finding::fail(
            check,
            other.to_string(),
            "the agent does not start: mend what it says",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn little_space_warns_and_almost_none_fails() {
        assert_eq!(
            [10, 500, 5000].map(|mib| space(mib).level),
            [Level::Fail, Level::Warn, Level::Ok]
        );
    }

    #[test]
    fn changes_that_a_live_agent_could_not_store_are_told_with_their_number() {
        assert_eq!(unstored(0).level, Level::Ok);
        let waiting = unstored(3);
        assert_eq!(waiting.level, Level::Warn);
        assert!(waiting.said.starts_with("3 changes"), "{}", waiting.said);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_where_it_will_be_made() {
        let (state, there) = (Path::new("/var/lib/voice-agent"), Path::new("/var/lib"));
        assert_eq!(directory(state, there, Ok(())).level, Level::Ok);
        let refused = directory(state, there, Err(nix::Error::EROFS));
        assert_eq!(refused.level, Level::Fail);
        assert!(refused.said.starts_with("/var/lib cannot be written"));
    }

    #[test]
    fn an_audit_log_that_the_agent_cannot_write_or_whose_directory_is_not_there_warns() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: std::path::PathBuf| AuditConfig {
            file: Some(path),
            max_bytes: 4096,
            keep: 1,
        };
        let here = file(dir.path().join("audit.jsonl"));
        assert_eq!(audit(&here, dir.path(), None).level, Level::Ok);
        let nowhere = file(dir.path().join("no/audit.jsonl"));
        assert_eq!(audit(&nowhere, dir.path(), None).level, Level::Warn);
        let later = dir.path().join("no");
        assert_eq!(
            audit(&nowhere, &later, None).level,
            Level::Ok,
            "made at the start"
        );
        let agent = StatusResponse {
            audit_problem: Some("no space".into()),
            ..StatusResponse::default()
        };
        let found = audit(&here, dir.path(), Some(&agent));
        assert_eq!(
            (found.level, found.said.as_str()),
            (Level::Warn, "not written: no space")
        );
    }

    #[tokio::test]
    async fn a_database_that_is_a_file_is_damaged_and_an_empty_directory_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store(dir.path()).await.level, Level::Ok);
        std::fs::write(dir.path().join("rooms"), "x").unwrap();
        let found = store(dir.path()).await;
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.contains("rooms is damaged"), "{}", found.said);
    }

    #[tokio::test]
    async fn a_store_that_an_agent_holds_is_left_alone_and_its_holder_named() {
        let dir = tempfile::tempdir().unwrap();
        let _agent = AgentLock::state_only(dir.path()).unwrap();
        let found = store(dir.path()).await;
        assert_eq!(found.level, Level::Fail);
        assert!(
            found.said.contains(&format!("pid {}", std::process::id())),
            "{}",
            found.said
        );
    }
}
