//! The one concrete core: takes inputs, keeps the rooms of this node, emits commands.

pub mod view;

use crate::{Command, Epoch, Input, Isolation, NodeName, Now, RoomId, Rules, input::Restored};
use alloc::vec::Vec;
pub use view::{BlockView, RoomView, StepState};

/// The rooms of this node.
#[derive(Debug)]
pub struct Core {}

impl Core {
    /// A core that owns its rooms under `epoch`, with what a start found. Agent start counts as progress of every room.
    pub fn new(_node: NodeName, _epoch: Epoch, _rules: Rules, _found: Restored, _now: Now) -> Core {
        Core {}
    }

    /// Takes one input. Collect the commands with [`Core::next_command`] afterwards.
    pub fn handle(&mut self, _now: Now, _input: Input) {}

    /// Judges every room. Call it every second: a gap longer than two heartbeats counts as ours, not the rooms'.
    pub fn tick(&mut self, _now: Now) {}

    /// The next thing to do.
    pub fn next_command(&mut self) -> Option<Command> {
        None
    }

    /// The isolation of a room, while it lasts.
    pub fn isolation(&self, _room: &RoomId, _now: Now) -> Option<&Isolation> {
        None
    }

    /// Every isolation that lasts.
    pub fn isolations(&self, _now: Now) -> Vec<Isolation> {
        Vec::new()
    }

    /// One room, as people see it.
    pub fn view(&self, _room: &RoomId, _now: Now) -> Option<RoomView> {
        None
    }

    /// Every room, sorted by id.
    pub fn views(&self, _now: Now) -> Vec<RoomView> {
        Vec::new()
    }
}
