//! Everything that looks at an interface's packets, ours or not: XDP, TCX, qdiscs and their filters. In words, for bug reports;
//! reads only.

use super::{
    Features, attach,
    netlink::{CLSACT_SIDES, Link, Netlink, Tc},
    tcx,
};
use std::{fmt::Write as _, io};

/// The attachments of one interface, each in a line that begins with its name.
pub fn attachments(index: u32, name: &str) -> io::Result<String> {
    let netlink = Netlink::route()?;
    let mut text = xdp(name, netlink.link(index)?);
    if Features::detect().tcx {
        for (ingress, side) in [(true, "ingress"), (false, "egress")] {
            for (place, id) in tcx::programs(index, ingress)?.into_iter().enumerate() {
                let _ = writeln!(text, "{name} tc {side}: {}. {}", place + 1, attach::program(id));
            }
        }
    }
    for qdisc in netlink.qdiscs(index)? {
        let (kind, handle, parent) = (&qdisc.kind, words(qdisc.handle), words(qdisc.parent));
        let _ = writeln!(text, "{name} qdisc {kind} {handle} parent {parent}");
        let sides: &[(u32, &str)] = if kind == "clsact" {
            &CLSACT_SIDES
        } else {
            &[(qdisc.handle, "")]
        };
        for (parent, side) in sides {
            for filter in netlink.filters(index, *parent)? {
                let side = if side.is_empty() {
                    words(*parent)
                } else {
                    (*side).to_owned()
                };
                let _ = writeln!(text, "{}", filter_words(name, &side, &filter));
            }
        }
    }
    Ok(text)
}

fn xdp(name: &str, link: Link) -> String {
    match link.xdp {
        Some(id) => format!("{name} xdp {}: {}\n", link.xdp_mode(), attach::program(id)),
        None => format!("{name} xdp: none\n"),
    }
}

fn filter_words(name: &str, side: &str, filter: &Tc) -> String {
    let mut text = format!(
        "{name} filter prio {} handle {:#x} on {side}: {}",
        filter.priority, filter.handle, filter.kind
    );
    if let Some((program, id)) = &filter.program {
        let _ = write!(text, " {program} (id {id})");
    }
    text
}

/// MAJOR:MINOR in hexadecimal digits, as `tc` writes it.
fn words(handle: u32) -> String {
    format!("{:x}:{:x}", handle >> 16, handle & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_qdisc_and_no_xdp_program() {
        let text = attachments(1, "lo").unwrap();
        assert!(text.starts_with("lo xdp: none\n"), "{text}");
        assert!(attachments(u32::from(u16::MAX), "gone").is_err());
    }

    #[test]
    fn a_filter_is_told_with_its_place_and_its_program() {
        let filter = Tc {
            device: 1,
            handle: 0x7604,
            parent: CLSACT_SIDES[1].0,
            priority: 1,
            kind: "bpf".into(),
            program: Some(("voice_tc_egress".into(), 12)),
        };
        assert_eq!(
            filter_words("eth0", "clsact egress", &filter),
            "eth0 filter prio 1 handle 0x7604 on clsact egress: bpf voice_tc_egress (id 12)"
        );
        assert_eq!(words(0xffff_0000), "ffff:0");
    }
}
