//! Slots, ports and pins: who gets what, what is refused, what is repaired. No interface is needed.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking too")]

use aya::maps::{Array, Map, MapData};
use std::{net::UdpSocket, time::Duration};
use voice_agent::{
    config::{KernelConfig, XdpPolicy},
    kernel::{Features, Kernel, KernelError, pinned, tables::Tables},
};
use voice_room::{Incarnation, Port};
use voice_tests::{
    bpffs::{BpfFs, Scratch},
    clock,
    netns::Netns,
    node::{LIFE, Node, expect_through, room},
    programs::{SLOTS, config},
};

const HOUR: Duration = Duration::from_secs(3600);
const P: u16 = 50_000;

#[test]
fn a_slot_that_is_used_again_never_cuts_the_new_room() {
    let mut config = config(&[], XdpPolicy::Off);
    config.max_slots = 1;
    let mut node = Node::started(&config).unwrap();
    let (line, open) = (node.line(P).unwrap(), node.line(P + 10).unwrap());
    for round in 0..5 {
        let old = format!("old-{round}");
        node.bind(&old, P).unwrap();
        node.block(&old, HOUR).unwrap();
        expect_through(&[&line, &open], 20, &[(0, 0), (20, 20)]);
        node.kernel().unbind(&room(&old));
        let new = format!("new-{round}");
        node.bind(&new, P).unwrap();
        node.kernel().reconcile();
        expect_through(&[&line, &open], 20, &[(20, 20), (20, 20)]);
        let traffic = node.kernel().traffic().unwrap();
        assert_eq!(
            (traffic.len(), traffic[0].counts.passed, traffic[0].counts.dropped),
            (1, 40, 0)
        );
        node.kernel().unbind(&room(&new));
    }
}

#[test]
fn a_port_that_moves_to_another_room_is_not_cut_for_the_old_one() {
    let mut node = Node::started(&config(&[], XdpPolicy::Always)).unwrap();
    let (line, open) = (node.line(P).unwrap(), node.line(P + 10).unwrap());
    node.bind("old", P).unwrap();
    node.block("old", HOUR).unwrap();
    node.bind("new", P).unwrap();
    expect_through(&[&line, &open], 20, &[(20, 20), (20, 20)]);
    let armed = node
        .kernel()
        .arm(&room("old"), LIFE, false, clock::now() + HOUR)
        .unwrap();
    assert_eq!(armed.ports, 0, "nothing bound any more");
}

#[test]
fn a_new_life_of_a_room_is_not_cut_for_the_old_one_and_a_stale_arm_is_refused() {
    let mut node = Node::started(&config(&[], XdpPolicy::Off)).unwrap();
    let (line, open) = (node.line(P).unwrap(), node.line(P + 10).unwrap());
    node.bind("room", P).unwrap();
    node.block("room", HOUR).unwrap();
    node.kernel()
        .bind(&room("room"), Incarnation(2), &[Port(P)])
        .unwrap();
    expect_through(&[&line, &open], 20, &[(20, 20), (20, 20)]);
    let stale = node.block("room", HOUR).unwrap_err();
    assert!(matches!(stale, KernelError::OtherLife { .. }), "{stale}");
    expect_through(&[&line, &open], 20, &[(20, 20), (20, 20)]);
}

#[test]
fn a_room_without_ports_is_armed_and_cut_as_soon_as_it_gets_one() {
    let mut node = Node::started(&config(&[], XdpPolicy::Off)).unwrap();
    let armed = node
        .kernel()
        .arm(&room("room"), LIFE, false, clock::now() + HOUR)
        .unwrap();
    assert_eq!(armed.ports, 0);
    let (line, open) = (node.line(P).unwrap(), node.line(P + 10).unwrap());
    expect_through(&[&line, &open], 20, &[(20, 20), (20, 20)]);
    node.bind("room", P).unwrap();
    expect_through(&[&line, &open], 20, &[(0, 0), (20, 20)]);
}

/// A namespace with nothing but loopback, and a bpffs.
struct Bare {
    ns: Netns,
    fs: BpfFs,
}

impl Bare {
    fn new() -> Bare {
        Bare {
            ns: Netns::new("bare").unwrap(),
            fs: BpfFs::mount().unwrap(),
        }
    }

    fn start(&self, config: &KernelConfig) -> Result<Kernel, KernelError> {
        let dir = self.fs.path().join(format!("v{}", voice_common::ABI_VERSION));
        let start = || Kernel::start_with(config, &dir, Features::detect());
        self.ns.run(start).unwrap().map(|(kernel, _)| kernel)
    }

    fn tables(&self) -> Tables {
        let dir = self.fs.path().join(format!("v{}", voice_common::ABI_VERSION));
        pinned::tables(&dir).unwrap()
    }
}

