//! Packet tables of a shared port: whose packet it is, by flow, else by SSRC; kernel and host must agree.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use std::time::Duration;
use voice_agent::kernel::{Features, tables};
use voice_common::{Class, FlowKey, Hook, Owner, Reason, SsrcKey, Verdict, abi, mux};
use voice_tests::{
    frame::{Extension, Frame, RTCP, RTP, STUN},
    programs::{Counted, Outcome, Programs},
};

const SHARED: u16 = 50_060;
const ALSO_SHARED: u16 = 50_070;

/// Each room's slot and its user's port.
const OPEN: (u32, u16) = (1, 40_001);
const BLOCKED: (u32, u16) = (2, 40_002);
const SHADOW: (u32, u16) = (3, 40_003);
const EXPIRED: (u32, u16) = (4, 40_004);
const ROOMS: [(u32, u16); 4] = [OPEN, BLOCKED, SHADOW, EXPIRED];
/// A user of nobody.
const STRANGER: u16 = 40_009;
/// The SSRC of `RTP` and `RTCP`.
const SSRC: u32 = 7;

/// Both ends of the frames that `Frame` builds, as keys have them.
const ENDS: [[u8; 16]; 3] = [mux::mapped([10, 0, 0, 1]), mux::mapped([10, 0, 0, 2]), [0xfd; 16]];

fn flow(remote: [u8; 16], remote_port: u16) -> FlowKey {
    FlowKey {
        port: SHARED,
        remote_port,
        remote,
    }
}

fn ssrc(port: u16) -> SsrcKey {
    SsrcKey {
        ssrc: SSRC,
        port: port.into(),
    }
}

fn owner((slot, _): (u32, u16)) -> Owner {
    Owner { slot, generation: 0 }
}

/// A shared port with a flow for each room from every end, and another on which nothing is known.
fn programs() -> Programs {
    let mut programs = Programs::load(Features::detect()).unwrap();
    for room in ROOMS {
        for remote in ENDS {
            programs
                .marks()
                .set_flow(flow(remote, room.1), owner(room))
                .unwrap();
        }
    }
    let tables = programs.tables();
    tables.set_port(SHARED, abi::MUX);
    tables.set_port(ALSO_SHARED, abi::MUX);
    let now = tables::now();
    let hour = Duration::from_secs(3600);
    tables.arm(BLOCKED.0, now + hour, false);
    tables.arm(SHADOW.0, now + hour, true);
    tables.arm(EXPIRED.0, now, false);
    programs
}

type Build<'a> = &'a dyn Fn(u16, u16) -> Frame;

/// The frame as `hook` sees it, between a user's port and the node's.
fn at(hook: Hook, user: u16, node: u16, build: Build<'_>) -> Vec<u8> {
    match hook {
        Hook::Xdp | Hook::TcIngress => build(user, node).bytes,
        Hook::TcEgress => build(node, user).bytes,
    }
}

fn check(
    programs: &mut Programs,
    what: &str,
    ends: (u16, u16),
    build: Build<'_>,
    wanted: Result<(u32, Class), Reason>,
) {
    for hook in Hook::ALL {
        let frame = at(hook, ends.0, ends.1, build);
        let seen = programs.outcome(hook, &frame).unwrap();
        let context = format!("{what}, user and port {ends:?}, at {}", hook.name());
        assert_eq!(
            seen,
            programs.expected(hook, &frame),
            "kernel and host: {context}"
        );
        assert_eq!(seen, outcome(hook, wanted), "{context}");
    }
}

fn outcome(hook: Hook, wanted: Result<(u32, Class), Reason>) -> Outcome {
    let (dropped, counted) = match wanted {
        Err(reason) => (false, (hook != Hook::Xdp).then_some(Counted::Reason(reason))),
        Ok((slot, class)) => {
            let verdict = match slot {
                slot if slot == BLOCKED.0 => Verdict::Drop,
                slot if slot == SHADOW.0 => Verdict::WouldDrop,
                _ => Verdict::Pass,
            };
            let dropped = verdict == Verdict::Drop;
            let counts = dropped || hook != Hook::Xdp;
            (dropped, counts.then_some(Counted::Room(slot, class, verdict)))
        }
    };
    Outcome { dropped, counted }
}

/// Builds a frame around a payload.
type Wrap = fn(u16, u16, &[u8]) -> Frame;

const WRAPPINGS: [(&str, Wrap); 8] = [
    ("IPv4", Frame::plain4),
    ("IPv6", Frame::plain6),
    ("IPv4 with options", |s, d, p| {
        Frame::ethernet(0x0800).ipv4(17, 10, 0).udp(s, d, p)
    }),
    ("IPv4, one tag", |s, d, p| {
        Frame::tagged(&[0x8100], 0x0800).ipv4(17, 0, 0).udp(s, d, p)
    }),
    ("IPv4, two tags, options", |s, d, p| {
        Frame::tagged(&[0x88a8, 0x8100], 0x0800)
            .ipv4(17, 5, 0)
            .udp(s, d, p)
    }),
    ("IPv6, two tags", |s, d, p| {
        Frame::tagged(&[0x88a8, 0x8100], 0x86dd)
            .ipv6(&[], 17)
            .udp(s, d, p)
    }),
    ("IPv6, six extensions", |s, d, p| {
        Frame::ethernet(0x86dd)
            .ipv6(&[Extension::new(60, 0); 6], 17)
            .udp(s, d, p)
    }),
    ("first IPv4 fragment", |s, d, p| {
        Frame::ethernet(0x0800).ipv4(17, 0, 0x2000).udp(s, d, p)
    }),
];

