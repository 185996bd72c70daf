//! A route, as rtnetlink tells it.

use super::{attribute, number};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// linux/rtnetlink.h
const RTN_UNICAST: u8 = 1;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_MULTIPATH: u16 = 9;

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
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.prefix, self.network) {
            (0, IpAddr::V4(_)) => f.write_str("the IPv4 default route"),
            (0, IpAddr::V6(_)) => f.write_str("the IPv6 default route"),
            (prefix, network) => write!(f, "the route to {network}/{prefix}"),
        }
    }
}

/// struct rtmsg (family, destination length, source length, tos, table, protocol, scope, type, flags), then attributes.
/// One for each next hop.
pub(super) fn parse(answer: &[u8]) -> Vec<Route> {
    let Some(&[family, prefix, _, _, _, _, _, kind, f0, f1, f2, f3]) = answer.first_chunk::<12>() else {
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
    let single = attribute(attributes, RTA_OIF).and_then(number);
    let several = attribute(attributes, RTA_MULTIPATH).map_or_else(Vec::new, hops);
    let devices = single.into_iter().chain(several);
    let route = |device| Route {
        network,
        prefix,
        source,
        device,
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
}
