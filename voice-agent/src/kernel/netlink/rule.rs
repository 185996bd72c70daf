//! A rule of policy routing (`ip rule`), as rtnetlink tells it: which packets look into which table.

use super::{attribute, number};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// linux/fib_rules.h
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_TABLE: u16 = 15;
const FRA_L3MDEV: u16 = 19;
/// linux/rtnetlink.h
const RT_TABLE_UNSPEC: u32 = 0;

/// One that packets of this host's own sockets may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) v4: bool,
    /// `None`: that of the packet's virtual routing domain (l3mdev), any that there is.
    pub(super) table: Option<u32>,
    /// Only packets from here; `None`: from anywhere.
    pub(super) from: Option<(IpAddr, u8)>,
}

/// struct `fib_rule_hdr` (family, destination length, source length, tos, table, 2 bytes, action, flags), then attributes.
/// Rules that lead to no table, and those for packets that come in by an interface, are none of ours.
pub(super) fn parse(answer: &[u8]) -> Option<Rule> {
    let &[family, _, length, _, short, _, _, action, f0, f1, f2, f3] = answer.first_chunk::<12>()?;
    let attributes = answer.get(12..).unwrap_or_default();
    let v4 = i32::from(family) == libc::AF_INET;
    let known = v4 || i32::from(family) == libc::AF_INET6;
    // Packets of local sockets come in by loopback, where rules are concerned.
    let forwarded = attribute(attributes, FRA_IIFNAME).is_some_and(|name| !name.starts_with(b"lo\0"));
    if !known || forwarded || action != FR_ACT_TO_TBL {
        return None;
    }
    let inverted = u32::from_ne_bytes([f0, f1, f2, f3]) & FIB_RULE_INVERT != 0;
    let source = attribute(attributes, FRA_SRC).and_then(address);
    let domain = attribute(attributes, FRA_L3MDEV).is_some_and(|on| on.first() == Some(&1));
    let table = attribute(attributes, FRA_TABLE)
        .and_then(number)
        .unwrap_or(short.into());
    Some(Rule {
        v4,
        table: Some(table).filter(|table| !domain && *table != RT_TABLE_UNSPEC),
        // "Not from there" may be from anywhere else.
        from: source.map(|source| (source, length)).filter(|_| !inverted),
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u8, action: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![
            libc::AF_INET as u8,
            0,
            length,
            0,
            254,
            0,
            0,
            action,
            flags,
            0,
            0,
            0,
        ];
        for (kind, value) in attributes {
            message.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn a_rule_names_its_table_and_the_sources_it_is_for() {
        let table = 1000_u32.to_ne_bytes();
        let attributes: [(u16, &[u8]); 2] = [(FRA_SRC, &[10, 1, 0, 0]), (FRA_TABLE, &table)];
        let rule = parse(&message(16, FR_ACT_TO_TBL, 0, &attributes)).unwrap();
        assert_eq!(
            (rule.table, rule.from),
            (Some(1000), Some(([10, 1, 0, 0].into(), 16)))
        );
        let inverted = parse(&message(16, FR_ACT_TO_TBL, 2, &attributes)).unwrap();
        assert_eq!(inverted.from, None, "any other source");
        assert_eq!(
            parse(&message(0, FR_ACT_TO_TBL, 0, &[])).unwrap().table,
            Some(254)
        );
    }

    #[test]
    fn rules_for_forwarded_packets_and_those_that_lead_nowhere_are_left_out() {
        let incoming: [(u16, &[u8]); 1] = [(FRA_IIFNAME, b"eth0\0")];
        assert_eq!(parse(&message(0, FR_ACT_TO_TBL, 0, &incoming)), None);
        let local: [(u16, &[u8]); 1] = [(FRA_IIFNAME, b"lo\0")];
        assert!(parse(&message(0, FR_ACT_TO_TBL, 0, &local)).is_some());
        assert_eq!(parse(&message(0, 6, 0, &[])), None, "blackhole");
        assert_eq!(parse(&[1, 2]), None);
    }
}
