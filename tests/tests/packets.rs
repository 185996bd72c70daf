//! Packet tables: every program over every kind of frame, and the same frames through the parser on the host, which
//! must agree on slot, class, reason and verdict.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use std::time::Duration;
use voice_agent::kernel::{Features, tables};
use voice_common::{Class, Hook, Reason, Verdict};
use voice_tests::{
    frame::{Extension, Frame, RTCP, RTP, STUN},
    programs::{Counted, Outcome, Programs, SLOTS},
};

/// The peer's port, outside the range.
const PEER: u16 = 40_000;
const UNBOUND: u16 = 50_000;
const OPEN: u16 = 50_010;
const BLOCKED: u16 = 50_020;
const SHADOW: u16 = 50_030;
const EXPIRED: u16 = 50_040;
const NO_SLOT: u16 = 50_050;

const OPEN_SLOT: u32 = 1;
const BLOCKED_SLOT: u32 = 2;
const SHADOW_SLOT: u32 = 3;
const EXPIRED_SLOT: u32 = 4;

fn programs(features: Features) -> Programs {
    let programs = Programs::load(features).unwrap();
    let tables = programs.tables();
    let now = tables::now();
    let hour = Duration::from_secs(3600);
    for (port, slot) in [
        (OPEN, OPEN_SLOT),
        (BLOCKED, BLOCKED_SLOT),
        (SHADOW, SHADOW_SLOT),
        (EXPIRED, EXPIRED_SLOT),
        (NO_SLOT, SLOTS + 1),
    ] {
        tables.set_port(port, slot);
    }
    tables.arm(BLOCKED_SLOT, now + hour, false);
    tables.arm(SHADOW_SLOT, now + hour, true);
    tables.arm(EXPIRED_SLOT, now, false);
    programs
}

/// The frame as `hook` sees it: with `port` on this node's side.
type Build<'a> = &'a dyn Fn(u16, u16) -> Frame;

fn at(hook: Hook, port: u16, build: Build<'_>) -> Vec<u8> {
    let frame = match hook {
        Hook::Xdp | Hook::TcIngress => build(PEER, port),
        Hook::TcEgress => build(port, PEER),
    };
    frame.bytes
}

fn check(programs: &mut Programs, what: &str, port: u16, build: Build<'_>, wanted: Result<Class, Reason>) {
    for hook in Hook::ALL {
        let frame = at(hook, port, build);
        let seen = programs.outcome(hook, &frame).unwrap();
        let context = format!("{what}, port {port}, at {}", hook.name());
        assert_eq!(
            seen,
            programs.expected(hook, &frame),
            "kernel and host: {context}"
        );
        assert_eq!(seen, outcome(hook, port, wanted), "{context}");
    }
}

/// What a datagram of this class on this port must do; with a reason, what everything else must do.
fn outcome(hook: Hook, port: u16, wanted: Result<Class, Reason>) -> Outcome {
    let (slot, class, verdict) = match (wanted, port) {
        (Err(reason), _) => return passed(hook, reason),
        (Ok(_), UNBOUND) => return passed(hook, Reason::Unbound),
        (Ok(_), NO_SLOT) => return passed(hook, Reason::NoSlot),
        (Ok(class), OPEN) => (OPEN_SLOT, class, Verdict::Pass),
        (Ok(class), BLOCKED) => (BLOCKED_SLOT, class, Verdict::Drop),
        (Ok(class), SHADOW) => (SHADOW_SLOT, class, Verdict::WouldDrop),
        (Ok(class), EXPIRED) => (EXPIRED_SLOT, class, Verdict::Pass),
        (Ok(_), _) => return passed(hook, Reason::OutOfRange),
    };
    let dropped = verdict == Verdict::Drop;
    let counted = (dropped || hook != Hook::Xdp).then_some(Counted::Room(slot, class, verdict));
    Outcome { dropped, counted }
}

/// XDP leaves the counting of what passes to TC, which sees it next.
fn passed(hook: Hook, reason: Reason) -> Outcome {
    let counted = (hook != Hook::Xdp).then_some(Counted::Reason(reason));
    Outcome {
        dropped: false,
        counted,
    }
}

