//! Which tick was when. Chapters lie in the tables; what is asked of one is mostly asked of its next tick too, so one is kept.

use super::HealthAt;
use crate::{
    embedded::{
        chapter::{Chapter, Span},
        keys,
        tables::Era,
    },
    query::{MAX_PAGE, Range},
    snapshot::NodeHealth,
};
use std::cell::{Cell, RefCell};
use voice_room::Wall;

/// All chapters, in order.
pub(super) struct Timeline {
    spans: Vec<(Span, Place)>,
    open: Vec<Chapter>,
    /// The one read last.
    read: RefCell<Option<Chapter>>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the table of this era, by place.
    Era(usize),
    /// Open, by place.
    Open(usize),
}

/// The ticks that a time may lie in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    pub(super) first: u64,
    pub(super) end: u64,
    /// Those of the chapters that meet the time.
    pub(super) count: u64,
}

impl Timeline {
    pub(super) fn new(eras: &[Era], open: Vec<Chapter>) -> Timeline {
        let mut spans: Vec<(Span, Place)> = Vec::new();
        for (place, era) in eras.iter().enumerate() {
            spans.extend(era.spans.iter().map(|span| (*span, Place::Era(place))));
        }
        let stored = spans.last().map_or(0, |(span, _)| span.end());
        let open_spans = open.iter().enumerate();
        let open_spans = open_spans.map(|(place, chapter)| (chapter.span(), Place::Open(place)));
        spans.extend(open_spans.filter(|(span, _)| span.count > 0 && span.first >= stored));
        Timeline {
            spans,
            open,
            read: RefCell::default(),
        }
    }

    /// The ticks from the first chapter to the last that meet this time.
    pub(super) fn ticks(&self, range: Range) -> Option<Ticks> {
        let mut meeting = self
            .spans
            .iter()
            .filter(|(span, _)| span.meets(range.from, range.to));
        let (first, _) = meeting.next()?;
        let (mut end, mut count) = (first.end(), first.count);
        for (span, _) in meeting {
            end = span.end();
            count += span.count;
        }
        Some(Ticks {
            first: first.first,
            end,
            count,
        })
    }

    /// Behind the last chapter that began until then.
    pub(super) fn end_until(&self, at: Wall) -> Option<u64> {
        let last = self.spans.iter().rev().find(|(span, _)| span.earliest <= at.0)?;
        Some(last.0.end())
    }

    /// When a tick was.
    pub(super) fn time(&self, eras: &[Era], tick: u64, damaged: &Cell<u32>) -> Option<Wall> {
        if let Some(time) = self.read.borrow().as_ref().and_then(|chapter| chapter.time(tick)) {
            return Some(time);
        }
        self.find(eras, tick, damaged)?;
        self.read.borrow().as_ref()?.time(tick)
    }

    /// The health as of a tick.
    pub(super) fn health_at(&self, eras: &[Era], tick: u64, damaged: &Cell<u32>) -> Option<NodeHealth> {
        self.find(eras, tick, damaged)?;
        self.read.borrow().as_ref()?.health_at(tick).cloned()
    }

    /// The health as this time begins, and each change in it.
    pub(super) fn health(&self, eras: &[Era], range: Range, damaged: &Cell<u32>) -> Vec<HealthAt> {
        let mut all: Vec<HealthAt> = Vec::new();
        for (span, _) in self
            .spans
            .iter()
            .filter(|(span, _)| span.meets(range.from, range.to))
        {
            if self.find(eras, span.first, damaged).is_none() {
                continue;
            }
            let read = self.read.borrow();
            for mut next in read.iter().flat_map(Chapter::health_by_time) {
                if next.at > range.to || all.last().is_some_and(|last| last.health == next.health) {
                    continue;
                }
                // What was before the beginning is as of the beginning; only the last of it counts.
                if next.at <= range.from {
                    next.at = range.from;
                    all.clear();
                }
                all.push(next);
            }
            if all.len() >= MAX_PAGE {
                all.truncate(MAX_PAGE);
                break;
            }
        }
        all
    }

    /// Reads the chapter of a tick, unless it is the one read last.
    fn find(&self, eras: &[Era], tick: u64, damaged: &Cell<u32>) -> Option<()> {
        let holds = |chapter: &Chapter| chapter.first <= tick && tick < chapter.end();
        if self.read.borrow().as_ref().is_some_and(holds) {
            return Some(());
        }
        let behind = self.spans.partition_point(|(span, _)| span.first <= tick);
        let (span, place) = self.spans.get(behind.checked_sub(1)?)?;
        if tick >= span.end() {
            return None;
        }
        let chapter = match place {
            Place::Open(place) => self.open.get(*place).cloned(),
            Place::Era(place) => {
                let stored = eras
                    .get(*place)?
                    .table
                    .get(keys::chapter(span.first))
                    .ok()
                    .flatten();
                stored.and_then(|bytes| Chapter::decode(span.first, &bytes).ok())
            }
        };
        if chapter.is_none() {
            damaged.set(damaged.get().saturating_add(1));
        }
        *self.read.borrow_mut() = chapter;
        self.read.borrow().is_some().then_some(())
    }
}
