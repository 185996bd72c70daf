//! Pins that are not as the agent left them: what a start refuses, what it says, and that nothing changes by it.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use aya::maps::MapInfo;
use std::{fs, path::Path, time::Duration};
use voice_agent::{
    config::XdpPolicy,
    kernel::{Features, KernelError, pinned},
};
use voice_room::Mono;
use voice_tests::{
    bytecode::{self, Kind, Program},
    netns::{NODE_DEV, USER_DEV},
    node::{Line, Node, expect_through},
    occupant::Occupant,
    pins::{self, Aside, Shape},
    programs::{SLOTS, config},
};

const HOUR: Duration = Duration::from_secs(3600);
const STUCK: u16 = 50_000;
const OPEN: u16 = 50_010;
const N: u64 = 20;

/// Every map that is pinned.
const MAPS: [&str; 9] = [
    "CONTROL",
    "PORT_SLOT",
    "ROOMS",
    "ROOM_INFO",
    "COUNTS",
    "HOOKS",
    "EVENTS",
    "FLOWS",
    "SSRCS",
];

const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LRU_HASH: u32 = 9;
const RINGBUF: u32 = 27;
const NUMA_NODE: u32 = 1 << 2;
const RDONLY_PROG: u32 = 1 << 7;

/// A node whose agent has ended, one room cut and one open.
struct Scene {
    node: Node,
    stuck: Line,
    open: Line,
    deadline: Mono,
}

impl Scene {
    fn new(xdp: XdpPolicy) -> Scene {
        let mut node = Node::started(&config(&[], xdp)).unwrap();
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
        }
    }

    fn aside(&self, name: &str) -> Aside {
        let aside = self.node.fs.path().join("aside");
        Aside::new(&self.node.pin_dir().join(name), &aside).unwrap()
    }

    /// A start is refused, and whoever only looks is told the same.
    fn refused(&self) -> KernelError {
        let config = config(&[], XdpPolicy::Off);
        let refused = self.node.try_start(&config, Features::detect()).unwrap();
        let refused = refused.map(drop).unwrap_err();
        let looked = pinned::survey(&config, &self.node.pin_dir()).unwrap_err();
        assert_eq!(looked.to_string(), refused.to_string());
        refused
    }

    /// Cut is what was cut, and nothing else.
    fn assert_unchanged(&self) {
        expect_through(&[&self.stuck, &self.open], N, &[(0, 0), (N, N)]);
    }

    /// The next start adopts the block as it was.
    fn assert_adopted(&mut self) {
        let found = self.node.start(&config(&[], XdpPolicy::Off)).unwrap();
        assert_eq!(found.blocks.len(), 1, "{found:?}");
        assert_eq!(found.blocks[0].deadline, self.deadline);
        self.assert_unchanged();
    }
}

fn shape(pin: &Path) -> Shape {
    let map = MapInfo::from_pin(pin).unwrap();
    Shape {
        kind: map.map_type().unwrap() as u32,
        key: map.key_size(),
        value: map.value_size(),
        entries: map.max_entries(),
        flags: map.map_flags(),
    }
}

/// Every way in which a map of this shape can have another.
fn others(healthy: Shape) -> Vec<(&'static str, Shape)> {
    let (kind, plain, flags) = match healthy.kind {
        HASH => (LRU_HASH, 0, 0),
        RINGBUF => (ARRAY, 0, NUMA_NODE),
        PERCPU_ARRAY => (ARRAY, 0, RDONLY_PROG),
        // Too large a value to have one for each CPU.
        _ if healthy.value > 32_768 => (LRU_HASH, 0, RDONLY_PROG),
        _ => (PERCPU_ARRAY, 0, if healthy.flags == 0 { RDONLY_PROG } else { 0 }),
    };
    let kinds = Shape {
        kind,
        flags: plain,
        key: healthy.key.max(4),
        // A hash takes no value of megabytes.
        value: healthy.value.clamp(8, 1 << 15),
        ..healthy
    };
    let entries = if healthy.kind == RINGBUF {
        healthy.entries * 2
    } else {
        healthy.entries + 1
    };
    let mut others = vec![
        ("type", kinds),
        ("entries", Shape { entries, ..healthy }),
        ("flags", Shape { flags, ..healthy }),
    ];
    // A ring buffer has neither, an array's key is a number.
    if healthy.kind != RINGBUF {
        others.push((
            "value",
            Shape {
                value: healthy.value + 8,
                ..healthy
            },
        ));
    }
    if healthy.kind == HASH {
        others.push((
            "key",
            Shape {
                key: healthy.key + 4,
                ..healthy
            },
        ));
    }
    others
}

