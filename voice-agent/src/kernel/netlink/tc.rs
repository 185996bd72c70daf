//! Queueing disciplines and their filters, as rtnetlink tells them: what else looks at an interface's packets.

use super::{attribute, number};

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// linux/pkt_cls.h
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// linux/pkt_sched.h
pub(in crate::kernel) const CLSACT_SIDES: [(u32, &str); 2] =
    [(0xffff_fff2, "clsact ingress"), (0xffff_fff3, "clsact egress")];

/// A qdisc, or a filter on one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kernel) struct Tc {
    /// The index of its interface.
    pub(in crate::kernel) device: u32,
    /// Of a qdisc: MAJOR:MINOR. Of a filter: its own.
    pub(in crate::kernel) handle: u32,
    /// What it hangs on.
    pub(in crate::kernel) parent: u32,
    /// A filter's place among others: the lowest first.
    pub(in crate::kernel) priority: u32,
    /// `fq_codel`, `clsact`, `bpf`, `matchall`, …
    pub(in crate::kernel) kind: String,
    /// The BPF program of a filter, by name and id.
    pub(in crate::kernel) program: Option<(String, u32)>,
}

/// struct tcmsg: family, 3 bytes, interface index, handle, parent, info; then attributes.
pub(super) fn parse(answer: &[u8]) -> Option<Tc> {
    let word = |at: usize| answer.get(at..).and_then(number);
    let attributes = answer.get(20..).unwrap_or_default();
    let text = |value: &[u8]| {
        let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default();
    let id = attribute(options, TCA_BPF_ID).and_then(number);
    let name = attribute(options, TCA_BPF_NAME).map(text).unwrap_or_default();
    let kind = text(attribute(attributes, TCA_KIND)?);
    Some(Tc {
        device: word(4)?,
        handle: word(8)?,
        parent: word(12)?,
        // The upper half is the priority, the lower the protocol.
        priority: word(16)? >> 16,
        program: id.filter(|_| kind == "bpf").map(|id| (name, id)),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_filter_names_its_priority_and_its_program() {
        let mut message = vec![0; 4];
        for word in [3_u32, 1, 0xffff_fff2, (49_152 << 16) | 3] {
            message.extend(word.to_ne_bytes());
        }
        let options = [
            attribute(TCA_BPF_NAME, b"drop_all\0"),
            attribute(TCA_BPF_ID, &7_u32.to_ne_bytes()),
        ];
        message.extend(
            [
                attribute(TCA_KIND, b"bpf\0"),
                attribute(TCA_OPTIONS, &options.concat()),
            ]
            .concat(),
        );
        let found = parse(&message).unwrap();
        assert_eq!(
            (found.device, found.parent, found.priority),
            (3, CLSACT_SIDES[0].0, 49_152)
        );
        assert_eq!(
            (found.kind.as_str(), found.program),
            ("bpf", Some(("drop_all".into(), 7)))
        );
        assert_eq!(parse(&message[..19]), None);
    }
}
