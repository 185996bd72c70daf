//! A chapter: up to [`LENGTH`] ticks in a row, when each was and what the node depended on. Rooms' snapshots are kept by tick and
//! have no time of their own, so clocks may jump as they like.

use crate::{
    codec::{Malformed, varint},
    query::HealthAt,
    snapshot::{Health, NodeHealth},
};
use std::collections::BTreeMap;
use voice_room::Wall;

/// Ticks of a full chapter: ten minutes of 5 s. A block of snapshots is as long at most.
pub(super) const LENGTH: u64 = 120;
/// Dependencies and probes that are kept; more are left out, last names first.
const MAX_NAMES: usize = 256;

/// A chapter as it is in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chapter {
    /// Its first tick.
    pub(super) first: u64,
    /// When each tick was, ms.
    pub(super) times: Vec<u64>,
    /// The health as of its n-th tick: for the first, and each that differs from the one before.
    pub(super) health: Vec<(u64, NodeHealth)>,
}

/// What is known of a chapter without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) earliest: u64,
    pub(super) latest: u64,
}

impl Span {
    /// Behind its last tick.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }

    /// Whether a tick of it may lie in this time.
    pub(super) fn meets(&self, from: Wall, to: Wall) -> bool {
        self.count > 0 && self.earliest <= to.0 && from.0 <= self.latest
    }
}

impl Chapter {
    pub(super) fn beginning_at(first: u64) -> Chapter {
        Chapter {
            first,
            ..Chapter::default()
        }
    }

    /// The next tick.
    pub(super) fn push(&mut self, at: Wall, health: &NodeHealth) {
        if self.health.last().is_none_or(|(_, last)| last != health) {
            self.health.push((self.times.len() as u64, health.clone()));
        }
        self.times.push(at.0);
    }

    pub(super) fn is_full(&self) -> bool {
        self.times.len() as u64 >= LENGTH
    }

    /// Behind its last tick.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.times.len() as u64)
    }

    pub(super) fn span(&self) -> Span {
        Span {
            first: self.first,
            count: self.times.len() as u64,
            earliest: self.times.iter().min().copied().unwrap_or(0),
            latest: self.times.iter().max().copied().unwrap_or(0),
        }
    }

    /// When a tick was, if it is one of this chapter.
    pub(super) fn time(&self, tick: u64) -> Option<Wall> {
        let index = usize::try_from(tick.checked_sub(self.first)?).ok()?;
        self.times.get(index).copied().map(Wall)
    }

    /// The health as of a tick.
    pub(super) fn health_at(&self, tick: u64) -> Option<&NodeHealth> {
        let index = tick.checked_sub(self.first)?;
        self.health
            .iter()
            .take_while(|(n, _)| *n <= index)
            .last()
            .map(|(_, health)| health)
    }

    /// Each health with the time of its tick.
    pub(super) fn health_by_time(&self) -> impl Iterator<Item = HealthAt> + '_ {
        self.health.iter().filter_map(|(n, health)| {
            let at = self.time(self.first.saturating_add(*n))?;
            Some(HealthAt {
                at,
                health: health.clone(),
            })
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.times.len() * 2 + 64);
        varint::put(&mut out, self.times.len() as u64);
        let (mut foreseen, mut step) = (0u64, 0u64);
        for (n, time) in self.times.iter().enumerate() {
            varint::put_signed(&mut out, time.wrapping_sub(foreseen).cast_signed());
            let last = foreseen.wrapping_sub(step);
            step = if n == 0 { 0 } else { time.wrapping_sub(last) };
            foreseen = time.wrapping_add(step);
        }
        varint::put(&mut out, self.health.len() as u64);
        for (n, health) in &self.health {
            varint::put(&mut out, *n);
            put_health(&mut out, health);
        }
        out
    }

    pub(super) fn decode(first: u64, mut bytes: &[u8]) -> Result<Chapter, Malformed> {
        let bytes = &mut bytes;
        let count = varint::take(bytes)?;
        if count > LENGTH {
            return Err(Malformed("a chapter is longer than one can be"));
        }
        let mut chapter = Chapter::beginning_at(first);
        let (mut foreseen, mut step) = (0u64, 0u64);
        for n in 0..count {
            let time = foreseen.wrapping_add(varint::take_signed(bytes)?.cast_unsigned());
            let last = foreseen.wrapping_sub(step);
            step = if n == 0 { 0 } else { time.wrapping_sub(last) };
            foreseen = time.wrapping_add(step);
            chapter.times.push(time);
        }
        for _ in 0..varint::take(bytes)? {
            let n = varint::take(bytes)?;
            chapter.health.push((n, take_health(bytes)?));
        }
        Ok(chapter)
    }
}

pub(super) fn put_health(out: &mut Vec<u8>, health: &NodeHealth) {
    varint::put(out, health.len().min(MAX_NAMES) as u64);
    for (name, health) in health.iter().take(MAX_NAMES) {
        varint::put_bytes(out, name.as_bytes());
        out.push(Health::ALL.iter().position(|h| h == health).unwrap_or(0) as u8);
    }
}

pub(super) fn take_health(bytes: &mut &[u8]) -> Result<NodeHealth, Malformed> {
    let mut health = BTreeMap::new();
    for _ in 0..varint::take(bytes)? {
        let name = String::from_utf8_lossy(varint::take_bytes(bytes)?).into_owned();
        let (code, rest) = bytes.split_first().ok_or(Malformed("a health is cut short"))?;
        *bytes = rest;
        let known = Health::ALL
            .get(usize::from(*code))
            .ok_or(Malformed("a health that there is none of"))?;
        health.insert(name, *known);
    }
    Ok(health)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_keeps_its_beat_costs_little_more_than_a_byte_a_tick() {
        let mut chapter = Chapter::beginning_at(77);
        let health = NodeHealth::from([("etcd".into(), Health::Healthy)]);
        for n in 0..LENGTH {
            chapter.push(Wall(1_763_849_000_000 + n * 5000 + n % 3), &health);
        }
        let bytes = chapter.encode();
        assert!(bytes.len() < 150, "{}", bytes.len());
        assert_eq!(Chapter::decode(77, &bytes).unwrap(), chapter);
        assert_eq!(chapter.health_at(77 + 5), Some(&health));
    }

    proptest! {
        #[test]
        fn any_times_and_healths_come_back(
            ticks in prop::collection::vec((any::<u64>(), prop::collection::btree_map("[a-z]{1,5}", 0..3usize, 0..3)), 0..120)
        ) {
            let mut chapter = Chapter::beginning_at(5);
            for (at, health) in ticks {
                let health = health.into_iter().map(|(name, n)| (name, Health::ALL[n])).collect();
                chapter.push(Wall(at), &health);
            }
            prop_assert_eq!(Chapter::decode(5, &chapter.encode()).unwrap(), chapter);
        }

        #[test]
        fn any_bytes_are_a_chapter_or_an_error(bytes: Vec<u8>) {
            let _ = Chapter::decode(0, &bytes);
        }
    }
}