#[test]
fn when_slots_run_out_the_next_room_is_refused_and_the_others_lose_nothing() {
    let bare = Bare::new();
    let mut kernel = bare.start(&config(&[], XdpPolicy::Off)).unwrap();
    for n in 0..SLOTS {
        let port = Port(P + 2 * u16::try_from(n).unwrap());
        kernel.bind(&room(&format!("r{n}")), LIFE, &[port]).unwrap();
    }
    let refused = kernel.bind(&room("late"), LIFE, &[Port(P)]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "room late gets no slot: all 6 are in use (kernel.max_slots)"
    );
    let status = kernel.status();
    assert_eq!(
        (status.slots_used, status.slots_max, status.ports_bound),
        (SLOTS, SLOTS, SLOTS)
    );
    kernel.unbind(&room("r3"));
    kernel.bind(&room("late"), LIFE, &[Port(P + 6)]).unwrap();
}

#[test]
fn after_a_restart_slots_nobody_bound_again_give_way_but_armed_ones_do_not() {
    let bare = Bare::new();
    let config = config(&[], XdpPolicy::Off);
    let mut kernel = bare.start(&config).unwrap();
    for n in 0..SLOTS {
        let port = Port(P + 2 * u16::try_from(n).unwrap());
        kernel.bind(&room(&format!("r{n}")), LIFE, &[port]).unwrap();
        if n < 2 {
            let deadline = clock::now() + HOUR;
            kernel
                .arm(&room(&format!("r{n}")), LIFE, false, deadline)
                .unwrap();
        }
    }
    drop(kernel);
    let mut kernel = bare.start(&config).unwrap();
    assert_eq!(kernel.status().slots_used, SLOTS);
    kernel.bind(&room("r5"), LIFE, &[Port(P + 10)]).unwrap();
    for n in 0..3 {
        kernel
            .bind(&room(&format!("new{n}")), LIFE, &[Port(P + 100 + 2 * n)])
            .unwrap();
    }
    let refused = kernel.bind(&room("new3"), LIFE, &[Port(P + 200)]).unwrap_err();
    assert!(matches!(refused, KernelError::SlotsFull { .. }), "{refused}");
    let mut rooms: Vec<String> = kernel
        .traffic()
        .unwrap()
        .iter()
        .map(|t| t.room.to_string())
        .collect();
    rooms.sort();
    assert_eq!(rooms, ["new0", "new1", "new2", "r0", "r1", "r5"]);
    assert_eq!(kernel.status().armed, 2);
}

#[test]
fn a_port_outside_the_range_is_refused_and_nothing_changes() {
    let bare = Bare::new();
    let mut kernel = bare.start(&config(&[], XdpPolicy::Off)).unwrap();
    let refused = kernel
        .bind(&room("room"), LIFE, &[Port(P), Port(49_999)])
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "room room: port 49999 is outside the media range 50000-60000 (kernel.ports)"
    );
    assert_eq!(kernel.status().slots_used, 0);
}

fn array<V: aya::Pod>(bare: &Bare, name: &str) -> Array<MapData, V> {
    let data = MapData::from_pin(
        bare.fs
            .path()
            .join(format!("v{}", voice_common::ABI_VERSION))
            .join(name),
    )
    .unwrap();
    Array::try_from(Map::Array(data)).unwrap()
}

#[test]
fn what_somebody_wrote_into_the_maps_is_repaired_and_counted() {
    let bare = Bare::new();
    let mut kernel = bare.start(&config(&[], XdpPolicy::Off)).unwrap();
    kernel.bind(&room("stuck"), LIFE, &[Port(P)]).unwrap();
    kernel.bind(&room("open"), LIFE, &[Port(P + 2)]).unwrap();
    let deadline = clock::now() + HOUR;
    kernel.arm(&room("stuck"), LIFE, false, deadline).unwrap();
    assert_eq!(kernel.reconcile(), [""; 0]);

    let tables = bare.tables();
    let (stuck, open) = (tables.port(P), tables.port(P + 2));
    tables.set_port(P, 0);
    tables.set_port(7, stuck);
    tables.arm(open, deadline, false);
    tables.disarm(stuck);

    let repaired = kernel.reconcile();
    assert_eq!(repaired.len(), 3, "{repaired:?}");
    assert_eq!(kernel.status().repairs, 3);
    assert_eq!((tables.port(P), tables.port(7)), (stuck, 0));
    assert_eq!(tables.room(stuck).deadline, deadline.0);
    assert_eq!(tables.room(open).deadline, 0);
    assert_eq!(kernel.reconcile(), [""; 0]);
}

