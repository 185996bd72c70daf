//! A route, as rtnetlink tells it.

use super::{attribute, number, rule::Rule};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// linux/rtnetlink.h
const RTN_UNICAST: u8 = 1;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u32 = 254;

/// One way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network; unspecified for a default route.
    pub network: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// The source address it is for; `None`: any.
    pub source: Option<IpAddr>,
    /// The index of the interface it leaves by.
    pub device: u32,
    /// The routing table it is in.
    pub table: u32,
    /// The sources that the rule which leads to its table is for; `None`: any.
    pub from: Option<(IpAddr, u8)>,
}

impl Route {
    /// Whether a packet with this source address may take it, as far as rules say.
    pub fn is_for(&self, source: IpAddr) -> bool {
        self.from
            .is_none_or(|(network, length)| contains(network, length, source))
    }
}

/// Whether an address lies in a network.
fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let kept = |bits: u32| bits.saturating_sub(length.into());
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (n.to_bits() ^ a.to_bits()).checked_shr(kept(32)).unwrap_or(0) == 0,
        (IpAddr::V6(n), IpAddr::V6(a)) => {
            (n.to_bits() ^ a.to_bits()).checked_shr(kept(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// The routes that packets of this host's own sockets can take: each once for every rule that leads to its table.
pub(super) fn reached(routes: &[Route], rules: &[Rule]) -> Vec<Route> {
    let leads = |rule: &&Rule, route: &Route| {
        rule.v4 == route.network.is_ipv4() && rule.table.is_none_or(|table| table == route.table)
    };
    let mut reached: Vec<Route> = Vec::new();
    for route in routes {
        for rule in rules.iter().filter(|rule| leads(rule, route)) {
            let way = Route {
                from: rule.from,
                ..*route
            };
            if !reached.contains(&way) {
                reached.push(way);
            }
        }
    }
    reached
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.prefix, self.network) {
            (0, IpAddr::V4(_)) => f.write_str("the IPv4 default route"),
            (0, IpAddr::V6(_)) => f.write_str("the IPv6 default route"),
            (prefix, network) => write!(f, "the route to {network}/{prefix}"),
        }?;
        if self.table != RT_TABLE_MAIN {
            write!(f, " of table {}", self.table)?;
        }
        match self.from {
            Some((network, length)) => write!(f, " (by the rule for packets from {network}/{length})"),
            None if self.table != RT_TABLE_MAIN => f.write_str(" (a rule leads there)"),
            None => Ok(()),
        }
    }
}

/// struct rtmsg (family, destination length, source length, tos, table, protocol, scope, type, flags), then attributes.
/// One for each next hop.
pub(super) fn parse(answer: &[u8]) -> Vec<Route> {
    let Some(&[family, prefix, _, _, short, _, _, kind, f0, f1, f2, f3]) = answer.first_chunk::<12>() else {
        return Vec::new();
    };
    let attributes = answer.get(12..).unwrap_or_default();
    let v4 = i32::from(family) == libc::AF_INET;
    let any: IpAddr = if v4 {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let network = attribute(attributes, RTA_DST).and_then(address).unwrap_or(any);
    let dead = u32::from_ne_bytes([f0, f1, f2, f3]) & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0;
    if kind != RTN_UNICAST || dead || local(network) {
        return Vec::new();
    }
    let source = attribute(attributes, RTA_PREFSRC).and_then(address);
    let table = attribute(attributes, RTA_TABLE)
        .and_then(number)
        .unwrap_or(short.into());
    let single = attribute(attributes, RTA_OIF).and_then(number);
    let several = attribute(attributes, RTA_MULTIPATH).map_or_else(Vec::new, hops);
    let devices = single.into_iter().chain(several);
    let route = |device| Route {
        network,
        prefix,
        source,
        device,
        table,
        from: None,
    };
    devices.map(route).collect()
}

/// struct rtnexthop: length, flags, hops, interface index, then attributes.
fn hops(mut hops: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let Some(&[l0, l1, flags, _, i0, i1, i2, i3]) = hops.first_chunk::<8>() {
        if u32::from(flags) & (RTNH_F_DEAD | RTNH_F_LINKDOWN) == 0 {
            devices.push(u32::from_ne_bytes([i0, i1, i2, i3]));
        }
        let length = usize::from(u16::from_ne_bytes([l0, l1])).max(8);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    devices
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(*value.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*value.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Networks no media crosses.
fn local(network: IpAddr) -> bool {
    match network {
        IpAddr::V4(a) => a.is_loopback() || a.is_multicast(),
        IpAddr::V6(a) => a.is_loopback() || a.is_multicast() || a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, prefix: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![libc::AF_INET as u8, prefix, 0, 0, 254, 3, 0, kind, flags, 0, 0, 0];
        for (kind, value) in attributes {
            message.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
        }
        message
    }

    #[test]
    fn a_default_route_over_two_next_hops_is_two_ways_out() {
        let mut hops = Vec::new();
        for device in [3_u32, 7] {
            hops.extend([8, 0, 0, 0]);
            hops.extend(device.to_ne_bytes());
        }
        let routes = parse(&message(RTN_UNICAST, 0, 0, &[(RTA_MULTIPATH, &hops)]));
        assert_eq!(routes.iter().map(|r| r.device).collect::<Vec<_>>(), [3, 7]);
        assert_eq!(routes[0].to_string(), "the IPv4 default route");
    }

    #[test]
    fn a_route_names_its_network_and_the_address_it_is_for() {
        let attributes: [(u16, &[u8]); 3] = [
            (RTA_DST, &[10, 9, 0, 0]),
            (RTA_PREFSRC, &[10, 9, 0, 1]),
            (RTA_OIF, &[4, 0, 0, 0]),
        ];
        let routes = parse(&message(RTN_UNICAST, 16, 0, &attributes));
        assert_eq!(routes[0].to_string(), "the route to 10.9.0.0/16");
        assert_eq!(routes[0].source, Some([10, 9, 0, 1].into()));
    }

    #[test]
    fn local_dead_and_cut_off_routes_are_no_way_out() {
        let out: [(u16, &[u8]); 1] = [(RTA_OIF, &[4, 0, 0, 0])];
        assert!(parse(&message(2, 0, 0, &out)).is_empty());
        assert!(parse(&message(RTN_UNICAST, 0, RTNH_F_LINKDOWN as u8, &out)).is_empty());
        assert!(parse(&[1, 2]).is_empty());
    }

    #[test]
    fn a_table_is_a_way_out_only_where_a_rule_leads_to_it_and_only_for_the_sources_of_the_rule() {
        let route = |table: u32| Route {
            network: Ipv4Addr::UNSPECIFIED.into(),
            prefix: 0,
            source: None,
            device: 3,
            table,
            from: None,
        };
        let rule = |table, from| Rule {
            v4: true,
            table,
            from,
        };
        let media = Some(([10, 1, 0, 0].into(), 16));
        let rules = [rule(Some(254), None), rule(Some(100), media)];
        let ways = reached(&[route(254), route(100), route(200)], &rules);
        assert_eq!(
            ways.iter().map(|w| w.table).collect::<Vec<_>>(),
            [254, 100],
            "200 is nobody's"
        );
        let said = "the IPv4 default route of table 100 (by the rule for packets from 10.1.0.0/16)";
        assert_eq!(ways[1].to_string(), said);
        assert!(ways[1].is_for([10, 1, 2, 3].into()) && !ways[1].is_for([10, 2, 0, 1].into()));
        assert!(ways[0].is_for([10, 2, 0, 1].into()));
        let domain = reached(&[route(200)], &[rule(None, None)]);
        assert_eq!(domain.len(), 1, "l3mdev may lead to any");
        let v6 = Rule {
            v4: false,
            ..rule(None, None)
        };
        assert_eq!(reached(&[route(254)], &[v6]), []);
    }

    #[test]
    fn an_address_is_in_its_network_whatever_the_length() {
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(contains(v6("fd00::"), 8, v6("fd12::1")) && !contains(v6("fd00::"), 16, v6("fd12::1")));
        assert!(contains(v6("::"), 0, v6("1::1")) && contains([1, 2, 3, 4].into(), 32, [1, 2, 3, 4].into()));
        assert!(!contains([1, 2, 3, 4].into(), 32, [1, 2, 3, 5].into()));
        assert!(!contains([0, 0, 0, 0].into(), 0, v6("::1")), "another family");
    }
}