#[test]
fn on_a_shared_port_a_packet_is_judged_by_the_room_of_its_flow_however_it_is_wrapped() {
    let mut programs = programs();
    for (what, wrap) in WRAPPINGS {
        for (payload, class) in [(RTP, Class::Rtp), (RTCP, Class::Rtcp), (STUN, Class::Other)] {
            for (slot, user) in ROOMS {
                let build: Build<'_> = &|s, d| wrap(s, d, payload);
                check(&mut programs, what, (user, SHARED), build, Ok((slot, class)));
            }
        }
    }
}

#[test]
fn an_unknown_flow_passes_and_is_counted_even_when_every_known_one_is_cut() {
    let mut programs = programs();
    let hour = Duration::from_secs(3600);
    for (slot, _) in ROOMS {
        programs.tables().arm(slot, tables::now() + hour, false);
    }
    for (what, wrap) in WRAPPINGS {
        let build: Build<'_> = &|s, d| wrap(s, d, RTP);
        let unknown = Err(Reason::MuxUnknown);
        check(&mut programs, what, (STRANGER, SHARED), build, unknown);
        // The same user on another port is another flow.
        check(&mut programs, what, (BLOCKED.1, ALSO_SHARED), build, unknown);
    }
}

#[test]
fn without_a_known_flow_the_ssrc_of_rtp_and_rtcp_tells_the_room() {
    let mut programs = programs();
    programs.marks().set_ssrc(ssrc(SHARED), owner(BLOCKED)).unwrap();
    for (what, wrap) in WRAPPINGS {
        for (payload, class) in [(RTP, Class::Rtp), (RTCP, Class::Rtcp)] {
            let build: Build<'_> = &|s, d| wrap(s, d, payload);
            check(
                &mut programs,
                what,
                (STRANGER, SHARED),
                build,
                Ok((BLOCKED.0, class)),
            );
            // The flow says more than the SSRC, which the sender chooses.
            check(&mut programs, what, (OPEN.1, SHARED), build, Ok((OPEN.0, class)));
            let unknown = Err(Reason::MuxUnknown);
            check(&mut programs, what, (STRANGER, ALSO_SHARED), build, unknown);
        }
    }
}

#[test]
fn what_has_no_whole_ssrc_is_nobodys() {
    let mut programs = programs();
    programs.marks().set_ssrc(ssrc(SHARED), owner(BLOCKED)).unwrap();
    let short: [&[u8]; 7] = [
        STUN,
        &[22, 254, 253],
        &[],
        &RTP[..2],
        &RTP[..11],
        &RTCP[..7],
        &RTP[..8],
    ];
    for payload in short {
        for padded in [false, true] {
            let build: Build<'_> = &|s, d| {
                let frame = Frame::plain4(s, d, payload);
                if padded { frame.padded() } else { frame }
            };
            let what = format!("{payload:x?}");
            check(
                &mut programs,
                &what,
                (STRANGER, SHARED),
                build,
                Err(Reason::MuxUnknown),
            );
        }
    }
}

#[test]
fn a_flow_or_ssrc_of_an_earlier_use_of_its_slot_never_cuts_the_room_that_has_the_slot_now() {
    let mut programs = programs();
    let old = Owner {
        generation: 9,
        ..owner(BLOCKED)
    };
    let nowhere = Owner {
        slot: 1 << 20,
        generation: 0,
    };
    for (mark, reason) in [(old, Reason::MuxStale), (nowhere, Reason::NoSlot)] {
        for remote in ENDS {
            programs.marks().set_flow(flow(remote, STRANGER), mark).unwrap();
        }
        programs.marks().set_ssrc(ssrc(ALSO_SHARED), mark).unwrap();
        for (what, wrap) in WRAPPINGS {
            let build: Build<'_> = &|s, d| wrap(s, d, RTP);
            for port in [SHARED, ALSO_SHARED] {
                check(&mut programs, what, (STRANGER, port), build, Err(reason));
            }
        }
    }
}

#[test]
fn the_sentinel_as_a_rooms_slot_leads_nowhere() {
    let mut programs = programs();
    let sentinel = Owner {
        slot: abi::MUX,
        generation: 0,
    };
    programs
        .marks()
        .set_flow(flow(ENDS[0], STRANGER), sentinel)
        .unwrap();
    let frame = Frame::plain4(STRANGER, SHARED, RTP).bytes;
    let seen = programs.outcome(Hook::TcIngress, &frame).unwrap();
    assert_eq!(seen, outcome(Hook::TcIngress, Err(Reason::NoSlot)));
}

#[test]
fn kernel_and_host_agree_on_whatever_comes_to_a_shared_port() {
    let mut programs = programs();
    programs.marks().set_ssrc(ssrc(SHARED), owner(BLOCKED)).unwrap();
    let ports = || select(vec![OPEN.1, BLOCKED.1, STRANGER, SHARED, ALSO_SHARED]);
    let payload = select(vec![RTP, RTCP, STUN]);
    let changes = vec((0_usize..110, any::<u8>()), 0..3);
    let frames = (
        0..WRAPPINGS.len(),
        ports(),
        ports(),
        payload,
        changes,
        0.2_f64..1.3,
    );
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let programs = std::cell::RefCell::new(&mut programs);
    type Case<'a> = (usize, u16, u16, &'a [u8], Vec<(usize, u8)>, f64);
    let agree = |(which, src, dst, payload, changes, keep): Case<'_>| {
        let mut frame = WRAPPINGS[which].1(src, dst, payload).bytes;
        for (at, value) in changes {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        let keep = (frame.len() as f64 * keep) as usize;
        frame.truncate(keep);
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
