//! Real packets over a veth pair: a blocked room is cut both ways, by TC and by XDP, and nobody else is.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use aya::programs::{LinkOrder, TcAttachType, XdpMode, tc::TcAttachOptions};
use nix::sys::socket::{setsockopt, sockopt};
use std::{net::UdpSocket, time::Duration};
use voice_agent::{
    config::XdpPolicy,
    kernel::{Features, KernelStatus, load},
};
use voice_room::Mono;
use voice_tests::{
    clock,
    netns::{NODE_DEV, NODE_IP, USER_DEV},
    node::{LIFE, Line, Node, expect_through, room},
    programs::{Programs, config},
};

const HOUR: Duration = Duration::from_secs(3600);
const N: u64 = 100;
const STUCK: u16 = 50_000;
const OPEN: u16 = 50_010;

/// A node with both rooms bound, and their lines.
fn two_rooms(xdp: XdpPolicy) -> (Node, Line, Line) {
    let mut node = Node::started(&config(&[], xdp)).unwrap();
    node.bind("stuck", STUCK).unwrap();
    node.bind("open", OPEN).unwrap();
    let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
    (node, stuck, open)
}

fn assert_cut(stuck: &Line, open: &Line) {
    expect_through(&[stuck, open], N, &[(0, 0), (N, N)]);
}

fn assert_open(stuck: &Line, open: &Line) {
    expect_through(&[stuck, open], N, &[(N, N), (N, N)]);
}

fn xdp(status: &KernelStatus) -> &str {
    &status.interfaces[0].xdp
}

#[test]
fn tc_cuts_a_blocked_room_both_ways_and_no_other() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Off);
    assert_open(&stuck, &open);
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    assert_eq!(xdp(&node.kernel().status()), "off");
    node.kernel().disarm(&room("stuck"));
    assert_open(&stuck, &open);
}

#[test]
fn xdp_alone_cuts_what_comes_in() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Always);
    assert_eq!(xdp(&node.kernel().status()), "native");
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    // The agent would attach again what is taken away now.
    node.stop();
    let index = node.pair.node.index(NODE_DEV).unwrap();
    for hook in ["tc-ingress", "tc-egress"] {
        std::fs::remove_file(node.pin_dir().join(format!("link-{hook}-{index}"))).unwrap();
    }
    stuck.wait_open_outwards();
    expect_through(&[&stuck, &open], N, &[(0, N), (N, N)]);
}

#[test]
fn xdp_comes_at_the_first_trip_and_not_before() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::OnTrip);
    assert_eq!(xdp(&node.kernel().status()), "on-trip (not yet)");
    let deadline = clock::now() + HOUR;
    node.kernel().arm(&room("open"), LIFE, true, deadline).unwrap();
    node.kernel().disarm(&room("open"));
    node.kernel().reconcile();
    assert_eq!(
        xdp(&node.kernel().status()),
        "on-trip (not yet)",
        "a shadow trip needs no XDP"
    );
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    let native = clock::poll(Duration::from_secs(5), || {
        (xdp(&node.kernel().status()) == "native").then_some(())
    });
    assert!(native.is_some(), "XDP never came: {:?}", node.kernel().status());
    assert_cut(&stuck, &open);
}

#[test]
fn another_xdp_program_stays_untouched_while_tc_cuts_and_status_names_it() {
    let mut node = Node::new().unwrap();
    let mut others = Programs::load(Features::detect()).unwrap();
    let index = node.pair.node.index(NODE_DEV).unwrap();
    let program = load::xdp(&mut others.loaded.ebpf, Features::detect().xdp()).unwrap();
    let id = program.info().unwrap().id();
    let link = node
        .pair
        .node
        .run(|| program.attach_to_if_index(index, XdpMode::Driver))
        .unwrap()
        .unwrap();
    node.start(&config(&[], XdpPolicy::Always)).unwrap();
    node.bind("stuck", STUCK).unwrap();
    let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    let status = node.kernel().status();
    assert!(xdp(&status).starts_with("occupied by voice_xdp"), "{status:?}");
    assert!(xdp(&status).ends_with(&format!("(id {id})")), "{status:?}");
    let shown = node
        .pair
        .node
        .ip(&format!("-d link show dev {NODE_DEV}"))
        .unwrap();
    assert!(shown.contains(&format!("prog/xdp id {id} ")), "{shown}");

    program.detach(link).unwrap();
    node.wait_status("ours, once the other is gone", |s| xdp(s) == "native");
    assert_cut(&stuck, &open);
}

