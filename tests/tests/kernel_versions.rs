//! Beside the pins of another ABI version: an older one holds until its cuts are armed here, a newer one refuses a start. The
//! other version is this one under another number, which is all that a start looks at.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use std::{fs, path::PathBuf, time::Duration};
use voice_agent::{
    config::XdpPolicy,
    kernel::{Features, KernelError, pinned},
};
use voice_common::ABI_VERSION;
use voice_room::Mono;
use voice_tests::{
    netns::{self, NODE_DEV, Netns},
    node::{LIFE, Line, Node, expect_through, room},
    programs::config,
};

const HOUR: Duration = Duration::from_secs(3600);
const STUCK: u16 = 50_000;
const OPEN: u16 = 50_010;
const N: u64 = 50;
/// As on a kernel before 5.18 and 6.6.
const OLD_KERNEL: Features = Features {
    tcx: false,
    frags: false,
};

/// A node whose agent has ended, one room cut and one open.
struct Scene {
    node: Node,
    stuck: Line,
    open: Line,
    deadline: Mono,
    xdp: XdpPolicy,
    features: Features,
}

impl Scene {
    fn new(xdp: XdpPolicy, features: Features) -> Scene {
        let mut node = Node::new().unwrap();
        node.start_with(&config(&[], xdp), features).unwrap();
        node.bind("stuck", STUCK).unwrap();
        node.bind("open", OPEN).unwrap();
        let (stuck, open) = (node.line(STUCK).unwrap(), node.line(OPEN).unwrap());
        let deadline = node.block("stuck", HOUR).unwrap();
        node.stop();
        Scene {
            node,
            stuck,
            open,
            deadline,
            xdp,
            features,
        }
    }

    /// The pins become those of another version. Where they lie then.
    fn renumber(&self, version: u32) -> PathBuf {
        let other = self.node.instance_dir().join(format!("v{version}"));
        fs::rename(self.node.pin_dir(), &other).unwrap();
        other
    }

    /// Nothing of the others is told: no block, no port.
    fn start(&mut self) {
        let found = self
            .node
            .start_with(&config(&[], self.xdp), self.features)
            .unwrap();
        assert_eq!((found.blocks.len(), found.bindings.len()), (0, 0));
    }

    /// Cuts the room in our own maps, as a start does from the journal.
    fn cut(&mut self) {
        self.node.bind("stuck", STUCK).unwrap();
        self.node.bind("open", OPEN).unwrap();
        let deadline = self.deadline;
        let armed = self.node.kernel().arm(&room("stuck"), LIFE, false, deadline);
        assert_eq!(armed.unwrap().ports, 1);
    }

    /// In the agent's namespace: filters go by the names of interfaces.
    fn let_others_go(&mut self) -> Vec<String> {
        let node = Netns::existing(self.node.pair.node.name()).unwrap();
        let kernel = self.node.kernel();
        node.run(|| kernel.let_others_go()).unwrap().unwrap()
    }

    fn assert_cut(&self) {
        expect_through(&[&self.stuck, &self.open], N, &[(0, 0), (N, N)]);
    }

    fn assert_open(&self) {
        self.stuck.wait_open_inwards();
        self.stuck.wait_open_outwards();
        expect_through(&[&self.stuck, &self.open], N, &[(N, N), (N, N)]);
    }

    /// The filters of an ABI version at both sides.
    fn filters(&self, version: u32) -> [usize; 2] {
        let handle = format!("handle {:#x} ", 0x7600 | version);
        ["ingress", "egress"].map(|side| {
            let shown = self.tc(&format!("filter show dev {NODE_DEV} {side}"));
            shown.matches(&handle).count()
        })
    }

    fn tc(&self, args: &str) -> String {
        let mut tc = self.node.pair.node.command("tc");
        netns::run(tc.args(args.split_whitespace())).unwrap()
    }
}

fn carried_across(xdp: XdpPolicy) {
    let mut scene = Scene::new(xdp, Features::detect());
    let old = scene.renumber(ABI_VERSION - 1);
    let senders = [
        scene.stuck.user.sender(scene.stuck.node_addr, 1, 4000),
        scene.stuck.node.sender(scene.stuck.user_addr, 2, 4000),
    ];
    scene.start();
    scene.assert_cut();
    assert!(old.exists(), "the cut was not armed here yet");
    scene.cut();
    let gone = scene.let_others_go();
    let said = format!("programs and maps of ABI version {} removed", ABI_VERSION - 1);
    assert!(gone.len() == 1 && gone[0].contains(&said), "{gone:?}");
    assert!(!old.exists());
    let native = if xdp == XdpPolicy::Always { "native" } else { "off" };
    scene
        .node
        .wait_status("XDP as configured", |s| s.interfaces[0].xdp == native);
    drop(senders);
    scene.assert_cut();
    assert_eq!(scene.stuck.counts(), (0, 0), "leaked");
    assert_eq!(scene.let_others_go(), [""; 0]);
    scene.node.kernel().disarm(&room("stuck"));
    scene.assert_open();
}

