//! Patrol: what a room is here, compared field by field with what store, registry and kernel hold of it. Values in,
//! differences out; who reads the places is not known here. Which differences count is in `rounds`.
//!
//! The records are small and their meanings are known, so each field is compared by its rule, not trees of JSON: a version
//! that is behind means something else than an owner that differs.

mod kernel;
mod registry;
pub mod rounds;
mod store;

pub(crate) use registry::claiming;
pub use rounds::{Ended, Round, Rounds, Standing};

use crate::{
    Binding, Epoch, Flow, Incarnation, Isolation, Mono, NodeName, OpId, Port, RoomId, SourceId, Ssrc, State,
    Version, Wall,
};
use alloc::{
    boxed::Box,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Where something is held besides here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The embedded store or Redis.
    Store,
    /// etcd.
    Registry,
    /// The pinned maps.
    Kernel,
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 3] = [Place::Store, Place::Registry, Place::Kernel];

    /// The name, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Place::Store => "store",
            Place::Registry => "registry",
            Place::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a difference asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Something that is under way ends it.
    Transient,
    /// This agent may write there, and what is here is right.
    Repairable,
    /// This agent may not write there, or cannot know what is right.
    Human,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 3] = [Class::Transient, Class::Repairable, Class::Human];

    /// The name, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Class::Transient => "transient",
            Class::Repairable => "repairable",
            Class::Human => "human",
        }
    }
}

/// Who is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// What this agent has in memory.
    Here,
    /// What is held there.
    There,
    /// Not known.
    Unknown,
}

/// A value, as JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Worth {
    /// It is not there.
    Nothing,
    /// A truth.
    Flag(bool),
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl Worth {
    pub(crate) fn text<T: ToString + ?Sized>(value: &T) -> Worth {
        Worth::Text(value.to_string())
    }
}

impl fmt::Display for Worth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Worth::Nothing => f.pad("nothing"),
            Worth::Flag(flag) => flag.fmt(f),
            Worth::Number(number) => number.fmt(f),
            Worth::Text(text) => f.pad(text),
        }
    }
}

/// One field that is not the same here and there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The room.
    pub room: RoomId,
    /// Where.
    pub place: Place,
    /// A JSON pointer (RFC 6901) into all that is held of the room: `/store/version`, `/kernel/ports/50002`.
    pub path: String,
    /// What it is here.
    pub here: Worth,
    /// What it is there.
    pub there: Worth,
    /// Who is right.
    pub right: Right,
    /// What it asks for.
    pub class: Class,
    /// Why, in words; for a person.
    pub why: String,
}

impl Difference {
    /// Whether it is the same finding: also its values are.
    pub fn is(&self, other: &Difference) -> bool {
        (&self.room, &self.path, &self.here, &self.there)
            == (&other.room, &other.path, &other.here, &other.there)
    }
}

/// A field that was read; `Err`: what stands there instead of a value of ours.
pub type Field<T> = Result<T, String>;

/// What the store holds of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSight {
    /// Its record.
    pub record: Stored,
    /// The highest epoch that has written.
    pub fence: Option<Field<Epoch>>,
    /// Its isolation, also one that has ended.
    pub isolation: Option<Field<Isolation>>,
}

/// A record, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// None.
    Nothing,
    /// Something that is not a record at all, in words.
    Foreign(String),
    /// One, field by field.
    Record(Box<Fields>),
}

/// The fields of a record. Ports, source and host are as old as the room's last change of state, so only whether they can
/// be read is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of `RoomRecord`")]
pub struct Fields {
    pub state: Field<State>,
    pub version: Field<Version>,
    pub epoch: Field<Epoch>,
    pub op_id: Field<OpId>,
    pub incarnation: Field<Incarnation>,
    pub owner: Field<NodeName>,
    pub since: Field<Wall>,
    pub data: Field<()>,
}

impl From<crate::RoomRecord> for Fields {
    fn from(record: crate::RoomRecord) -> Fields {
        Fields {
            state: Ok(record.state),
            version: Ok(record.version),
            epoch: Ok(record.epoch),
            op_id: Ok(record.op_id),
            incarnation: Ok(record.incarnation),
            owner: Ok(record.owner),
            since: Ok(record.since),
            data: Ok(()),
        }
    }
}

/// What the registry holds of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySight {
    /// Who owns it.
    pub owner: Option<Field<OwnerSeen>>,
    /// What is told of it.
    pub told: Option<Field<Told>>,
    /// More is on its way there.
    pub telling: bool,
    /// Where this agent's peers connect.
    pub address: String,
}

/// An owner, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerSeen {
    /// The node.
    pub node: NodeName,
    /// The epoch of its claim.
    pub epoch: Epoch,
}

