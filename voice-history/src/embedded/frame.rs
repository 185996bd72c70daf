//! A frame: what one tick added, the unit that is written. Rooms that it does not name were as foreseen. Frames of the last
//! chapters are all that a start needs to close what was open.

use super::chapter::{put_health, take_health};
use crate::{
    codec::{Malformed, varint},
    snapshot::NodeHealth,
};
use voice_room::{RoomId, Wall};

const BEGINS: u64 = 0;
const DIFFERS: u64 = 1;
const ENDS: u64 = 2;

/// Writes a frame.
#[derive(Debug)]
pub(super) struct FrameWriter(Vec<u8>);

/// What a frame says of a room, by the number that it has while the agent runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'b> {
    /// A block begins, of so many rows at most.
    Begins {
        number: u64,
        room: RoomId,
        capacity: u64,
        bytes: &'b [u8],
    },
    /// Its row was not as foreseen.
    Differs { number: u64, bytes: &'b [u8] },
    /// It is not in this tick; its block ended with the one before.
    Ends { number: u64 },
}

impl FrameWriter {
    /// `health` is told when it is another than the tick's before.
    pub(super) fn new(at: Wall, health: Option<&NodeHealth>) -> FrameWriter {
        let mut out = Vec::with_capacity(1024);
        varint::put(&mut out, at.0);
        out.push(u8::from(health.is_some()));
        if let Some(health) = health {
            put_health(&mut out, health);
        }
        FrameWriter(out)
    }

    pub(super) fn begins(&mut self, number: u64, room: &RoomId, capacity: u64, bytes: &[u8]) {
        varint::put(&mut self.0, number << 2 | BEGINS);
        varint::put_bytes(&mut self.0, room.as_bytes());
        varint::put(&mut self.0, capacity);
        varint::put_bytes(&mut self.0, bytes);
    }

    pub(super) fn differs(&mut self, number: u64, bytes: &[u8]) {
        varint::put(&mut self.0, number << 2 | DIFFERS);
        varint::put_bytes(&mut self.0, bytes);
    }

    pub(super) fn ends(&mut self, number: u64) {
        varint::put(&mut self.0, number << 2 | ENDS);
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a frame.
#[derive(Debug)]
pub(super) struct Frame<'b> {
    pub(super) at: Wall,
    pub(super) health: Option<NodeHealth>,
    rest: &'b [u8],
}

impl<'b> Frame<'b> {
    pub(super) fn read(mut bytes: &'b [u8]) -> Result<Frame<'b>, Malformed> {
        let at = Wall(varint::take(&mut bytes)?);
        let (told, mut rest) = bytes.split_first().ok_or(Malformed("a frame is cut short"))?;
        let health = if *told == 1 {
            Some(take_health(&mut rest)?)
        } else {
            None
        };
        Ok(Frame { at, health, rest })
    }

    fn said(&mut self) -> Result<Said<'b>, Malformed> {
        let head = varint::take(&mut self.rest)?;
        let number = head >> 2;
        match head & 3 {
            BEGINS => {
                let room = std::str::from_utf8(varint::take_bytes(&mut self.rest)?).ok();
                let room = room.and_then(|text| RoomId::new(text).ok());
                Ok(Said::Begins {
                    number,
                    room: room.ok_or(Malformed("a room without a valid id"))?,
                    capacity: varint::take(&mut self.rest)?,
                    bytes: varint::take_bytes(&mut self.rest)?,
                })
            }
            DIFFERS => Ok(Said::Differs {
                number,
                bytes: varint::take_bytes(&mut self.rest)?,
            }),
            ENDS => Ok(Said::Ends { number }),
            _ => Err(Malformed("a frame says what none can")),
        }
    }
}

impl<'b> Iterator for Frame<'b> {
    type Item = Result<Said<'b>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let said = self.said();
        if said.is_err() {
            self.rest = &[];
        }
        Some(said)
    }
}