const PORTS: [u16; 8] = [UNBOUND, OPEN, BLOCKED, SHADOW, EXPIRED, NO_SLOT, 49_999, 60_001];

/// Builds a frame around a payload, between two ports.
type Wrap = Box<dyn Fn(u16, u16, &[u8]) -> Frame>;

/// Every way a datagram can be wrapped that must be understood.
fn wrappings() -> Vec<(String, Wrap)> {
    let mut all: Vec<(String, Wrap)> = Vec::new();
    for tags in [
        &[][..],
        &[0x8100],
        &[0x88a8],
        &[0x88a8, 0x8100],
        &[0x8100, 0x8100],
    ] {
        for options in [0, 1, 5, 10] {
            let build = move |s, d, p: &[u8]| Frame::tagged(tags, 0x0800).ipv4(17, options, 0).udp(s, d, p);
            all.push((
                format!("tags {tags:x?}, {options} words of options"),
                Box::new(build),
            ));
        }
        let build = move |s, d, p: &[u8]| Frame::tagged(tags, 0x86dd).ipv6(&[], 17).udp(s, d, p);
        all.push((format!("tags {tags:x?}, IPv6"), Box::new(build)));
    }
    let first = |s, d, p: &[u8]| Frame::ethernet(0x0800).ipv4(17, 0, 0x2000).udp(s, d, p);
    all.push(("first IPv4 fragment".into(), Box::new(first)));
    for (name, extensions) in extension_chains() {
        let build = move |s, d, p: &[u8]| Frame::ethernet(0x86dd).ipv6(&extensions, 17).udp(s, d, p);
        all.push((name, Box::new(build)));
    }
    all
}

fn extension_chains() -> Vec<(String, Vec<Extension>)> {
    let mut chains: Vec<(String, Vec<Extension>)> = [0, 43, 60, 135, 139, 140, 51]
        .map(|number| (format!("extension {number}"), vec![Extension::new(number, 0)]))
        .into();
    chains.push(("first IPv6 fragment".into(), vec![Extension::fragment(1)]));
    chains.push(("extension of 64 bytes".into(), vec![Extension::new(60, 7)]));
    chains.push(("authentication of 24 bytes".into(), vec![Extension::new(51, 4)]));
    for n in 1..=6 {
        chains.push((format!("{n} extensions"), vec![Extension::new(60, 0); n]));
    }
    chains
}

#[test]
fn every_wrapping_of_a_datagram_is_understood_by_every_program_and_by_the_host() {
    let mut programs = programs(Features::detect());
    for (what, build) in wrappings() {
        for port in PORTS {
            check(
                &mut programs,
                &what,
                port,
                &|s, d| build(s, d, RTP),
                Ok(Class::Rtp),
            );
        }
    }
}

#[test]
fn an_older_kernels_programs_do_the_same() {
    let old = Features {
        tcx: false,
        frags: false,
    };
    let mut programs = programs(old);
    for (what, build) in wrappings() {
        for port in [OPEN, BLOCKED, SHADOW, EXPIRED] {
            check(
                &mut programs,
                &what,
                port,
                &|s, d| build(s, d, RTP),
                Ok(Class::Rtp),
            );
        }
    }
}

#[test]
fn a_payload_is_classed_by_its_first_two_bytes() {
    let mut programs = programs(Features::detect());
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
        for port in PORTS {
            let what = format!("payload {payload:x?}");
            check(
                &mut programs,
                &what,
                port,
                &|s, d| Frame::plain4(s, d, payload),
                Ok(class),
            );
            let padded: Build<'_> = &|s, d| Frame::plain4(s, d, payload).padded();
            check(&mut programs, &what, port, padded, Ok(class));
        }
    }
}

/// Builds a frame between two ports.
type Headers = Box<dyn Fn(u16, u16) -> Frame>;

#[test]
fn what_is_not_understood_passes_even_on_a_blocked_port_and_its_reason_is_counted() {
    let mut programs = programs(Features::detect());
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
        check(&mut programs, what, BLOCKED, build, Err(*reason));
    }
}

fn short_ipv4_header(src: u16, dst: u16) -> Frame {
    let mut frame = Frame::plain4(src, dst, RTP);
    frame.bytes[14] = 0x44;
    frame
}