/// What is told of a room in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of `command::Meta`")]
pub struct Told {
    pub incarnation: Incarnation,
    pub state: State,
    pub version: Version,
    pub epoch: Epoch,
    pub source: Option<SourceId>,
    pub address: String,
}

/// What the kernel's maps hold of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSight {
    /// Whose name the slot bears, and of which life; `None`: nobody's that is ours.
    pub name: Option<(RoomId, Incarnation)>,
    /// The slot's generation in its words, and the one it was given.
    pub generation: (u32, u32),
    /// The deadline word; 0: not armed.
    pub deadline: Mono,
    /// Its verdict counts only.
    pub shadow: bool,
    /// The CLI has lifted it, and the agent was not asked yet.
    pub released: bool,
    /// What leads to the slot, of all that should or that it was given.
    pub bound: Binding,
    /// Whom ports that should lead to the slot lead to instead, where that is known.
    pub elsewhere: Vec<(Port, RoomId)>,
}

/// What a room is here, for the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Here<'c> {
    /// Its record.
    pub record: &'c crate::RoomRecord,
    /// The epoch it is held under.
    pub epoch: Epoch,
    /// Its isolation, if that is this agent's to tell.
    pub isolation: Option<&'c Isolation>,
    /// The store is shared: records there are refreshed, and what is lost is put back with that.
    pub shares: bool,
}

/// What the kernel should have of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Which life.
    pub incarnation: Incarnation,
    /// All it is bound by.
    pub binding: Binding,
    /// The end of its cut, while one is in force.
    pub deadline: Option<Mono>,
    /// Shadow mode counts for it; until when is not kept here.
    pub shadow: bool,
    /// The kernel was not told yet, or has not answered.
    pub under_way: bool,
    /// The kernel refuses what it should be bound by.
    pub refused: bool,
}

/// What was read of a room; a place that was not asked, or did not answer, is not compared.
#[derive(Debug, Clone, Default)]
pub struct Sights {
    /// In the store.
    pub store: Option<StoreSight>,
    /// In the registry.
    pub registry: Option<RegistrySight>,
    /// In the maps; `Some(None)`: it has no slot.
    pub kernel: Option<Option<KernelSight>>,
}

/// A room of which store and registry are asked, and what it was then: what has changed since is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Which.
    pub room: RoomId,
    /// `None`: it is not held, or waits for the store. Then only the kernel is compared, and who keeps it from being held.
    pub(crate) settled: Option<(Version, Epoch)>,
}

impl Watched {
    /// Whether the store and the registry can be compared.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }
}

/// A repair that was decided: all that differs of a room in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The room.
    pub room: RoomId,
    /// Where.
    pub place: Place,
    /// Of the store: the version that stands there, if it can be read.
    pub stored: Option<Version>,
    /// Who decided it.
    pub actor: crate::timeline::Actor,
    /// Who waits for the store.
    pub reply: Option<crate::input::ReplyId>,
}

/// Collects the differences of one room in one place.
struct Finds<'c> {
    room: &'c RoomId,
    place: Place,
    found: Vec<Difference>,
}

/// What a difference means.
#[derive(Debug, Clone)]
struct Meaning {
    right: Right,
    class: Class,
    why: String,
}

impl Meaning {
    fn new(right: Right, class: Class, why: impl Into<String>) -> Meaning {
        let why = why.into();
        Meaning { right, class, why }
    }
}

impl Here<'_> {
    /// All of the room in a few words, where all of it differs.
    fn whole(&self) -> Worth {
        Worth::Text(format!("{}, version {}", self.record.state, self.record.version))
    }
}

impl<'c> Finds<'c> {
    fn new(room: &'c RoomId, place: Place) -> Finds<'c> {
        let found = Vec::new();
        Finds { room, place, found }
    }

    /// `path` begins with a slash, or is empty for all of it.
    fn add(&mut self, path: &str, here: Worth, there: Worth, meaning: &Meaning) {
        let Meaning { right, class, why } = meaning.clone();
        self.found.push(Difference {
            room: self.room.clone(),
            place: self.place,
            path: format!("/{}{path}", self.place),
            here,
            there,
            right,
            class,
            why,
        });
    }

    /// A field that can be read and is the same is no difference.
    fn field<T: PartialEq>(
        &mut self,
        path: &str,
        here: &T,
        there: &Field<T>,
        worth: impl Fn(&T) -> Worth,
        meaning: &Meaning,
    ) {
        let found = match there {
            Ok(there) if there == here => return,
            Ok(there) => worth(there),
            Err(raw) => Worth::text(raw),
        };
        self.add(path, worth(here), found, meaning);
    }
}

fn flow(flow: &Flow) -> String {
    pointer(&flow.to_string())
}

fn ssrc(ssrc: &Ssrc) -> String {
    pointer(&ssrc.to_string())
}

/// A name as one step of a JSON pointer.
fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