#[test]
fn another_tc_program_ahead_of_ours_is_named() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Off);
    node.block("stuck", HOUR).unwrap();
    let mut others = Programs::load(Features::detect()).unwrap();
    let program = load::tc(&mut others.loaded.ebpf, load::TC_INGRESS).unwrap();
    let id = program.info().unwrap().id();
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    node.pair
        .node
        .run(|| program.attach_with_options(NODE_DEV, TcAttachType::Ingress, first))
        .unwrap()
        .unwrap();
    let ahead = format!("(id {id})");
    node.wait_status("the one ahead", |s| {
        let tc = &s.interfaces[0].tc_ingress;
        tc.starts_with("tcx, behind voice_tc") && tc.ends_with(&ahead)
    });
    assert_eq!(node.kernel().status().interfaces[0].tc_egress, "tcx");
    assert_cut(&stuck, &open);
}

#[test]
fn a_link_that_somebody_detached_comes_back_and_counts_as_a_repair() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Off);
    node.block("stuck", HOUR).unwrap();
    let index = node.pair.node.index(NODE_DEV).unwrap();
    std::fs::remove_file(node.pin_dir().join(format!("link-tc-ingress-{index}"))).unwrap();
    node.wait_status("the repair", |s| s.repairs == 1);
    assert_cut(&stuck, &open);
}

#[test]
fn an_interface_that_is_removed_and_made_again_is_attached_again() {
    for policy in [XdpPolicy::Off, XdpPolicy::Always] {
        let (mut node, stuck, open) = two_rooms(policy);
        node.block("stuck", HOUR).unwrap();
        let old = node.pair.node.index(NODE_DEV).unwrap();
        node.pair.node.delete(NODE_DEV).unwrap();
        node.wait_status("no interface", |s| s.interfaces.is_empty());
        node.pair.connect().unwrap();
        let new = node.pair.node.index(NODE_DEV).unwrap();
        assert_ne!(old, new);
        node.wait_status("the new interface", |s| {
            s.interfaces
                .iter()
                .any(|i| i.index == new && i.tc_ingress == "tcx" && i.tc_egress == "tcx")
        });
        assert_cut(&stuck, &open);
        let pins = std::fs::read_dir(node.pin_dir()).unwrap();
        let dead = pins.filter(|p| {
            p.as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with(&format!("-{old}"))
        });
        assert_eq!(dead.count(), 0, "pins of the old interface are gone");
    }
}

#[test]
fn shadow_counts_what_it_would_drop_and_lets_it_pass() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Always);
    let deadline = clock::now() + HOUR;
    node.kernel().arm(&room("stuck"), LIFE, true, deadline).unwrap();
    assert_open(&stuck, &open);
    let traffic = node.kernel().traffic().unwrap();
    let counts = |id: &str| {
        traffic
            .iter()
            .find(|t| t.room == room(id))
            .unwrap()
            .counts
            .clone()
    };
    let (shadowed, other) = (counts("stuck"), counts("open"));
    assert_eq!(
        (shadowed.passed, shadowed.would_drop, shadowed.dropped),
        (2 * N, 2 * N, 0)
    );
    assert_eq!((shadowed.rtp_in, shadowed.rtp_out), (N, N));
    assert_eq!((other.passed, other.would_drop, other.dropped), (2 * N, 0, 0));
}

#[test]
fn no_packet_is_counted_twice_with_xdp_and_tc_attached() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Always);
    assert_open(&stuck, &open);
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    let traffic = node.kernel().traffic().unwrap();
    let counts = |id: &str| {
        traffic
            .iter()
            .find(|t| t.room == room(id))
            .unwrap()
            .counts
            .clone()
    };
    assert_eq!((counts("stuck").passed, counts("stuck").dropped), (2 * N, 2 * N));
    assert_eq!((counts("open").passed, counts("open").dropped), (4 * N, 0));
}

#[test]
fn the_rtcp_port_above_is_cut_with_its_room() {
    let (mut node, _, open) = two_rooms(XdpPolicy::Off);
    let rtcp = node.line(STUCK + 1).unwrap();
    node.block("stuck", HOUR).unwrap();
    assert_cut(&rtcp, &open);
}

#[test]
fn the_segments_of_one_large_send_count_one_by_one() {
    let (mut node, _, _) = two_rooms(XdpPolicy::Off);
    let port = OPEN + 10;
    node.bind("segments", port).unwrap();
    let user = node.line(port + 10).unwrap();
    let socket = node
        .pair
        .node
        .run(|| UdpSocket::bind((NODE_IP, port)))
        .unwrap()
        .unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &100).unwrap();
    let mut media = [0; 1000];
    media[..2].copy_from_slice(&[0x80, 111]);
    socket.send_to(&media, user.user_addr).unwrap();
    let sent = |node: &mut Node| {
        let traffic = node.kernel().traffic().unwrap();
        traffic
            .iter()
            .find(|t| t.room == room("segments"))
            .unwrap()
            .counts
            .rtp_out
    };
    clock::wait_for("ten segments", Duration::from_secs(5), || {
        user.user.foreign() == 10
    });
    assert_eq!(sent(&mut node), 10);
    node.block("segments", HOUR).unwrap();
    socket.send_to(&media, user.user_addr).unwrap();
    let traffic = node.kernel().traffic().unwrap();
    let counts = &traffic
        .iter()
        .find(|t| t.room == room("segments"))
        .unwrap()
        .counts;
    assert_eq!((counts.rtp_out, counts.dropped), (10, 10));
}