#[test]
fn the_cut_of_an_older_version_leaks_no_packet_until_it_is_ours_through_tc() {
    carried_across(XdpPolicy::Off);
}

#[test]
fn the_cut_of_an_older_version_leaks_no_packet_until_it_is_ours_through_xdp_and_tc() {
    carried_across(XdpPolicy::Always);
}

#[test]
fn a_cut_of_an_older_version_that_nobody_arms_again_ends_with_it() {
    let mut scene = Scene::new(XdpPolicy::Always, Features::detect());
    scene.renumber(ABI_VERSION - 1);
    scene.start();
    scene.assert_cut();
    scene.let_others_go();
    scene.assert_open();
}

#[test]
fn without_tcx_the_filter_of_an_older_version_stays_beside_ours_until_the_cut_is_ours() {
    let mut scene = Scene::new(XdpPolicy::Off, OLD_KERNEL);
    let older = ABI_VERSION - 1;
    let old = scene.renumber(older);
    for side in ["ingress", "egress"] {
        let (index, handle) = (scene.node.pair.node.index(NODE_DEV).unwrap(), 0x7600 | older);
        let pin = old.join(format!("clsact-tc-{side}-{index}"));
        let at = format!("dev {NODE_DEV} {side} prio 1 handle");
        scene.tc(&format!(
            "filter add {at} {handle:#x} bpf da object-pinned {}",
            pin.display()
        ));
        scene.tc(&format!("filter del {at} {:#x} bpf", 0x7600 | ABI_VERSION));
    }
    scene.assert_cut();
    scene.start();
    assert_eq!(
        (scene.filters(older), scene.filters(ABI_VERSION)),
        ([1, 1], [1, 1])
    );
    scene.assert_cut();
    scene.cut();
    scene.let_others_go();
    assert_eq!(
        (scene.filters(older), scene.filters(ABI_VERSION)),
        ([0, 0], [1, 1])
    );
    scene.assert_cut();
    scene.node.kernel().disarm(&room("stuck"));
    scene.assert_open();
}

#[test]
fn below_a_newer_version_a_start_is_refused_in_words_and_its_cut_stays() {
    let mut scene = Scene::new(XdpPolicy::Off, Features::detect());
    let newer = scene.renumber(ABI_VERSION + 1);
    let config = config(&[], XdpPolicy::Off);
    let refused = scene.node.try_start(&config, Features::detect()).unwrap();
    let refused = refused.map(drop).unwrap_err();
    assert!(matches!(refused, KernelError::NewerLayout { .. }), "{refused}");
    let words = format!(
        "{} has the programs of a newer voice-agent attached (map layout {}, this one has {ABI_VERSION})",
        newer.display(),
        ABI_VERSION + 1
    );
    assert!(refused.to_string().starts_with(&words), "{refused}");
    assert!(
        refused.to_string().contains("`voice-agent kernel detach`"),
        "{refused}"
    );
    let looked = pinned::survey(&config, &scene.node.pin_dir()).unwrap_err();
    assert_eq!(looked.to_string(), refused.to_string());
    assert!(
        !scene.node.pin_dir().exists(),
        "a start that is refused makes nothing"
    );
    scene.assert_cut();
    fs::rename(&newer, scene.node.pin_dir()).unwrap();
    let found = scene.node.start(&config).unwrap();
    assert_eq!(found.blocks.len(), 1);
    scene.assert_cut();
}

#[test]
fn what_a_newer_version_left_that_could_not_attach_is_in_nobodys_way_and_goes() {
    let mut scene = Scene::new(XdpPolicy::Off, Features::detect());
    let newer = scene.renumber(ABI_VERSION + 1);
    for pin in fs::read_dir(&newer).unwrap() {
        let pin = pin.unwrap().path();
        if pin.file_name().unwrap().to_string_lossy().starts_with("link-") {
            fs::remove_file(pin).unwrap();
        }
    }
    scene.assert_open();
    scene.start();
    scene.let_others_go();
    assert!(!newer.exists());
    scene.cut();
    scene.assert_cut();
}

#[test]
fn detach_removes_every_version() {
    let mut scene = Scene::new(XdpPolicy::Always, Features::detect());
    scene.renumber(ABI_VERSION + 1);
    let instance = scene.node.instance_dir();
    let detach = || pinned::Pinned::detach(&instance).unwrap();
    let gone = scene.node.pair.node.run(detach).unwrap();
    assert_eq!(gone.len(), 9 + 3, "{gone:?}");
    assert!(!instance.exists());
    scene.assert_open();
    scene.start();
    scene.assert_open();
}
