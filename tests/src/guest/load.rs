//! Whether this kernel takes the programs at all.

#![expect(clippy::unwrap_used, reason = "fails as tests do")]

use super::Stage;
use crate::{
    node::Node,
    programs::{Programs, config},
};
use voice_agent::{config::XdpPolicy, kernel::Features};
use voice_room::Port;

pub(super) static STAGE: Stage<()> = Stage {
    group: "load",
    begin: || (),
    checks: &[
        ("the verifier takes every program", |()| taken()),
        ("the verifier takes the programs of an older kernel too", |()| {
            taken_as_older();
        }),
        ("the verifier takes the programs with their log on", |()| {
            taken_with_log();
        }),
        ("the sockets of the media range are listed", |()| sockets()),
    ],
};

/// As few of the kernel's abilities as we know how to do with.
pub(super) const OLD: Features = Features {
    tcx: false,
    frags: false,
};

fn taken() {
    Programs::load(Features::detect()).unwrap();
}

fn taken_as_older() {
    Programs::load(OLD).unwrap();
}

fn taken_with_log() {
    let mut logging = config(&[], XdpPolicy::Always);
    logging.log = true;
    Node::started(&logging).unwrap();
}

fn sockets() {
    let mut node = Node::started(&config(&[], XdpPolicy::Off)).unwrap();
    let _line = node.line(50_000).unwrap();
    assert_eq!(node.kernel().sockets().unwrap(), [Port(50_000)]);
}