#[test]
fn where_xdp_cannot_be_status_says_why_and_tc_is_there() {
    let mut node = Node::new().unwrap();
    // veth counts the frames its peer may send.
    node.pair.users.mtu(USER_DEV, 9000).unwrap();
    node.pair.node.mtu(NODE_DEV, 9000).unwrap();
    let no_frags = Features {
        frags: false,
        ..Features::detect()
    };
    node.start_with(&config(&["lo", NODE_DEV], XdpPolicy::Always), no_frags)
        .unwrap();
    let status = node.kernel().status();
    let words: Vec<_> = status
        .interfaces
        .iter()
        .map(|i| (i.name.as_str(), i.xdp.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            ("lo", "not supported by the driver; TC does the work"),
            (
                NODE_DEV,
                "not possible at this MTU with this driver and kernel; TC does the work"
            ),
        ]
    );
    assert!(
        status
            .interfaces
            .iter()
            .all(|i| i.tc_ingress == "tcx" && i.tc_egress == "tcx"),
        "{status:?}"
    );

    node.start(&config(&[NODE_DEV], XdpPolicy::Always)).unwrap();
    assert_eq!(
        xdp(&node.kernel().status()),
        "native",
        "frames of several buffers are no obstacle"
    );
}

#[tokio::test]
async fn the_first_drop_of_a_trip_is_told_once_for_each_direction() {
    let (mut node, stuck, open) = two_rooms(XdpPolicy::Always);
    let readable = node.kernel().drops_fd().unwrap();
    let deadline = clock::now() + HOUR;
    let armed = node.kernel().arm(&room("stuck"), LIFE, false, deadline).unwrap();
    assert_eq!(armed.ports, 1);
    assert_cut(&stuck, &open);
    let ready = tokio::time::timeout(Duration::from_secs(5), readable.readable());
    let mut ready = ready.await.expect("woken by the ring buffer").unwrap();
    let mut drops = node.kernel().first_drops();
    ready.clear_ready();
    drops.sort_by_key(|d| d.ingress);
    let told: Vec<_> = drops
        .iter()
        .map(|d| (d.room.as_str(), d.deadline, d.ingress))
        .collect();
    assert_eq!(told, [("stuck", deadline, false), ("stuck", deadline, true)]);
    assert!(
        drops.iter().all(|d| d.at >= armed.at && d.at < clock::now()),
        "{drops:?} after {armed:?}"
    );
    assert_cut(&stuck, &open);
    assert_eq!(node.kernel().first_drops(), []);

    let deadline: Mono = node.block("stuck", HOUR * 2).unwrap();
    assert_cut(&stuck, &open);
    let again = node.kernel().first_drops();
    assert!(
        again.len() == 2 && again.iter().all(|d| d.deadline == deadline),
        "{again:?}"
    );
}

#[test]
fn the_programs_log_of_a_first_drop_is_taken_by_the_verifier_and_changes_nothing() {
    let mut logging = config(&[], XdpPolicy::Always);
    logging.log = true;
    let mut node = Node::started(&logging).unwrap();
    node.bind("stuck", STUCK).unwrap();
    let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
}

#[test]
fn without_tcx_clsact_cuts_and_is_replaced_at_a_restart_and_removed_by_detach() {
    let old = Features {
        tcx: false,
        frags: false,
    };
    let mut node = Node::new().unwrap();
    let config = config(&[], XdpPolicy::Off);
    node.start_with(&config, old).unwrap();
    node.bind("stuck", STUCK).unwrap();
    let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
    node.block("stuck", HOUR).unwrap();
    assert_cut(&stuck, &open);
    assert_eq!(node.kernel().status().interfaces[0].tc_ingress, "clsact");

    let filters = |node: &Node, side: &str| {
        let mut tc = node.pair.node.command("tc");
        let shown = voice_tests::netns::run(tc.args(["filter", "show", "dev", NODE_DEV, side])).unwrap();
        let handle = format!("handle {:#x} ", 0x7600 | voice_common::ABI_VERSION);
        shown.matches(&handle).count()
    };
    for _ in 0..2 {
        node.start_with(&config, old).unwrap();
        assert_cut(&stuck, &open);
        assert_eq!((filters(&node, "ingress"), filters(&node, "egress")), (1, 1));
    }
    node.stop();
    assert_cut(&stuck, &open);
    let dir = node.instance_dir();
    let gone = node
        .pair
        .node
        .run(|| voice_agent::kernel::pinned::Pinned::detach(&dir))
        .unwrap()
        .unwrap();
    assert!(
        gone.iter().any(|pin| pin.contains("clsact-tc-ingress")),
        "{gone:?}"
    );
    assert_eq!((filters(&node, "ingress"), filters(&node, "egress")), (0, 0));
    assert_open(&stuck, &open);
}
