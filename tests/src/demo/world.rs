//! Where the demo's media comes from: simulated media servers, or a real Janus. Both serve two rooms on one node, and
//! can tell afterwards which packet was sent and which arrived, and when.

mod janus;
mod simulated;

pub(super) use janus::JanusWorld;
pub(super) use simulated::Simulated;

use crate::{agent::Settings, netns::Netns};
use voice_room::Mono;

/// One of the two rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Stuck,
    Healthy,
}

/// A media node and its users.
pub(super) trait World {
    /// What it is, for the first line.
    fn scene(&self) -> String;
    /// The namespace of the media node, where the agent runs.
    fn node(&self) -> &Netns;
    /// The room's id.
    fn room(&self, which: Which) -> &str;
    /// What the agent must be told of it.
    fn settings(&self, settings: Settings) -> Settings;
    /// The agent is up: begin.
    fn begin(&mut self) -> anyhow::Result<()>;
    /// The stuck room's media server stops answering, while its users go on. Says what was done.
    fn break_stuck(&mut self) -> anyhow::Result<String>;
    /// Packets sent to a room and packets that arrived, so far; cheap.
    fn counts(&self, which: Which) -> (u64, u64);
    /// Once all has ended: packets sent to the healthy room, and how many of these arrived.
    fn healthy(&self) -> (u64, u64);
    /// Packets sent to the stuck room in `from..to`.
    fn sent_within(&self, from: Mono, to: Mono) -> u64;
    /// Packets of the stuck room that were sent at `from` or later and arrived before `to`.
    fn delivered_within(&self, from: Mono, to: Mono) -> u64;
    /// When the stuck room's first packet was sent at `t` or later.
    fn first_sent_from(&self, t: Mono) -> Option<Mono>;
    /// When the stuck room's first packet arrived at `t` or later.
    fn first_from(&self, t: Mono) -> Option<Mono>;
    /// The senders end, and everything under way arrives.
    fn end(&mut self);
}
