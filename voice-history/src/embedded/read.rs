//! Answers from the tables and from what is open. Work for one page is bounded; what cannot be read is counted and left out.

mod changes;
mod timeline;

use super::{Figures, Shared, keys, live::Block, tables::Era};
use crate::{
    codec::{Malformed, row},
    query::{
        Answer, Cursor, HealthAt, HistoryError, LAST_TRANSITIONS, MAX_PAGE, Moment, PathPage, PathQuestion,
        Question, Taken,
    },
    snapshot::Snapshot,
};
use std::{cell::Cell, sync::Arc};
use timeline::Timeline;
use voice_room::{RoomId, Wall};

/// Snapshots looked at for one page. The page ends there, with a cursor.
const MAX_SCAN: u64 = 1_000_000;

/// Reads the history while it is written. Calls block for as long as the disk takes.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// Everything as it was when a question came.
pub(super) struct View {
    eras: Arc<Vec<Era>>,
    /// Blocks of the asked room that may not be in the tables.
    open: Vec<Block>,
    timeline: Timeline,
    damaged: Cell<u32>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared }
    }

    /// What the history has done.
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// A room over a time.
    ///
    /// # Errors
    /// No such room, a range or cursor that is none, or the database is away.
    pub fn room(&self, question: &Question) -> Result<Answer, HistoryError> {
        let range = question.range.checked()?;
        let after = question.after.as_ref().map(tick_of).transpose()?;
        let view = self.view(Some(&question.room))?;
        let mut answer = Answer::default();
        view.snapshots(question, after, &mut answer)?;
        if after.is_none() {
            answer.transitions = view.changes_of(&question.room, range)?;
            answer.health = view.timeline.health(&view.eras, range, &view.damaged);
            if answer.snapshots.is_empty() && answer.transitions.is_empty() && answer.next.is_none() {
                view.must_know(&question.room)?;
            }
        }
        answer.damaged = self.told(&view);
        Ok(answer)
    }

    /// A room as it was at a moment.
    ///
    /// # Errors
    /// As [`Reader::room`].
    pub fn at(&self, room: &RoomId, at: Wall) -> Result<Moment, HistoryError> {
        let view = self.view(Some(room))?;
        let found = view.last_until(room, at)?;
        let transitions = view.last_changes(room, at, LAST_TRANSITIONS)?;
        if found.is_none() && transitions.is_empty() {
            view.must_know(room)?;
        }
        let health = found
            .as_ref()
            .and_then(|(tick, _)| view.timeline.health_at(&view.eras, *tick, &view.damaged));
        self.told(&view);
        Ok(Moment {
            snapshot: found.map(|(_, taken)| taken),
            health: health.unwrap_or_default(),
            transitions,
        })
    }

    /// Rooms that went a way through the states.
    ///
    /// # Errors
    /// As [`Reader::room`].
    pub fn path(&self, question: &PathQuestion) -> Result<PathPage, HistoryError> {
        question.range.checked()?;
        let view = self.view(None)?;
        let mut page = view.trips(question)?;
        page.damaged = self.told(&view);
        Ok(page)
    }

    fn view(&self, room: Option<&RoomId>) -> Result<View, HistoryError> {
        if let Some(why) = self.shared.away().clone() {
            return Err(HistoryError::Away(why));
        }
        // What is open first: what is closed meanwhile is then found in the tables.
        let (open, chapters) = {
            let live = self.shared.live();
            let open = room.map(|room| live.blocks(room)).unwrap_or_default();
            (open, live.chapters().cloned().collect())
        };
        let eras = self.shared.eras();
        let timeline = Timeline::new(&eras, chapters);
        Ok(View {
            eras,
            open,
            timeline,
            damaged: Cell::new(0),
        })
    }

    /// Counts what could not be read.
    fn told(&self, view: &View) -> u32 {
        let damaged = view.damaged.get();
        if damaged > 0 {
            Figures::add(&self.shared.figures.damaged, damaged.into());
            tracing::warn!(
                records = damaged,
                "records of the history cannot be read and are left out"
            );
        }
        damaged
    }
}

