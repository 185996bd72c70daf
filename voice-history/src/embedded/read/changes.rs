//! Changes of state: of a room over a time, the last before a moment, and rooms that went a way.

use super::{View, away};
use crate::{
    embedded::{keys, tables::Era},
    query::{Cursor, HistoryError, MAX_PAGE, PathPage, PathQuestion, Range, Trip},
    snapshot::Transition,
};
use std::ops::Bound;
use voice_room::{RoomId, Wall};

/// First legs looked at for one page. The page ends there, with a cursor.
const MAX_LEGS: usize = 20_000;

impl View {
    /// A room's changes in this time; at most [`MAX_PAGE`].
    pub(super) fn changes_of(&self, room: &RoomId, range: Range) -> Result<Vec<Transition>, HistoryError> {
        let keys = keys::change_from(room, range.from)..keys::change_from(room, behind(range.to));
        let mut changes = Vec::new();
        for era in self.eras.iter() {
            for pair in era.table.range(keys.clone()).take(MAX_PAGE - changes.len()) {
                let (_, value) = pair.into_inner().map_err(|e| away(&e))?;
                changes.extend(self.change(&value));
            }
        }
        Ok(changes)
    }

    /// A room's last changes until then, oldest first.
    pub(super) fn last_changes(
        &self,
        room: &RoomId,
        at: Wall,
        limit: usize,
    ) -> Result<Vec<Transition>, HistoryError> {
        let keys = keys::change_from(room, Wall(0))..keys::change_from(room, behind(at));
        let mut changes = Vec::new();
        for era in self.eras.iter().rev() {
            for pair in era.table.range(keys.clone()).rev().take(limit - changes.len()) {
                let (_, value) = pair.into_inner().map_err(|e| away(&e))?;
                changes.extend(self.change(&value));
            }
        }
        changes.reverse();
        Ok(changes)
    }

    /// Rooms that went a way.
    pub(super) fn trips(&self, question: &PathQuestion) -> Result<PathPage, HistoryError> {
        let after = question.after.as_ref().map(Place::read).transpose()?;
        let limit = question.limit.clamp(1, MAX_PAGE);
        let (from, to) = question.path.first_leg();
        let begin = keys::leg_from(from, to, question.range.from);
        let end = keys::leg_from(from, to, behind(question.range.to));
        let (mut page, mut looked) = (PathPage::default(), 0);
        for era in self.eras.iter() {
            let begin = match &after {
                Some(place) if era.number < place.era => continue,
                Some(place) if era.number == place.era => Bound::Excluded(place.key.clone()),
                _ => Bound::Included(begin.clone()),
            };
            if let Bound::Excluded(begin) = &begin
                && *begin >= end
            {
                continue;
            }
            for pair in era
                .table
                .range::<Vec<u8>, _>((begin, Bound::Excluded(end.clone())))
            {
                let leg = pair.key().map_err(|e| away(&e))?;
                if let Some(trip) = self.trip(era, &leg, question)? {
                    page.trips.push(trip);
                }
                looked += 1;
                if page.trips.len() >= limit || looked >= MAX_LEGS {
                    page.next = Some(
                        Place {
                            era: era.number,
                            key: leg.to_vec(),
                        }
                        .written(),
                    );
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }

    /// The room of a first leg, if it went on as asked.
    fn trip(&self, era: &Era, leg: &[u8], question: &PathQuestion) -> Result<Option<Trip>, HistoryError> {
        let Some(key) = keys::change_of_leg(leg) else {
            return Ok(None);
        };
        let stored = era.table.get(&key).map_err(|e| away(&e))?;
        let Some(first) = stored.and_then(|value| self.change(&value)) else {
            return Ok(None);
        };
        let room = first.room.clone();
        let mut changes = vec![first];
        let end = keys::change_from(&room, Wall(u64::MAX));
        let later = self.eras.iter().filter(|other| other.number >= era.number);
        for other in later {
            let begin = if other.number == era.number {
                Bound::Excluded(key.clone())
            } else {
                Bound::Included(keys::change_from(&room, Wall(0)))
            };
            let wanted = question.path.changes() - changes.len();
            for pair in other
                .table
                .range::<Vec<u8>, _>((begin, Bound::Included(end.clone())))
                .take(wanted)
            {
                let (_, value) = pair.into_inner().map_err(|e| away(&e))?;
                changes.extend(self.change(&value));
            }
            if changes.len() >= question.path.changes() {
                break;
            }
        }
        Ok(question.path.is(&changes).then_some(Trip { room, changes }))
    }

    /// A stored change, unless it is damaged: then it is counted.
    fn change(&self, value: &[u8]) -> Option<Transition> {
        let change = serde_json::from_slice(value).ok();
        if change.is_none() {
            self.damaged.set(self.damaged.get().saturating_add(1));
        }
        change
    }
}

fn behind(at: Wall) -> Wall {
    Wall(at.0.saturating_add(1))
}

/// Where a page ended: a leg of an era. As text `3-70…`: the era, and the key in hexadecimal.
struct Place {
    era: u64,
    key: Vec<u8>,
}

impl Place {
    fn written(&self) -> Cursor {
        use std::fmt::Write;
        let mut text = format!("{}-", self.era);
        for byte in &self.key {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Cursor(text)
    }

    fn read(cursor: &Cursor) -> Result<Place, HistoryError> {
        let read = || {
            let (era, hex) = cursor.0.split_once('-')?;
            let digits = hex.as_bytes().chunks(2);
            let key = digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
            Some(Place {
                era: era.parse().ok()?,
                key: key.collect::<Option<_>>()?,
            })
        };
        read().ok_or_else(|| HistoryError::Cursor(cursor.0.clone()))
    }
}
