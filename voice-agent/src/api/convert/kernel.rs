//! The state of the kernel side.

use crate::{
    kernel::{InterfaceStatus, KernelStatus},
    proto::admin::{Interface, KernelResponse, PassedByReason},
};

/// As the driver or the pinned maps tell it.
pub fn kernel(k: &KernelStatus) -> KernelResponse {
    KernelResponse {
        pin_dir: k.pin_dir.clone(),
        abi_version: k.abi_version,
        kill_switch: k.kill_switch,
        interfaces: k.interfaces.iter().map(interface).collect(),
        slots_used: k.slots_used,
        slots_max: k.slots_max,
        ports_bound: k.ports_bound,
        flows_bound: k.flows_bound,
        ssrcs_bound: k.ssrcs_bound,
        rooms_armed: k.armed,
        passed_by_reason: k.passed_by_reason.iter().map(passed).collect(),
        lost_events: k.lost_events,
        repairs: k.repairs,
    }
}

fn interface(i: &InterfaceStatus) -> Interface {
    Interface {
        name: i.name.clone(),
        index: i.index,
        xdp: i.xdp.clone(),
        tc_ingress: i.tc_ingress.clone(),
        tc_egress: i.tc_egress.clone(),
    }
}

fn passed((hook, reason, packets): &(String, String, u64)) -> PassedByReason {
    PassedByReason {
        hook: hook.clone(),
        reason: reason.clone(),
        packets: *packets,
    }
}
