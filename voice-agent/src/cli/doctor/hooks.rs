//! Each chosen interface: how it is, and who else has programs on it.

use super::{Finding, Known};
use crate::{
    config::{Config, XdpPolicy},
    kernel::{
        Features,
        facts::{self, InterfaceFacts, Program},
    },
};

/// A packet of one page, with what the kernel keeps around it: above this, XDP needs frames of several buffers.
const ONE_BUFFER: u32 = 3_498;

/// Drivers that never run XDP themselves.
const NO_XDP: [&str; 6] = [
    "bridge",
    "macvlan",
    "ipvlan",
    "dummy",
    "802.1Q VLAN Support",
    "vxlan",
];

pub(super) fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let wanted = &config.kernel.interfaces;
    let chosen = match facts::chosen(wanted) {
        Ok(chosen) => chosen,
        Err(e) => return vec![Finding::warn("interfaces", e.to_string(), "run doctor as root")],
    };
    let gone = wanted
        .iter()
        .filter(|name| !chosen.iter().any(|(_, there)| there == *name));
    let gone = gone.map(|name| {
        let advice = "correct kernel.interfaces, or make the interface";
        Finding::fail(format!("interface {name}"), "does not exist here", advice)
    });
    let mut found: Vec<Finding> = gone.collect();
    if chosen.is_empty() && wanted.is_empty() {
        let advice = "bring one up and give it an address, or name it in kernel.interfaces";
        found.push(Finding::warn(
            "interfaces",
            "none is up with an address, so nothing is attached",
            advice,
        ));
    }
    let running = known.agent.is_some();
    for (index, name) in chosen {
        match facts::interface(index, &name, &config.paths.pin_dir()) {
            Ok(facts) => {
                found.push(link(&facts));
                found.push(xdp(&facts, config.kernel.xdp, Features::detect()));
                found.push(tc(&facts, running, known.attached.contains(&index)));
            }
            Err(e) => found.push(Finding::warn(
                format!("interface {name}"),
                e.to_string(),
                "run doctor again",
            )),
        }
    }
    found
}

fn link(facts: &InterfaceFacts) -> Finding {
    let check = format!("interface {}", facts.name);
    let driver = facts.driver.as_deref().unwrap_or("unknown");
    let said = format!("driver {driver}, MTU {}", facts.mtu);
    if facts.up {
        return Finding::ok(check, format!("up, {said}"));
    }
    let advice = format!("ip link set {} up", facts.name);
    Finding::warn(check, format!("down, {said}"), advice)
}

fn xdp(facts: &InterfaceFacts, policy: XdpPolicy, features: Features) -> Finding {
    let check = format!("xdp {}", facts.name);
    let off = policy == XdpPolicy::Off;
    let driver = facts.driver.as_deref().unwrap_or("unknown");
    let instead = "nothing has to be done: TC cuts on this interface; to say so, set kernel.xdp to \"off\"";
    match &facts.xdp {
        Some(Program { words, ours: true }) => Finding::ok(check, format!("ours is attached: {words}")),
        Some(Program { words, .. }) if off => {
            Finding::ok(check, format!("off by kernel.xdp; {words} is there"))
        }
        Some(Program { words, .. }) => {
            let advice = "it is left alone, and TC cuts on this interface; if it is not wanted, unload it with its own tool";
            Finding::warn(check, format!("occupied by {words}, which is not ours"), advice)
        }
        None if off => Finding::ok(check, "off by kernel.xdp; TC does the work"),
        None if NO_XDP.contains(&driver) => {
            Finding::warn(check, format!("the driver {driver} has no native XDP"), instead)
        }
        None if facts.mtu > ONE_BUFFER && !features.frags => {
            let said = format!(
                "MTU {} needs xdp.frags, which this kernel lacks (needs 5.18)",
                facts.mtu
            );
            Finding::warn(check, said, instead)
        }
        None if facts.mtu > ONE_BUFFER => {
            let said = format!(
                "free; MTU {} needs a driver with xdp.frags: only attaching tells",
                facts.mtu
            );
            Finding::info(check, said)
        }
        None => Finding::ok(check, "free; whether the driver runs XDP is told by attaching"),
    }
}

