//! Whether media can leave by an interface without our programs: what leaves there is not cut.

use super::{Finding, Known};
use crate::{
    config::Config,
    kernel::facts::{self, Route, UdpSocket},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use voice_room::Port;

pub(super) fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let read = facts::routes().and_then(|routes| Ok((routes, facts::udp_sockets()?)));
    let (routes, sockets) = match read {
        Ok(read) => read,
        Err(e) => {
            return vec![Finding::warn(
                "routes",
                format!("cannot be listed: {e}"),
                "run doctor as root",
            )];
        }
    };
    let mut covered = known.attached.clone();
    if covered.is_empty() {
        let chosen = facts::chosen(&config.kernel.interfaces).unwrap_or_default();
        covered = chosen.into_iter().map(|(index, _)| index).collect();
    }
    let none = BTreeSet::new();
    let bound = known.bound.as_ref().unwrap_or(&none);
    vec![judge(&routes, &covered, &bound_sockets(&sockets, bound))]
}

/// The local addresses of the bound ports' sockets, each with one of its ports. Loopback never leaves.
fn bound_sockets(sockets: &[UdpSocket], bound: &BTreeSet<Port>) -> BTreeMap<IpAddr, Port> {
    let ours = sockets
        .iter()
        .filter(|s| bound.contains(&s.port) && !s.local.is_loopback());
    ours.map(|s| (s.local, s.port)).collect()
}

fn judge(routes: &[Route], covered: &BTreeSet<u32>, media: &BTreeMap<IpAddr, Port>) -> Finding {
    let check = "routes";
    let uncovered: Vec<&Route> = routes.iter().filter(|r| !covered.contains(&r.device)).collect();
    for route in &uncovered {
        let user = media.iter().find(|(local, _)| serves(route, **local));
        if let Some((local, Port(port))) = user {
            let device = facts::name(route.device);
            let said = format!(
                "media of bound port {port} ({local}) can leave by {device}, where our programs are not: {route}"
            );
            let advice = format!(
                "add {device} to kernel.interfaces; or, if no media goes there, bind the media server to an address of its own"
            );
            return Finding::fail(check, said, advice);
        }
    }
    if let Some(default) = uncovered.iter().find(|r| r.prefix == 0 && media.is_empty()) {
        let device = facts::name(default.device);
        let said =
            format!("no room is bound yet; {default} leaves by {device}, which is not among the interfaces");
        return Finding::warn(
            check,
            said,
            format!("if media goes there, add {device} to kernel.interfaces"),
        );
    }
    match media.len() {
        0 => Finding::ok(
            check,
            "no room is bound; the default routes leave by our interfaces",
        ),
        n => Finding::ok(
            check,
            format!("what {n} local media addresses send leaves by our interfaces"),
        ),
    }
}

/// Whether a socket with this local address can send by this route.
fn serves(route: &Route, local: IpAddr) -> bool {
    // An IPv6 socket for any address takes IPv4 too.
    let any = local.is_unspecified();
    let family = route.network.is_ipv4() == local.is_ipv4() || (any && local.is_ipv6());
    family && (any || (route.is_for(local) && route.source.is_none_or(|source| source == local)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    fn route(network: &str, prefix: u8, source: Option<&str>, device: u32) -> Route {
        Route {
            network: network.parse().unwrap(),
            prefix,
            source: source.map(|s| s.parse().unwrap()),
            device,
            table: 254,
            from: None,
        }
    }

    fn media(local: &str) -> BTreeMap<IpAddr, Port> {
        BTreeMap::from([(local.parse().unwrap(), Port(50_000))])
    }

    #[test]
    fn a_default_route_out_of_an_interface_without_our_programs_fails_for_bound_ports() {
        let routes = [
            route("10.0.0.0", 8, Some("10.0.0.1"), 2),
            route("0.0.0.0", 0, None, 900_001),
        ];
        let found = judge(&routes, &[2].into(), &media("10.0.0.1"));
        assert_eq!(found.level, Level::Fail);
        assert!(
            found.said.contains("50000") && found.said.contains("default route"),
            "{}",
            found.said
        );
        assert_eq!(
            judge(&routes, &[2, 900_001].into(), &media("10.0.0.1")).level,
            Level::Ok
        );
        assert_eq!(judge(&routes, &[2].into(), &BTreeMap::new()).level, Level::Warn);
    }

    #[test]
    fn a_network_of_another_address_matters_only_to_sockets_for_any_address() {
        let routes = [route("172.17.0.0", 16, Some("172.17.0.1"), 3)];
        assert_eq!(judge(&routes, &[2].into(), &media("10.0.0.1")).level, Level::Ok);
        assert_eq!(judge(&routes, &[2].into(), &media("0.0.0.0")).level, Level::Fail);
        assert_eq!(judge(&routes, &[2].into(), &media("::")).level, Level::Fail);
        assert_eq!(judge(&routes, &[2].into(), &media("fd00::1")).level, Level::Ok);
    }

    #[test]
    fn a_rule_that_sends_other_sources_elsewhere_concerns_no_socket_but_those_and_sockets_for_any_address() {
        let ruled = Route {
            table: 100,
            from: Some(("10.0.0.1".parse().unwrap(), 32)),
            ..route("0.0.0.0", 0, None, 900_001)
        };
        let found = judge(&[ruled], &[2].into(), &media("10.0.0.1"));
        assert_eq!(found.level, Level::Fail);
        assert!(
            found
                .said
                .contains("of table 100 (by the rule for packets from 10.0.0.1/32)"),
            "{}",
            found.said
        );
        assert_eq!(judge(&[ruled], &[2].into(), &media("10.0.0.2")).level, Level::Ok);
        assert_eq!(judge(&[ruled], &[2].into(), &media("0.0.0.0")).level, Level::Fail);
    }

    #[test]
    fn only_sockets_of_bound_ports_that_can_leave_the_host_count() {
        let socket = |port, local: &str| UdpSocket {
            port: Port(port),
            local: local.parse().unwrap(),
        };
        let all = [
            socket(50_000, "10.0.0.1"),
            socket(50_002, "127.0.0.1"),
            socket(53, "0.0.0.0"),
        ];
        let found = bound_sockets(&all, &[Port(50_000), Port(50_002)].into());
        assert_eq!(found, media("10.0.0.1"));
    }
}
