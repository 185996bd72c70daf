//! The media range: sockets that no room has, and what the system may hand out of it.

use super::{Finding, Known};
use crate::{cli::text, config::Config, kernel::facts};
use std::{collections::BTreeSet, fs, ops::RangeInclusive};
use voice_room::Port;

pub(super) fn check(config: &Config, known: &Known) -> Vec<Finding> {
    let range = &config.kernel.ports;
    let open = facts::udp_sockets().map(|all| {
        let ports = all.into_iter().map(|s| s.port);
        ports.filter(|p| range.contains(&p.0)).collect::<BTreeSet<Port>>()
    });
    let sockets = match open {
        Ok(open) => sockets(&open, known.bound.as_ref()),
        Err(e) => Finding::warn("sockets", format!("cannot be listed: {e}"), "run doctor as root"),
    };
    let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let local = read("ip_local_port_range");
    vec![
        sockets,
        ephemeral(range, &local, &read("ip_local_reserved_ports")),
    ]
}

fn sockets(open: &BTreeSet<Port>, bound: Option<&BTreeSet<Port>>) -> Finding {
    let check = "sockets";
    let Some(bound) = bound else {
        let said = format!(
            "{} open in the media range; no pinned maps tell which are bound",
            open.len()
        );
        return Finding::info(check, said);
    };
    let unbound: Vec<u32> = open.difference(bound).map(|p| p.0.into()).collect();
    if unbound.is_empty() {
        let said = format!("{} open in the media range, all of bound rooms", open.len());
        return Finding::ok(check, said);
    }
    let shown: Vec<u32> = unbound.iter().take(20).copied().collect();
    let more = if unbound.len() > shown.len() { ", …" } else { "" };
    let (count, shown) = (unbound.len(), text::ports(&shown));
    let said = format!("{count} open in the media range that no room has: {shown}{more}");
    let advice = "their packets always pass; see who has them with `ss -ulpn`, and whether the media source tells of its rooms (`voice-agent topology`)";
    Finding::warn(check, said, advice)
}

fn ephemeral(media: &RangeInclusive<u16>, local: &str, reserved: &str) -> Finding {
    let check = "port range";
    let mut numbers = local.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (numbers.next(), numbers.next()) else {
        return Finding::warn(check, "ip_local_port_range cannot be read", "mount /proc");
    };
    let (from, to) = (*media.start(), *media.end());
    let said = format!("media {from}-{to}, ephemeral {first}-{last}");
    let is_reserved = |port: u16| {
        reserved.trim().split(',').any(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let parsed = low.parse().and_then(|low: u16| Ok(low..=high.parse()?));
            parsed.is_ok_and(|range| range.contains(&port))
        })
    };
    let mut overlap = from.max(first)..=to.min(last);
    if overlap.is_empty() {
        return Finding::ok(check, format!("{said}: apart"));
    }
    if overlap.all(is_reserved) {
        return Finding::ok(check, format!("{said}: the overlap is reserved"));
    }
    let advice = format!(
        "sysctl -w net.ipv4.ip_local_reserved_ports={from}-{to}: else other programs' sockets may get ports of a room, and are cut with it"
    );
    Finding::warn(check, format!("{said}: they overlap"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn an_open_socket_that_no_room_has_is_named() {
        let open = [Port(50_000), Port(50_001), Port(50_007)].into();
        let found = sockets(&open, Some(&[Port(50_000), Port(50_001)].into()));
        assert_eq!(found.level, Level::Warn);
        assert!(found.said.ends_with(": 50007"), "{}", found.said);
        assert_eq!(sockets(&open, Some(&open)).level, Level::Ok);
        assert_eq!(sockets(&open, None).level, Level::Info);
    }

    #[test]
    fn an_ephemeral_range_that_overlaps_the_media_range_warns_unless_it_is_reserved() {
        let media = 50_000..=60_000;
        let level = |local, reserved| ephemeral(&media, local, reserved).level;
        assert_eq!(level("32768\t60999\n", "\n"), Level::Warn);
        assert_eq!(level("32768\t60999\n", "1,50000-60000\n"), Level::Ok);
        assert_eq!(level("32768\t60999\n", "50000-59999\n"), Level::Warn);
        assert_eq!(level("32768\t49999\n", "\n"), Level::Ok);
        assert_eq!(level("", ""), Level::Warn);
    }
}