fn tc(facts: &InterfaceFacts, running: bool, attached: bool) -> Finding {
    let check = format!("tc {}", facts.name);
    if running && !attached {
        let advice =
            "see `voice-agent kernel status` and the agent's log for the reason; rooms on it are not cut";
        return Finding::fail(check, "our programs are not attached", advice);
    }
    if let Some(why) = &facts.tc_untold {
        return Finding::info(check, format!("order of programs: {why}"));
    }
    let ahead = |side: &Vec<Program>| -> Vec<String> {
        let before = side.iter().take_while(|p| !p.ours);
        before.map(|p| p.words.clone()).collect()
    };
    let before: Vec<String> = facts.tc.iter().flat_map(ahead).collect();
    let after = |side: &Vec<Program>| side.iter().skip_while(|p| !p.ours).filter(|p| !p.ours).count();
    let others: usize = facts.tc.iter().map(after).sum();
    match (attached, before.is_empty()) {
        (false, true) => Finding::ok(check, "free"),
        (false, false) => Finding::info(
            check,
            format!("others are there: {}; ours go first", before.join(", ")),
        ),
        (true, true) if others == 0 => Finding::ok(check, "ours are attached, alone"),
        (true, true) => Finding::ok(check, format!("ours are attached, ahead of {others} of others")),
        (true, false) => {
            let said = format!("ours run behind {}", before.join(", "));
            let advice = "if that one ends with TC_ACT_OK its packets bypass our cuts; attach it behind ours, or restart it after the agent";
            Finding::warn(check, said, advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    const NEW: Features = Features {
        tcx: true,
        frags: true,
    };

    fn program(words: &str, ours: bool) -> Program {
        let words = words.into();
        Program { words, ours }
    }

    fn eth0() -> InterfaceFacts {
        InterfaceFacts {
            index: 2,
            name: "eth0".into(),
            up: true,
            mtu: 1500,
            driver: Some("ixgbe".into()),
            ..InterfaceFacts::default()
        }
    }

    #[test]
    fn anothers_xdp_program_is_named_and_does_not_matter_when_xdp_is_off() {
        let facts = InterfaceFacts {
            xdp: Some(program("cilium (id 7)", false)),
            ..eth0()
        };
        let found = xdp(&facts, XdpPolicy::OnTrip, NEW);
        assert_eq!(
            (found.level, found.said.contains("cilium (id 7)")),
            (Level::Warn, true)
        );
        assert_eq!(xdp(&facts, XdpPolicy::Off, NEW).level, Level::Ok);
    }

    #[test]
    fn an_interface_where_xdp_cannot_be_says_that_tc_does_the_work() {
        let bridge = InterfaceFacts {
            driver: Some("bridge".into()),
            ..eth0()
        };
        assert_eq!(xdp(&bridge, XdpPolicy::OnTrip, NEW).level, Level::Warn);
        let jumbo = InterfaceFacts { mtu: 9000, ..eth0() };
        let old = Features { frags: false, ..NEW };
        assert_eq!(xdp(&jumbo, XdpPolicy::OnTrip, old).level, Level::Warn);
        assert_eq!(xdp(&jumbo, XdpPolicy::OnTrip, NEW).level, Level::Info);
        assert_eq!(xdp(&eth0(), XdpPolicy::OnTrip, NEW).level, Level::Ok);
    }

    #[test]
    fn a_program_ahead_of_ours_is_named_and_one_behind_is_fine() {
        let (ours, theirs) = (
            program("voice_tc_ingres (id 1)", true),
            program("theirs (id 2)", false),
        );
        let with = |ingress: Vec<Program>| InterfaceFacts {
            tc: [ingress, vec![ours.clone()]],
            ..eth0()
        };
        let behind = tc(&with(vec![theirs.clone(), ours.clone()]), true, true);
        assert_eq!(
            (behind.level, behind.said.as_str()),
            (Level::Warn, "ours run behind theirs (id 2)")
        );
        assert_eq!(tc(&with(vec![ours.clone(), theirs]), true, true).level, Level::Ok);
    }

    #[test]
    fn a_running_agent_without_its_programs_fails_and_a_dead_one_does_not() {
        assert_eq!(tc(&eth0(), true, false).level, Level::Fail);
        assert_eq!(tc(&eth0(), false, false).level, Level::Ok);
        let down = InterfaceFacts { up: false, ..eth0() };
        assert_eq!(link(&down).advice.as_deref(), Some("ip link set eth0 up"));
    }
}
