//! Where an event lies in a store, and how far a reader has read. The embedded store has one sequence of numbers; Redis has a
//! stream for each partition, whose ids are told by time.

use std::{collections::BTreeMap, fmt, str::FromStr};
use voice_room::Wall;

/// The id of a stream's entry: the server's milliseconds, and a number among those of one millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Among those of one millisecond.
    pub seq: u64,
}

/// Where an event lies. As text `42`, or `1763849000123-0@07`: entry 1763849000123-0 of partition 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// In the embedded store.
    Local(u64),
    /// In a stream.
    Stream {
        /// The entry.
        id: StreamId,
        /// Of which partition.
        partition: u8,
    },
}

/// Up to where a reader has read. One of an embedded store says nothing to Redis, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cursor {
    local: Option<u64>,
    streams: BTreeMap<u8, StreamId>,
    from: Option<u64>,
}

/// A text that is no place to begin at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position: give the first column of an event, such as 42 or 1763849000123-0@07, or a time such as \
     2026-11-22T03:11:31Z"
)]
pub struct NoPosition(String);

impl Cursor {
    /// Before everything that was kept since `time`. Streams only.
    pub fn since(time: Wall) -> Cursor {
        Cursor {
            from: Some(time.0),
            ..Cursor::default()
        }
    }

    /// After `position`. Other partitions are read from that moment on.
    pub fn after(position: Position) -> Cursor {
        let mut cursor = Cursor::default();
        if let Position::Stream { id, .. } = position {
            cursor.from = Some(id.ms);
        }
        cursor.read(position);
        cursor
    }

    /// Everything up to this position has been read.
    pub fn read(&mut self, position: Position) {
        match position {
            Position::Local(n) => self.local = self.local.max(Some(n)),
            Position::Stream { id, partition } => {
                let read = self.streams.entry(partition).or_default();
                *read = id.max(*read);
            }
        }
    }

    /// The last number read of the embedded store.
    pub fn local(&self) -> Option<u64> {
        self.local
    }

    /// The last entry read of a partition.
    pub fn stream(&self, partition: u8) -> Option<StreamId> {
        self.streams.get(&partition).copied()
    }

    /// The last entry read of a partition.
    pub fn last(&self, partition: u8) -> Option<StreamId> {
        self.streams.get(&partition).copied()
    }

    /// From when on partitions are read of which nothing was read yet; `None`: all that is kept.
    pub fn begins(&self) -> Option<u64> {
        self.from
    }

    /// Where to go on in a partition, as XRANGE has it.
    pub fn start(&self, partition: u8) -> String {
        match (self.streams.get(&partition), self.from) {
            (Some(id), _) => format!("({id}"),
            (None, Some(ms)) => ms.to_string(),
            (None, None) => "-".into(),
        }
    }
}

impl FromStr for Cursor {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Cursor, NoPosition> {
        if let Ok(position) = text.parse() {
            return Ok(Cursor::after(position));
        }
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| NoPosition(text.into()))?;
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Cursor::since(Wall(
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        )))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<StreamId, NoPosition> {
        let parts = text
            .split_once('-')
            .and_then(|(ms, seq)| Some((ms.parse().ok()?, seq.parse().ok()?)));
        let (ms, seq) = parts.ok_or_else(|| NoPosition(text.into()))?;
        Ok(StreamId { ms, seq })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Local(n) => n.fmt(f),
            Position::Stream { id, partition } => write!(f, "{id}@{partition:02}"),
        }
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Position, NoPosition> {
        let refused = || NoPosition(text.into());
        match text.split_once('@') {
            None => text.parse().map(Position::Local).map_err(|_| refused()),
            Some((id, partition)) => Ok(Position::Stream {
                id: id.parse().map_err(|_| refused())?,
                partition: partition.parse().map_err(|_| refused())?,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_shown() {
        let id = StreamId { ms: 12, seq: 3 };
        let stream = Position::Stream { id, partition: 7 };
        assert_eq!(
            (stream.to_string(), "12-3@07".parse()),
            ("12-3@07".into(), Ok(stream))
        );
        assert_eq!("42".parse(), Ok(Position::Local(42)));
        for wrong in ["", "x", "1-2", "1-2@", "1-2@700", "@1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cursor_goes_on_behind_what_was_read_and_from_that_moment_elsewhere() {
        let cursor: Cursor = "12-3@07".parse().unwrap();
        assert_eq!((cursor.start(7), cursor.start(8)), ("(12-3".into(), "12".into()));
        let mut cursor: Cursor = "1970-01-01T00:00:01Z".parse().unwrap();
        assert_eq!(cursor.start(0), "1000");
        cursor.read("1200-0@00".parse().unwrap());
        cursor.read("1100-0@00".parse().unwrap());
        assert_eq!(
            (cursor.start(0), cursor.start(1)),
            ("(1200-0".into(), "1000".into())
        );
        assert_eq!(Cursor::default().start(5), "-");
        assert_eq!("42".parse::<Cursor>().unwrap().local(), Some(42));
        assert!(
            "yesterday"
                .parse::<Cursor>()
                .unwrap_err()
                .to_string()
                .contains("first column")
        );
    }
}