impl View {
    fn snapshots(
        &self,
        question: &Question,
        after: Option<u64>,
        answer: &mut Answer,
    ) -> Result<(), HistoryError> {
        let range = question.range;
        let Some(ticks) = self.timeline.ticks(range) else {
            return Ok(());
        };
        let from = after.map_or(ticks.first, |after| ticks.first.max(after.saturating_add(1)));
        let every = question
            .points
            .map_or(1, |points| ticks.count.div_ceil(points.max(1) as u64))
            .max(1);
        let limit = question.limit.clamp(1, MAX_PAGE);
        let (mut done, mut scanned) = (from, 0);
        let mut last: Option<Snapshot> = None;
        for block in self.blocks(&question.room, from, ticks.end) {
            let Some(block) = self.sound(block)? else { continue };
            if block.first.saturating_add(block.count) <= done {
                continue;
            }
            for (tick, row) in (block.first..ticks.end).zip(block.rows()) {
                let Some(row) = self.sound(Ok(row))? else { break };
                if tick < done {
                    continue;
                }
                done = tick + 1;
                scanned += 1;
                let Some(at) = self.timeline.time(&self.eras, tick, &self.damaged) else {
                    continue;
                };
                if !range.holds(at) {
                    continue;
                }
                let snapshot = row::snapshot(&row);
                let differs = last.as_ref().is_none_or(|last| differs(last, &snapshot));
                if differs || (tick - ticks.first).is_multiple_of(every) {
                    answer.snapshots.push(Taken {
                        at,
                        snapshot: snapshot.clone(),
                    });
                }
                last = Some(snapshot);
                if answer.snapshots.len() >= limit || scanned >= MAX_SCAN {
                    answer.next = Some(Cursor(tick.to_string()));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The blocks of a room that may hold ticks from `from` to before `end`, in order; those that are open may come twice.
    fn blocks(
        &self,
        room: &RoomId,
        from: u64,
        end: u64,
    ) -> impl DoubleEndedIterator<Item = Result<Result<Block, Malformed>, HistoryError>> {
        // A block that begins earlier ends before.
        let keys = keys::block(room, from.saturating_sub(super::chapter::LENGTH))..keys::block(room, end);
        let stored = self
            .eras
            .iter()
            .flat_map(move |era| era.table.range(keys.clone()));
        let stored = stored.map(|pair| {
            let (key, value) = pair.into_inner().map_err(|e| away(&e))?;
            let first = keys::last_number(&key).ok_or(Malformed("a key without a tick"));
            Ok(first.and_then(|first| Block::decode(first, &value)))
        });
        stored.chain(self.open.iter().cloned().map(|block| Ok(Ok(block))))
    }

    /// The last snapshot of a room until `at`, and its tick.
    fn last_until(&self, room: &RoomId, at: Wall) -> Result<Option<(u64, Taken)>, HistoryError> {
        let Some(end) = self.timeline.end_until(at) else {
            return Ok(None);
        };
        for block in self.blocks(room, 0, end).rev() {
            let Some(block) = self.sound(block)? else { continue };
            let mut found = None;
            for (tick, row) in (block.first..end).zip(block.rows()) {
                let Some(row) = self.sound(Ok(row))? else { break };
                let time = self.timeline.time(&self.eras, tick, &self.damaged);
                if let Some(time) = time.filter(|time| *time <= at) {
                    found = Some((
                        tick,
                        Taken {
                            at: time,
                            snapshot: row::snapshot(&row),
                        },
                    ));
                }
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// An error when nothing at all is kept of a room.
    fn must_know(&self, room: &RoomId) -> Result<(), HistoryError> {
        let kept = |era: &Era| {
            [keys::BLOCKS, keys::CHANGES]
                .into_iter()
                .any(|kind| era.table.prefix(keys::of_room(kind, room)).next().is_some())
        };
        if self.open.is_empty() && !self.eras.iter().any(kept) {
            return Err(HistoryError::NoSuchRoom { room: room.clone() });
        }
        Ok(())
    }

    /// What was read, unless it is damaged: then it is counted.
    fn sound<T>(&self, read: Result<Result<T, Malformed>, HistoryError>) -> Result<Option<T>, HistoryError> {
        let read = read?;
        if read.is_err() {
            self.damaged.set(self.damaged.get().saturating_add(1));
        }
        Ok(read.ok())
    }
}

/// Whether a snapshot must not be thinned out.
fn differs(before: &Snapshot, now: &Snapshot) -> bool {
    before.state != now.state
        || before.incarnation != now.incarnation
        || before.blocked_until.is_some() != now.blocked_until.is_some()
}

fn tick_of(cursor: &Cursor) -> Result<u64, HistoryError> {
    cursor
        .0
        .parse()
        .map_err(|_| HistoryError::Cursor(cursor.0.clone()))
}

fn away(error: &fjall::Error) -> HistoryError {
    HistoryError::Away(error.to_string())
}