#[test]
fn a_frame_cut_off_at_any_length_passes_until_its_udp_header_is_whole() {
    let mut programs = programs(Features::detect());
    for (what, build) in wrappings() {
        for hook in Hook::ALL {
            let whole = at(hook, BLOCKED, &|s, d| build(s, d, RTP));
            let headers = whole.len() - RTP.len();
            for len in 0..=whole.len() {
                let cut = &whole[..len];
                assert_eq!(
                    programs.judge(hook, cut).is_ok(),
                    len >= headers,
                    "{what} cut to {len}"
                );
                if !Programs::runs(hook, cut) {
                    continue;
                }
                let seen = programs.outcome(hook, cut).unwrap();
                assert_eq!(
                    seen,
                    programs.expected(hook, cut),
                    "{what} cut to {len} at {}",
                    hook.name()
                );
                assert_eq!(
                    seen.dropped,
                    len >= headers,
                    "{what} cut to {len} at {}",
                    hook.name()
                );
            }
        }
    }
}

#[test]
fn the_kill_switch_comes_before_every_drop_and_changes_nothing_else() {
    let mut programs = programs(Features::detect());
    programs.tables().set_kill_switch(true);
    for port in PORTS {
        let wanted = match port {
            BLOCKED | SHADOW => Err(Reason::KillSwitch),
            _ => Ok(Class::Rtp),
        };
        let build = |s, d| Frame::plain4(s, d, RTP);
        check(&mut programs, "kill switch", port, &build, wanted);
    }
    programs.tables().set_kill_switch(false);
    check(
        &mut programs,
        "off again",
        BLOCKED,
        &|s, d| Frame::plain4(s, d, RTP),
        Ok(Class::Rtp),
    );
}

#[test]
fn the_peers_port_never_decides() {
    let mut programs = programs(Features::detect());
    for hook in Hook::ALL {
        let frame = match hook {
            Hook::TcEgress => Frame::plain4(OPEN, BLOCKED, RTP),
            Hook::Xdp | Hook::TcIngress => Frame::plain4(BLOCKED, OPEN, RTP),
        };
        let seen = programs.outcome(hook, &frame.bytes).unwrap();
        assert_eq!(seen, outcome(hook, OPEN, Ok(Class::Rtp)));
    }
}

#[test]
fn a_verdict_ends_by_itself_at_its_deadline() {
    let mut programs = programs(Features::detect());
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

#[test]
fn the_verifier_needs_few_instructions() {
    for features in [
        Features::detect(),
        Features {
            tcx: false,
            frags: false,
        },
    ] {
        let counts = Programs::load(features).unwrap().verified().unwrap();
        for (program, instructions) in counts {
            println!("{program}: {instructions}");
            assert!(
                instructions < 50_000,
                "{program}: {instructions} verified instructions"
            );
        }
    }
}

/// Frames near the understood ones: a well-formed frame, a few bytes changed, cut off somewhere.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let wrapping = (0..wrappings().len()).no_shrink();
    let ports = (prop::sample::select(&PORTS[..]), prop::sample::select(&PORTS[..]));
    let changes = vec((0_usize..90, any::<u8>()), 0..4);
    (wrapping, ports, changes, 0.1_f64..1.2).prop_map(|(which, (src, dst), changes, keep)| {
        let mut bytes = wrappings()[which].1(src, dst, RTP).bytes;
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let keep = (bytes.len() as f64 * keep) as usize;
        bytes.truncate(keep);
        bytes
    })
}

#[test]
fn kernel_and_host_agree_on_whatever_comes() {
    let mut programs = programs(Features::detect());
    let frames = prop_oneof![3 => nearly_right(), 1 => vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let programs = std::cell::RefCell::new(&mut programs);
    let agree = |frame: Vec<u8>| {
        let mut programs = programs.borrow_mut();
        for hook in Hook::ALL.into_iter().filter(|hook| Programs::runs(*hook, &frame)) {
            let seen = programs
                .outcome(hook, &frame)
                .map_err(|e| TestCaseError::fail(format!("{e:#}")))?;
            prop_assert_eq!(seen, programs.expected(hook, &frame), "at {}", hook.name());
        }
        Ok(())
    };
    runner.run(&frames, agree).unwrap();
}