fn numbers(shape: Shape) -> String {
    let Shape {
        key,
        value,
        entries,
        flags,
        ..
    } = shape;
    format!("key size {key}, value size {value}, max entries {entries}, flags {flags:#x}")
}

#[test]
fn a_map_of_another_shape_is_refused_by_name_with_both_shapes_and_the_cut_stays() {
    let mut scene = Scene::new(XdpPolicy::Always);
    for name in MAPS {
        let pin = scene.node.pin_dir().join(name);
        let healthy = shape(&pin);
        for (what, other) in others(healthy) {
            assert_ne!(other, healthy, "{name}: another {what}");
            let _aside = scene.aside(name);
            pins::pin(pins::map(other).unwrap(), &pin).unwrap();
            let refused = scene.refused();
            let KernelError::PinShape {
                pin: named,
                found,
                expected,
            } = &refused
            else {
                panic!("{name} of another {what}: {refused}");
            };
            assert_eq!(named, &pin, "another {what}");
            assert!(found.contains(&numbers(other)), "{name}, another {what}: {found}");
            assert!(
                expected.contains(&numbers(healthy)),
                "{name}, another {what}: {expected}"
            );
            assert!(
                refused.to_string().contains("`voice-agent kernel detach`"),
                "{refused}"
            );
            assert_eq!(shape(&pin), other, "{name} is left as it is");
        }
        scene.assert_unchanged();
    }
    scene.assert_adopted();
}

#[test]
fn what_is_no_map_under_the_name_of_one_is_refused_by_name_and_the_cut_stays() {
    let mut scene = Scene::new(XdpPolicy::Off);
    let program = Program::load(Kind::Tc, "foreign", &bytecode::answer(bytecode::TC_ACT_UNSPEC)).unwrap();
    let link = Occupant::attach(&scene.node.pair.users, USER_DEV).unwrap();
    for name in MAPS {
        let pin = scene.node.pin_dir().join(name);
        let puts: [(&str, &dyn Fn()); 4] = [
            ("is a program,", &|| pins::pin(&program, &pin).unwrap()),
            ("is a link of XDP on ", &|| pins::pin(&link, &pin).unwrap()),
            ("is a directory,", &|| fs::create_dir(&pin).unwrap()),
            ("is a symbolic link,", &|| {
                std::os::unix::fs::symlink("/nowhere", &pin).unwrap();
            }),
        ];
        for (words, put) in puts {
            let _aside = scene.aside(name);
            put();
            let refused = scene.refused();
            assert!(
                matches!(&refused, KernelError::PinShape { pin: named, .. } if *named == pin),
                "{refused}"
            );
            assert!(refused.to_string().contains(words), "{refused}");
            let dead = scene.node.pinned().map(drop);
            // The CLI does without first drops.
            assert!(dead.is_err(), "{name}: the CLI took it");
            assert!(pin.symlink_metadata().is_ok(), "{name} is left as it is");
        }
        scene.assert_unchanged();
    }
    scene.assert_adopted();
}

#[test]
fn maps_made_for_another_number_of_rooms_name_the_setting_that_fits_them() {
    let scene = Scene::new(XdpPolicy::Off);
    let mut other = config(&[], XdpPolicy::Off);
    other.max_slots = SLOTS + 3;
    let refused = pinned::survey(&other, &scene.node.pin_dir())
        .unwrap_err()
        .to_string();
    assert!(refused.contains("v4/ROOM_INFO is a Array map"), "{refused}");
    assert!(
        refused.contains("(kernel.max_slots is 9; with 6 it fits)"),
        "{refused}"
    );
}

#[test]
fn a_map_whose_pin_is_gone_is_made_anew_and_what_the_others_hold_is_not_lost() {
    for name in ["HOOKS", "EVENTS", "FLOWS", "SSRCS", "CONTROL", "COUNTS"] {
        let mut scene = Scene::new(XdpPolicy::Off);
        fs::remove_file(scene.node.pin_dir().join(name)).unwrap();
        scene.assert_unchanged();
        scene.assert_adopted();
    }
}

#[test]
fn without_the_tables_that_a_cut_needs_a_start_cuts_nobody() {
    for name in ["ROOMS", "PORT_SLOT"] {
        let mut scene = Scene::new(XdpPolicy::Off);
        fs::remove_file(scene.node.pin_dir().join(name)).unwrap();
        scene.assert_unchanged();
        scene.node.start(&config(&[], XdpPolicy::Off)).unwrap();
        expect_through(&[&scene.stuck, &scene.open], N, &[(N, N), (N, N)]);
        scene.node.bind("stuck", STUCK).unwrap();
        scene.node.block("stuck", HOUR).unwrap();
        scene.assert_unchanged();
    }
}

