//! What is open: of each room the block that grows, and the chapter. Takes ticks and says what is to be written. No disk here.

use super::{
    chapter::{self, Chapter},
    frame::{Frame, FrameWriter, Said},
};
use crate::{
    codec::{
        Malformed,
        row::Row,
        series::{Packed, Reader},
        varint,
    },
    snapshot::Tick,
};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use voice_room::RoomId;

/// Ticks of a full block: two and a half minutes of 5 s. What is open is in memory; longer ones would take more of it, and
/// shorter ones more of the disk.
pub(super) const LENGTH: u64 = 30;
// Readers look so far back for a block that holds a tick, and what a start needs is not older.
const _: () = assert!(LENGTH <= chapter::LENGTH);
/// A series grows by so many bytes; by doubling, a third of what is open would be empty.
const GROWTH: usize = 48;

/// A block of a room: its snapshots of consecutive ticks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) series: Vec<u8>,
}

impl Block {
    /// As it is stored: the count, and the series.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.series.len() + 2);
        varint::put(&mut out, self.count);
        out.extend_from_slice(&self.series);
        out
    }

    pub(super) fn decode(first: u64, mut bytes: &[u8]) -> Result<Block, Malformed> {
        let count = varint::take(&mut bytes)?;
        if count > chapter::LENGTH {
            return Err(Malformed("a block is longer than one can be"));
        }
        Ok(Block {
            first,
            count,
            series: bytes.into(),
        })
    }

    pub(super) fn rows(&self) -> Reader<'_> {
        Reader::new(&self.series, self.count)
    }
}

/// What a tick asks to be written, all or nothing.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) tick: u64,
    pub(super) frame: Vec<u8>,
    pub(super) blocks: Vec<(RoomId, Block)>,
    pub(super) chapter: Option<Chapter>,
}

/// A room's block that grows. There is one for each room, so every byte counts.
#[derive(Debug)]
struct Open {
    number: u64,
    first: u64,
    /// The last tick it is in; without a row nothing.
    last: u64,
    capacity: u64,
    writer: Packed,
    series: Vec<u8>,
}

impl Open {
    fn new(number: u64, first: u64, capacity: u64) -> Open {
        Open {
            number,
            first,
            last: first,
            capacity,
            writer: Packed::default(),
            series: Vec::new(),
        }
    }

    fn has_rows(&self) -> bool {
        !self.series.is_empty()
    }

    /// One more row. What it added is in `work` then.
    fn push(&mut self, row: &Row, work: &mut Work) {
        let mut writer = self.writer.writer();
        work.added.clear();
        writer.push(row, &mut work.added);
        self.writer.hold(&writer, &mut work.packed);
        if self.series.capacity() - self.series.len() < work.added.len() {
            self.series.reserve_exact(work.added.len().max(GROWTH));
        }
        self.series.extend_from_slice(&work.added);
    }

    fn block(&self) -> Block {
        Block {
            first: self.first,
            count: self.last - self.first + 1,
            series: self.series.clone(),
        }
    }

    /// Takes what it has, and begins anew behind it.
    fn close(&mut self) -> Block {
        let next = Open::new(self.number, self.last + 1, LENGTH);
        let closed = std::mem::replace(self, next);
        Block {
            first: closed.first,
            count: closed.last - closed.first + 1,
            series: closed.series,
        }
    }
}

/// Buffers of a tick.
#[derive(Debug, Default)]
struct Work {
    /// What a row added to its series.
    added: Vec<u8>,
    packed: Vec<u8>,
}

/// Everything that is open.
#[derive(Debug, Default)]
pub(super) struct Live {
    next: u64,
    rooms: HashMap<RoomId, Box<Open>>,
    last_number: u64,
    chapter: Chapter,
    /// Closed, and perhaps not in the tables yet.
    closing: Vec<(RoomId, Block)>,
    closing_chapter: Option<Chapter>,
}

impl Live {
    /// The first tick will be `next`.
    pub(super) fn new(next: u64) -> Live {
        Live {
            next,
            chapter: Chapter::beginning_at(next),
            ..Live::default()
        }
    }

    /// The first tick of the chapter that is open.
    pub(super) fn chapter_first(&self) -> u64 {
        self.chapter.first
    }

    /// Takes a tick. What it closes stays readable here until [`Live::written`].
    pub(super) fn take(&mut self, tick: &Tick) -> Written {
        let now = self.next;
        self.next += 1;
        let told = self
            .chapter
            .health
            .last()
            .is_none_or(|(_, last)| *last != tick.health);
        let mut frame = FrameWriter::new(tick.at, told.then_some(&tick.health));
        self.chapter.push(tick.at, &tick.health);
        let mut work = Work::default();
        for (room, row) in tick.rooms.rows() {
            let open = match self.rooms.get_mut(room) {
                Some(open) => open,
                None => {
                    self.last_number += 1;
                    let open = Open::new(self.last_number, now, staggered(room));
                    self.rooms.entry(room.clone()).or_insert(Box::new(open))
                }
            };
            let begins = !open.has_rows();
            if !begins && open.last == now {
                continue; // a room stands in a tick once
            }
            if begins {
                open.first = now;
            }
            open.last = now;
            open.push(&row, &mut work);
            if begins {
                frame.begins(open.number, room, open.capacity, &work.added);
            } else if !work.added.is_empty() {
                frame.differs(open.number, &work.added);
            }
            if now - open.first + 1 >= open.capacity {
                self.closing.push((room.clone(), open.close()));
            }
        }
        self.end_absent(now, &mut frame);
        if self.chapter.is_full() {
            let next = Chapter::beginning_at(self.next);
            self.closing_chapter = Some(std::mem::replace(&mut self.chapter, next));
        }
        Written {
            tick: now,
            frame: frame.done(),
            blocks: self.closing.clone(),
            chapter: self.closing_chapter.clone(),
        }
    }

