//! What must hold of every kernel's programs, frame by frame. Panics where it does not: for tests.

#![expect(clippy::unwrap_used, reason = "fails as tests do")]

use super::{BLOCKED, Build, OPEN, OPEN_SLOT, PEER, PORTS, SHADOW, check, outcome, wrappings};
use crate::{
    frame::{Extension, Frame, RTCP, RTP, STUN},
    programs::Programs,
};
use std::time::Duration;
use voice_agent::kernel::tables;
use voice_common::{Class, Hook, Reason};

/// Every wrapping of a datagram is understood by every program and by the host.
pub fn every_wrapping(programs: &mut Programs, ports: &[u16]) {
    for (what, build) in wrappings() {
        for &port in ports {
            check(programs, &what, port, &|s, d| build(s, d, RTP), Ok(Class::Rtp));
        }
    }
}

/// A payload is classed by its first two bytes.
pub fn payload_classes(programs: &mut Programs, ports: &[u16]) {
    let payloads: [(&[u8], Class); 12] = [
        (RTP, Class::Rtp),
        (RTCP, Class::Rtcp),
        (STUN, Class::Other),
        (&[0x80, 191], Class::Rtp),
        (&[0x80, 192], Class::Rtcp),
        (&[0xbf, 223], Class::Rtcp),
        (&[0xbf, 224], Class::Rtp),
        (&[127, 200], Class::Other),
        (&[192, 200], Class::Other),
        (&[22, 254, 253], Class::Other),
        (&[0x80], Class::Other),
        (&[], Class::Other),
    ];
    for (payload, class) in payloads {
        for &port in ports {
            let what = format!("payload {payload:x?}");
            check(
                programs,
                &what,
                port,
                &|s, d| Frame::plain4(s, d, payload),
                Ok(class),
            );
            let padded: Build<'_> = &|s, d| Frame::plain4(s, d, payload).padded();
            check(programs, &what, port, padded, Ok(class));
        }
    }
}

/// Builds a frame between two ports.
type Headers = Box<dyn Fn(u16, u16) -> Frame>;

/// What is not understood passes even on a blocked port, and its reason is counted.
pub fn not_understood(programs: &mut Programs) {
    let seven = vec![Extension::new(60, 0); 7];
    let later6 = [Extension::fragment(0x0008)];
    let cases: Vec<(&str, Reason, Headers)> = vec![
        (
            "ARP",
            Reason::NotIp,
            Box::new(|s, d| Frame::plain4(s, d, RTP).with_ethertype(0x0806)),
        ),
        (
            "three tags",
            Reason::NotIp,
            Box::new(|s, d| Frame::tagged(&[0x8100; 3], 0x0800).ipv4(17, 0, 0).udp(s, d, RTP)),
        ),
        (
            "IPv6 called IPv4",
            Reason::BadIp,
            Box::new(|s, d| Frame::plain6(s, d, RTP).with_ethertype(0x0800)),
        ),
        (
            "IPv4 called IPv6",
            Reason::BadIp,
            Box::new(|s, d| Frame::plain4(s, d, &[0; 40]).with_ethertype(0x86dd)),
        ),
        (
            "IPv4 header of 16 bytes",
            Reason::BadIp,
            Box::new(short_ipv4_header),
        ),
        (
            "TCP",
            Reason::NotUdp,
            Box::new(|s, d| Frame::ethernet(0x0800).ipv4(6, 0, 0).udp(s, d, RTP)),
        ),
        (
            "TCP over IPv6",
            Reason::NotUdp,
            Box::new(|s, d| Frame::ethernet(0x86dd).ipv6(&[], 6).udp(s, d, RTP)),
        ),
        (
            "ESP",
            Reason::NotUdp,
            Box::new(|s, d| Frame::ethernet(0x86dd).ipv6(&[], 50).udp(s, d, RTP)),
        ),
        (
            "later IPv4 fragment",
            Reason::LaterFragment,
            Box::new(|s, d| Frame::ethernet(0x0800).ipv4(17, 0, 0x2001).udp(s, d, RTP)),
        ),
        (
            "later IPv6 fragment",
            Reason::LaterFragment,
            Box::new(move |s, d| Frame::ethernet(0x86dd).ipv6(&later6, 17).udp(s, d, RTP)),
        ),
        (
            "seven extensions",
            Reason::TooManyExtensions,
            Box::new(move |s, d| Frame::ethernet(0x86dd).ipv6(&seven, 17).udp(s, d, RTP)),
        ),
    ];
    for (what, reason, build) in &cases {
        check(programs, what, BLOCKED, build, Err(*reason));
    }
}

fn short_ipv4_header(src: u16, dst: u16) -> Frame {
    let mut frame = Frame::plain4(src, dst, RTP);
    frame.bytes[14] = 0x44;
    frame
}

/// The kill switch comes before every drop and changes nothing else.
pub fn kill_switch(programs: &mut Programs) {
    programs.tables().set_kill_switch(true);
    for port in PORTS {
        let wanted = match port {
            BLOCKED | SHADOW => Err(Reason::KillSwitch),
            _ => Ok(Class::Rtp),
        };
        let build = |s, d| Frame::plain4(s, d, RTP);
        check(programs, "kill switch", port, &build, wanted);
    }
    programs.tables().set_kill_switch(false);
    check(
        programs,
        "off again",
        BLOCKED,
        &|s, d| Frame::plain4(s, d, RTP),
        Ok(Class::Rtp),
    );
}

/// The peer's port never decides.
pub fn peers_port(programs: &mut Programs) {
    for hook in Hook::ALL {
        let frame = match hook {
            Hook::TcEgress => Frame::plain4(OPEN, BLOCKED, RTP),
            Hook::Xdp | Hook::TcIngress => Frame::plain4(BLOCKED, OPEN, RTP),
        };
        let seen = programs.outcome(hook, &frame.bytes).unwrap();
        assert_eq!(seen, outcome(hook, OPEN, Ok(Class::Rtp)));
    }
}

/// A verdict ends by itself at its deadline.
pub fn deadline(programs: &mut Programs) {
    let frame = Frame::plain4(PEER, OPEN, RTP).bytes;
    let deadline = tables::now() + Duration::from_millis(300);
    programs.tables().arm(OPEN_SLOT, deadline, false);
    assert!(programs.run(Hook::Xdp, &frame).unwrap());
    // Times before each run: a drop after the deadline is certainly one if the run began after it.
    let mut begun = tables::now();
    while programs.run(Hook::Xdp, &frame).unwrap() {
        assert!(
            begun < deadline,
            "dropped {:?} after the deadline",
            begun.since(deadline)
        );
        begun = tables::now();
    }
    assert!(tables::now() >= deadline, "passed before the deadline");
}