#[test]
fn a_link_pin_that_is_something_else_is_named_and_left_and_the_other_side_works() {
    let mut scene = Scene::new(XdpPolicy::Off);
    let index = scene.node.pair.node.index(NODE_DEV).unwrap();
    let theirs = Occupant::attach(&scene.node.pair.users, USER_DEV).unwrap();
    let name = format!("link-tc-ingress-{index}");
    let pin = scene.node.pin_dir().join(&name);
    {
        let _aside = scene.aside(&name);
        pins::pin(&theirs, &pin).unwrap();
        let survey = pinned::survey(&config(&[], XdpPolicy::Off), &scene.node.pin_dir()).unwrap();
        assert_eq!((survey.maps, survey.wrong_links.len()), (9, 1), "{survey:?}");
        scene.node.start(&config(&[], XdpPolicy::Off)).unwrap();
        let status = scene.node.kernel().status();
        let sides = &status.interfaces[0];
        assert_eq!(sides.tc_egress, "tcx");
        let said = format!("not attached: the pin {} is a link of XDP on ", pin.display());
        assert!(sides.tc_ingress.starts_with(&said), "{}", sides.tc_ingress);
        assert!(sides.tc_ingress.contains(&format!(
            "expected a link of TC ingress on the interface with index {index}"
        )));
        // The old link is still there, only under another name.
        scene.assert_unchanged();
        assert!(pin.exists(), "theirs is left as it is");
    }
    scene.node.kernel().reconcile();
    scene.node.wait_status("our own link is taken over again", |s| {
        s.interfaces[0].tc_ingress == "tcx"
    });
    scene.assert_unchanged();
    assert!(
        voice_tests::occupant::xdp_program(&scene.node.pair.users, USER_DEV)
            .unwrap()
            .is_some()
    );
}

#[test]
fn links_of_the_other_side_or_of_another_interface_get_none_of_our_programs() {
    let mut scene = Scene::new(XdpPolicy::Off);
    let (dir, index) = (
        scene.node.pin_dir(),
        scene.node.pair.node.index(NODE_DEV).unwrap(),
    );
    let [ingress, egress] = ["ingress", "egress"].map(|side| dir.join(format!("link-tc-{side}-{index}")));
    let swap = || {
        let aside = scene.node.fs.path().join("aside");
        fs::rename(&ingress, &aside).unwrap();
        fs::rename(&egress, &ingress).unwrap();
        fs::rename(&aside, &egress).unwrap();
    };
    swap();
    let config = config(&[], XdpPolicy::Off);
    let refused = scene
        .node
        .try_start(&config, Features::detect())
        .unwrap()
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(refused, KernelError::NothingAttached { .. }),
        "{refused}"
    );
    let said = refused.to_string();
    for (pin, found, wanted) in [(&ingress, "egress", "ingress"), (&egress, "ingress", "egress")] {
        let words = format!(
            "{} is a link of TC {found} on the interface with index {index}, expected a link of TC {wanted}",
            pin.display()
        );
        assert!(said.contains(&words), "{said}");
    }
    scene.assert_unchanged();
    swap();
    scene.assert_adopted();
    assert_eq!(scene.node.kernel().status().repairs, 0);
}

#[test]
fn a_pin_directory_that_is_none_is_refused_in_words_and_one_that_is_missing_is_made() {
    let node = Node::new().unwrap();
    let config = config(&[], XdpPolicy::Off);
    let start = || node.try_start(&config, Features::detect()).unwrap().map(drop);
    let map = pins::map(Shape {
        kind: ARRAY,
        key: 4,
        value: 8,
        entries: 1,
        flags: 0,
    })
    .unwrap();
    for at in [node.instance_dir(), node.pin_dir()] {
        pins::pin(&map, &at).unwrap();
        let refused = start().unwrap_err();
        assert!(matches!(refused, KernelError::NoPinDirectory { .. }), "{refused}");
        let words = format!(
            "{} is a map, not a directory; it is left as it is. Remove it",
            at.display()
        );
        assert!(refused.to_string().contains(&words), "{refused}");
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
    }
    fs::remove_dir(node.pin_dir()).unwrap();
    fs::remove_dir(node.instance_dir()).unwrap();
    assert_eq!(pinned::survey(&config, &node.pin_dir()).unwrap().maps, 0);
    assert!(!node.instance_dir().exists(), "looking makes nothing");
    start().unwrap();
    assert_eq!(pinned::survey(&config, &node.pin_dir()).unwrap().maps, MAPS.len());
}