    /// Blocks of rooms that are not in this tick end with the one before.
    fn end_absent(&mut self, now: u64, frame: &mut FrameWriter) {
        let closing = &mut self.closing;
        self.rooms.retain(|room, open| {
            // A block that was just closed begins with the next tick.
            let present = open.last == now || open.first == now + 1;
            if !present && open.has_rows() {
                frame.ends(open.number);
                closing.push((room.clone(), open.close()));
            }
            present
        });
    }

    /// What the last tick closed is in the tables.
    pub(super) fn written(&mut self) {
        self.closing.clear();
        self.closing_chapter = None;
    }

    /// The blocks of a room that may not be in the tables, oldest first.
    pub(super) fn blocks(&self, room: &RoomId) -> Vec<Block> {
        let closing = self
            .closing
            .iter()
            .filter(|(of, _)| of == room)
            .map(|(_, block)| block.clone());
        let open = self
            .rooms
            .get(room)
            .filter(|open| open.has_rows())
            .map(|open| open.block());
        closing.chain(open).collect()
    }

    /// The chapters that may not be in the tables, oldest first.
    pub(super) fn chapters(&self) -> impl Iterator<Item = &Chapter> {
        self.closing_chapter.iter().chain([&self.chapter])
    }
}

/// The length of a room's first block, so that later ones do not all end with the same tick.
fn staggered(room: &RoomId) -> u64 {
    let mut hasher = DefaultHasher::new();
    room.hash(&mut hasher);
    hasher.finish() % LENGTH + 1
}

/// What was open when the agent ended.
pub(super) struct Unclosed {
    pub(super) blocks: Vec<(RoomId, Block)>,
    /// Without a tick, if the last one filled a chapter.
    pub(super) chapter: Chapter,
    /// The tick that comes.
    pub(super) next: u64,
}

/// Closes what was open when the agent ended, from the frames of its last ticks.
#[derive(Debug, Default)]
pub(super) struct Replay {
    rooms: HashMap<u64, (RoomId, u64, Block)>,
    blocks: Vec<(RoomId, Block)>,
    chapter: Chapter,
    next: Option<u64>,
}

impl Replay {
    /// The chapter whose ticks are replayed is the one that begins here; those before it are in the tables.
    pub(super) fn new(chapter: u64) -> Replay {
        Replay {
            chapter: Chapter::beginning_at(chapter),
            ..Replay::default()
        }
    }

    /// The frame of a tick, in order.
    pub(super) fn take(&mut self, tick: u64, bytes: &[u8]) -> Result<(), Malformed> {
        if self.next.is_some_and(|next| next != tick) {
            return Err(Malformed("a tick is missing"));
        }
        let mut frame = Frame::read(bytes)?;
        if tick >= self.chapter.first {
            let last = self.chapter.health.last().map(|(_, health)| health.clone());
            let health = frame.health.take().or(last).unwrap_or_default();
            self.chapter.push(frame.at, &health);
        }
        for said in frame {
            self.said(tick, said?);
        }
        self.next = Some(tick + 1);
        // Full ones were written with the tick that filled them.
        self.rooms
            .retain(|_, (_, capacity, block)| tick - block.first + 1 < *capacity);
        Ok(())
    }

    fn said(&mut self, tick: u64, said: Said<'_>) {
        match said {
            Said::Begins {
                number,
                room,
                capacity,
                bytes,
            } => {
                let block = Block {
                    first: tick,
                    count: 1,
                    series: bytes.into(),
                };
                self.rooms.insert(number, (room, capacity, block));
            }
            // Of a block that began before the first frame, and was written since.
            Said::Differs { number, bytes } => {
                if let Some((_, _, block)) = self.rooms.get_mut(&number) {
                    block.series.extend_from_slice(bytes);
                }
            }
            // Written with this tick.
            Said::Ends { number } => drop(self.rooms.remove(&number)),
        }
    }

    /// What was open; `None`: there was no frame.
    pub(super) fn close(mut self) -> Option<Unclosed> {
        let next = self.next?;
        for (_, (room, _, mut block)) in self.rooms.drain() {
            block.count = next - block.first;
            self.blocks.push((room, block));
        }
        Some(Unclosed {
            blocks: self.blocks,
            chapter: self.chapter,
            next,
        })
    }
}

#[cfg(test)]
mod tests;
