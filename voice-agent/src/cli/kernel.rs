//! `kernel status|detach`.

use super::{
    Code, Failure,
    client::call,
    output::{Output, Tone},
    pinned, text,
    unattended::Unattended,
};
use crate::{
    api::convert,
    config::{AuditConfig, Paths},
    kernel::pinned::Pinned,
    lock::{AgentLock, LockError},
    proto::admin::{Interface, KernelRequest, KernelResponse, PassedByReason},
};
use serde_json::json;

/// The state of the kernel side; from the pinned maps when the agent is away.
pub(super) async fn status(paths: &Paths, out: Output) -> Result<String, Failure> {
    let status = match call!(paths, kernel(KernelRequest {})) {
        Err(away) if away.agent_is_away() => {
            let maps = pinned::open(paths, &away)?;
            let status = maps.status();
            let status = status.map_err(|e| pinned::failure("reading the pinned maps", &e))?;
            pinned::note(&away, "read from the pinned maps");
            convert::kernel(&status)
        }
        answer => answer?,
    };
    out.print(&status, show)
}

/// Removes everything of this instance from the kernel, unless its agent runs. Holds the agent's own locks meanwhile, so
/// that none starts in between; they tell of an agent also when its socket is gone.
pub(super) fn detach(paths: &Paths, audit: &AuditConfig, out: Output) -> Result<String, Failure> {
    let pinned = paths.pin_root().try_exists();
    if pinned.is_ok_and(|there| !there) {
        return out.print(&json!({ "removed": [] }), |_, _| removed(&[], paths));
    }
    let _lock = AgentLock::acquire(paths).map_err(locked)?;
    let gone = Pinned::detach(&paths.pin_root()).map_err(|e| pinned::failure("detaching", &e));
    let gone = Unattended::new(audit, "kernel_detach").ended(gone)?;
    out.print(&json!({ "removed": gone }), |_, _| removed(&gone, paths))
}

fn locked(problem: LockError) -> Failure {
    let advice =
        "stop it first, it would only attach again; to stop all drops now: voice-agent kill-switch on";
    match problem {
        LockError::Held { first, .. } => {
            Failure::new(Code::Failed, format!("the agent runs ({first}): {advice}"))
        }
        LockError::PinsHeld { .. } => Failure::new(Code::Failed, format!("{problem}; {advice}")),
        LockError::Io { problem: ref io, .. } if io.kind() == std::io::ErrorKind::PermissionDenied => {
            Failure::new(Code::Permission, format!("{problem}; run as root"))
        }
        LockError::Io { .. } => Failure::new(Code::Failed, problem.to_string()),
    }
}

fn removed(gone: &[String], paths: &Paths) -> String {
    match gone {
        [] => format!(
            "Nothing is pinned under {}; nothing to detach.\n",
            paths.pin_root().display()
        ),
        gone => gone.iter().map(|line| format!("Removed {line}\n")).collect(),
    }
}

/// For people. Also the kernel part of `status`.
pub(super) fn show(k: &KernelResponse, out: Output) -> String {
    let mut text = summary(k, out);
    text += "\n";
    text += &interfaces(&k.interfaces, out);
    text += "\n";
    text += &passed(&k.passed_by_reason, out);
    text
}

/// The figures without the tables.
pub(super) fn summary(k: &KernelResponse, out: Output) -> String {
    let switch = match k.kill_switch {
        true => out.tone(Tone::Bad, "on: nothing is dropped"),
        false => "off".into(),
    };
    let lost = match k.lost_events {
        0 => "0 first-drop events lost".into(),
        n => out.tone(Tone::Look, &format!("{} lost", text::many(n, "first-drop event"))),
    };
    format!(
        "pins         {} (ABI {})\n\
         kill switch  {switch}\n\
         bound        {} of {} slots, {}, {}, {}\n\
         armed        {}\n\
         events       {lost}, {}\n",
        k.pin_dir,
        k.abi_version,
        text::count(k.slots_used.into()),
        text::count(k.slots_max.into()),
        text::many(k.ports_bound.into(), "port"),
        text::many(k.flows_bound.into(), "flow"),
        text::many(k.ssrcs_bound.into(), "SSRC"),
        text::many(k.rooms_armed.into(), "room"),
        text::many(k.repairs, "repair"),
    )
}

/// The interfaces.
pub(super) fn interfaces(interfaces: &[Interface], out: Output) -> String {
    if interfaces.is_empty() {
        return "No interface is attached.\n".into();
    }
    let row = |i: &Interface| {
        let hook = |state: &String| out.cell(hook_tone(state), state);
        vec![
            out.cell(None, &i.name),
            out.cell(None, i.index),
            hook(&i.xdp),
            hook(&i.tc_ingress),
            hook(&i.tc_egress),
        ]
    };
    let rows = interfaces.iter().map(row).collect();
    out.table(&["INTERFACE", "INDEX", "XDP", "TC INGRESS", "TC EGRESS"], rows)
}

/// What is attached is good; what is off or waits is no news; the rest is a reason why not.
fn hook_tone(state: &str) -> Option<Tone> {
    match state {
        "native" | "tcx" | "clsact" => Some(Tone::Good),
        "off" => Some(Tone::Faint),
        waits if waits.starts_with("on-trip") => Some(Tone::Faint),
        _ => Some(Tone::Look),
    }
}

fn passed(passed: &[PassedByReason], out: Output) -> String {
    if passed.is_empty() {
        return "No packet was passed unjudged.\n".into();
    }
    let row = |p: &PassedByReason| {
        let packets = text::count(p.packets);
        vec![
            out.cell(None, &p.hook),
            out.cell(None, &p.reason),
            out.cell(None, packets),
        ]
    };
    out.table(
        &["HOOK", "PASSED BECAUSE", "PACKETS"],
        passed.iter().map(row).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_side_fits_one_screen_and_says_why_a_hook_is_not_ours() {
        let k = KernelResponse {
            pin_dir: "/sys/fs/bpf/voice-agent/v1".into(),
            abi_version: 1,
            interfaces: vec![Interface {
                name: "eth0".into(),
                index: 2,
                xdp: "occupied by cilium (id 7)".into(),
                tc_ingress: "tcx".into(),
                tc_egress: "tcx".into(),
            }],
            slots_used: 3,
            slots_max: 4096,
            ports_bound: 12,
            flows_bound: 7,
            ssrcs_bound: 1,
            rooms_armed: 1,
            passed_by_reason: vec![PassedByReason {
                hook: "tc_ingress".into(),
                reason: "not_udp".into(),
                packets: 1234,
            }],
            ..KernelResponse::default()
        };
        assert_eq!(
            show(&k, Output::plain()),
            "pins         /sys/fs/bpf/voice-agent/v1 (ABI 1)\n\
             kill switch  off\n\
             bound        3 of 4,096 slots, 12 ports, 7 flows, 1 SSRC\n\
             armed        1 room\n\
             events       0 first-drop events lost, 0 repairs\n\
             \n\
             INTERFACE  INDEX  XDP                        TC INGRESS  TC EGRESS\n\
             eth0       2      occupied by cilium (id 7)  tcx         tcx\n\
             \n\
             HOOK        PASSED BECAUSE  PACKETS\n\
             tc_ingress  not_udp         1,234\n"
        );
    }

    #[test]
    fn no_interface_and_no_packets_are_said_in_words() {
        let said = show(&KernelResponse::default(), Output::plain());
        assert!(said.ends_with("\nNo interface is attached.\n\nNo packet was passed unjudged.\n"));
    }
}
