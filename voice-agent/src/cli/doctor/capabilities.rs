//! What this process and the running agent may do.

use super::Finding;
use std::{fs, io};

/// linux/capability.h
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON")];
/// Stands for CAP_BPF and CAP_PERFMON before Linux 5.8, where they do not exist.
const SYS_ADMIN: u32 = 21;

pub(super) fn check(agent: Option<u32>) -> Vec<Finding> {
    let mut found = vec![mine(effective("self"))];
    if let Some(pid) = agent {
        found.push(agents(pid, effective(&pid.to_string())));
    }
    found
}

/// The effective capabilities of a process. Of another one only when it is an agent: an agent in a container tells the
/// pid it has there.
fn effective(process: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map(str::trim).unwrap_or_default()
    };
    if field("Name:") != "voice-agent" {
        return Err(io::Error::other(
            "no voice-agent has this pid here; it runs in a container",
        ));
    }
    u64::from_str_radix(field("CapEff:"), 16).map_err(io::Error::other)
}

fn missing(held: u64) -> Vec<&'static str> {
    let has = |cap: u32| held & (1 << cap) != 0;
    let stands_in = |cap: u32| cap > 37 && has(SYS_ADMIN);
    let lacking = NEEDED.iter().filter(|(cap, _)| !has(*cap) && !stands_in(*cap));
    lacking.map(|(_, name)| *name).collect()
}

fn mine(held: io::Result<u64>) -> Finding {
    let check = "own capabilities";
    match held.map(missing) {
        Ok(missing) if missing.is_empty() => Finding::ok(check, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"),
        Ok(missing) => Finding::warn(
            check,
            format!("this process lacks {}", missing.join(", ")),
            "run doctor as root: else pins and programs cannot be looked at; an agent started like this would be refused",
        ),
        Err(e) => Finding::warn(check, format!("cannot be told: {e}"), "run doctor as root"),
    }
}

fn agents(pid: u32, held: io::Result<u64>) -> Finding {
    let check = "agent capabilities";
    let held = match held {
        Ok(held) => held,
        Err(e) => return Finding::info(check, format!("cannot be told of pid {pid}: {e}")),
    };
    let missing = missing(held);
    if !missing.is_empty() {
        let said = format!("pid {pid} lacks {}", missing.join(", "));
        let advice = "give it these (systemd: AmbientCapabilities=, containers: capabilities.add), or run it as root; then restart it";
        return Finding::fail(check, said, advice);
    }
    let more = held & !NEEDED.iter().fold(0, |mask, (cap, _)| mask | 1 << cap);
    if more == 0 {
        return Finding::ok(
            check,
            format!("pid {pid} holds CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and no more"),
        );
    }
    Finding::info(
        check,
        format!("pid {pid} holds what it needs, and {} more", more.count_ones()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    const THREE: u64 = 1 << 39 | 1 << 12 | 1 << 38;

    #[test]
    fn the_three_capabilities_are_enough_and_each_missing_one_is_named() {
        assert_eq!(agents(7, Ok(THREE)).level, Level::Ok);
        let lacking = agents(7, Ok(1 << 12 | 1 << 39));
        assert_eq!(lacking.level, Level::Fail);
        assert!(lacking.said.contains("CAP_PERFMON") && !lacking.said.contains("CAP_BPF"));
        assert_eq!(agents(7, Ok(THREE | 1)).level, Level::Info);
    }

    #[test]
    fn on_old_kernels_sys_admin_stands_for_bpf_and_perfmon_but_not_for_net_admin() {
        assert_eq!(missing(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
    }

    #[test]
    fn an_agent_that_is_not_to_be_seen_is_no_failure() {
        assert_eq!(agents(7, Err(io::Error::other("x"))).level, Level::Info);
        assert_eq!(mine(Ok(0)).level, Level::Warn);
    }
}
