//! The states of a room and the table of its transitions. What must hold for each is in `core::guard`.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Where a room is in its life. The names are wire names and stay as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Announced, no media yet.
    Created,
    /// Live: media is expected.
    Liveing,
    /// The host is gone; waits for the host's return or for the room to run empty.
    GraceClosing,
    /// Tripped: its media is cut and rejoins are refused until the isolation ends.
    Expired,
    /// Over. A later life is a new incarnation.
    Destroyed,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [State; 5] = [
        State::Created,
        State::Liveing,
        State::GraceClosing,
        State::Expired,
        State::Destroyed,
    ];

    /// The wire name.
    pub fn name(self) -> &'static str {
        match self {
            State::Created => "CREATED",
            State::Liveing => "LIVEING",
            State::GraceClosing => "GRACE_CLOSING",
            State::Expired => "EXPIRED",
            State::Destroyed => "DESTROYED",
        }
    }

    /// CREATED, LIVEING and GRACE_CLOSING are lives; EXPIRED and DESTROYED are ends.
    pub fn is_live(self) -> bool {
        matches!(self, State::Created | State::Liveing | State::GraceClosing)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What makes a room change its state. The names are wire names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the table below is the documentation of each")]
pub enum EventType {
    Create,
    Adopt,
    StartLive,
    HostDisconnect,
    HostReturn,
    NoActiveUser,
    Stuck,
    Release,
    IsolationOver,
    OwnerLost,
    Close,
    Restore,
}

impl EventType {
    /// Every event.
    pub const ALL: [EventType; 12] = [
        EventType::Create,
        EventType::Adopt,
        EventType::StartLive,
        EventType::HostDisconnect,
        EventType::HostReturn,
        EventType::NoActiveUser,
        EventType::Stuck,
        EventType::Release,
        EventType::IsolationOver,
        EventType::OwnerLost,
        EventType::Close,
        EventType::Restore,
    ];

    /// The wire name.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Create => "CREATE",
            EventType::Adopt => "ADOPT",
            EventType::StartLive => "START_LIVE",
            EventType::HostDisconnect => "HOST_DISCONNECT",
            EventType::HostReturn => "HOST_RETURN",
            EventType::NoActiveUser => "NO_ACTIVE_USER",
            EventType::Stuck => "STUCK",
            EventType::Release => "RELEASE",
            EventType::IsolationOver => "ISOLATION_OVER",
            EventType::OwnerLost => "OWNER_LOST",
            EventType::Close => "CLOSE",
            EventType::Restore => "RESTORE",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The state table. `None` is "no room of this name", which a DESTROYED room is too. RELEASE stands twice: a media
/// heartbeat decides which. RESTORE puts back what a store has lost: its owner's state does not change, and a store
/// that lost the whole record had none.
pub const TABLE: &[(Option<State>, EventType, State)] = {
    use {EventType as E, State as S};
    &[
        (None, E::Create, S::Created),
        (None, E::Adopt, S::Liveing),
        (Some(S::Created), E::StartLive, S::Liveing),
        (Some(S::Liveing), E::HostDisconnect, S::GraceClosing),
        (Some(S::GraceClosing), E::HostReturn, S::Liveing),
        (Some(S::GraceClosing), E::NoActiveUser, S::Destroyed),
        (Some(S::Liveing), E::Stuck, S::Expired),
        (Some(S::GraceClosing), E::Stuck, S::Expired),
        (Some(S::Expired), E::Release, S::Liveing),
        (Some(S::Expired), E::Release, S::Destroyed),
        (Some(S::Expired), E::IsolationOver, S::Destroyed),
        (Some(S::Created), E::OwnerLost, S::Expired),
        (Some(S::Liveing), E::OwnerLost, S::Expired),
        (Some(S::GraceClosing), E::OwnerLost, S::Expired),
        (Some(S::Created), E::Close, S::Destroyed),
        (Some(S::Liveing), E::Close, S::Destroyed),
        (Some(S::GraceClosing), E::Close, S::Destroyed),
        (None, E::Restore, S::Created),
        (None, E::Restore, S::Liveing),
        (None, E::Restore, S::GraceClosing),
        (None, E::Restore, S::Expired),
        (None, E::Restore, S::Destroyed),
        (Some(S::Created), E::Restore, S::Created),
        (Some(S::Liveing), E::Restore, S::Liveing),
        (Some(S::GraceClosing), E::Restore, S::GraceClosing),
        (Some(S::Expired), E::Restore, S::Expired),
    ]
};

/// Whether the table holds this transition.
pub fn allows(from: Option<State>, event: EventType, to: State) -> bool {
    let from = from.filter(|s| *s != State::Destroyed);
    TABLE.contains(&(from, event, to))
}

/// Whether the table holds `event` in `from` at all.
pub fn knows(from: Option<State>, event: EventType) -> bool {
    let from = from.filter(|s| *s != State::Destroyed);
    TABLE.iter().any(|row| row.0 == from && row.1 == event)
}