#[test]
fn a_block_whose_room_cannot_be_told_rests_until_its_deadline() {
    let bare = Bare::new();
    let config = config(&[], XdpPolicy::Off);
    let mut kernel = bare.start(&config).unwrap();
    kernel.bind(&room("room"), LIFE, &[Port(P)]).unwrap();
    let deadline = clock::now() + Duration::from_millis(500);
    kernel.arm(&room("room"), LIFE, false, deadline).unwrap();
    let slot = bare.tables().port(P);
    drop(kernel);
    let mut info = array::<voice_common::RoomInfo>(&bare, "ROOM_INFO");
    let mut name = info.get(&slot, 0).unwrap();
    name.id[0] = b' ';
    info.set(slot, name, 0).unwrap();

    let mut kernel = bare.start(&config).unwrap();
    assert_eq!(kernel.reconcile(), [""; 0]);
    assert_eq!(bare.tables().room(slot).deadline, deadline.0, "still in force");
    clock::sleep_until(deadline);
    kernel.reconcile();
    assert_eq!(bare.tables().port(P), 0);
    for n in 0..SLOTS {
        kernel.bind(&room(&format!("r{n}")), LIFE, &[]).unwrap();
    }
}

#[test]
fn pins_of_another_shape_are_refused_by_name_and_left_alone() {
    let bare = Bare::new();
    let mut other = config(&[], XdpPolicy::Off);
    drop(bare.start(&other).unwrap());
    other.max_slots = SLOTS + 1;
    let refused = bare.start(&other).unwrap_err();
    let KernelError::PinShape { pin, found, expected } = &refused else {
        panic!("{refused}");
    };
    assert!(pin.ends_with("v4/ROOM_INFO"), "{}", pin.display());
    assert_eq!(
        found,
        "a Array map with key size 4, value size 80, max entries 7, flags 0x0"
    );
    assert_eq!(
        expected,
        "a Array map with key size 4, value size 80, max entries 8, flags 0x0 (kernel.max_slots is 7; with 6 it fits)"
    );
    assert!(
        refused.to_string().contains("`voice-agent kernel detach`"),
        "{refused}"
    );

    let pins = bare.fs.path().join(format!("v{}", voice_common::ABI_VERSION));
    std::fs::remove_file(pins.join("CONTROL")).unwrap();
    let counts = MapData::from_pin(pins.join("COUNTS")).unwrap();
    counts.pin(pins.join("CONTROL")).unwrap();
    let refused = bare.start(&config(&[], XdpPolicy::Off)).unwrap_err().to_string();
    assert!(refused.contains("v4/CONTROL is a PerCpuArray map"), "{refused}");
    let dead = voice_agent::kernel::pinned::Pinned::open(&pins)
        .unwrap_err()
        .to_string();
    assert!(dead.contains("v4/CONTROL is a PerCpuArray map"), "{dead}");
}

#[test]
fn without_a_bpffs_the_error_says_how_to_mount_one() {
    let ns = Netns::new("bare").unwrap();
    let scratch = Scratch::new("nofs").unwrap();
    let dir = scratch.path().join("voice-agent/v4");
    let start = || Kernel::start_with(&config(&[], XdpPolicy::Off), &dir, Features::detect());
    let refused = ns.run(start).unwrap().unwrap_err().to_string();
    assert!(refused.contains("`mount -t bpf bpf /sys/fs/bpf`"), "{refused}");
    assert!(refused.contains(&dir.display().to_string()), "{refused}");
    assert!(!dir.exists());
}

#[test]
fn a_configured_interface_that_does_not_exist_is_refused_with_those_that_do() {
    let bare = Bare::new();
    let refused = bare.start(&config(&["eth7"], XdpPolicy::Off)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "kernel.interfaces: there is no interface \"eth7\" here; there are: lo"
    );
}

#[test]
fn sockets_of_the_media_range_are_listed_sorted_and_those_outside_are_not() {
    let bare = Bare::new();
    let kernel = bare.start(&config(&[], XdpPolicy::Off)).unwrap();
    assert_eq!(kernel.sockets().unwrap(), []);
    let bind = |addr: &str| bare.ns.run(|| UdpSocket::bind(addr).unwrap()).unwrap();
    let open = [
        "127.0.0.1:50004",
        "[::1]:50002",
        "127.0.0.1:50000",
        "0.0.0.0:49999",
        "[::]:60001",
    ]
    .map(bind);
    assert_eq!(
        kernel.sockets().unwrap(),
        [Port(50_000), Port(50_002), Port(50_004)]
    );
    drop(open);
    assert_eq!(kernel.sockets().unwrap(), []);
}

#[test]
fn the_pin_directory_is_named_after_the_abi() {
    let paths = voice_agent::config::Paths {
        state: "/s".into(),
        run: "/r".into(),
        bpffs: "/b".into(),
    };
    assert_eq!(
        paths.pin_dir(),
        paths.pin_root().join(format!("v{}", voice_common::ABI_VERSION))
    );
}
