//! Questions in InfluxQL. Each answer is bounded by a LIMIT, and is the same as that of the history on disk.

use super::{
    http::{Client, literal},
    line::{FIELDS, path_of, time},
};
use crate::{
    query::{
        Answer, Cursor, HealthAt, HistoryError, LAST_TRANSITIONS, MAX_PAGE, Moment, PathPage, PathQuestion,
        Question, Range, Taken, Trip,
    },
    snapshot::{Counters, Health, NodeHealth, Snapshot, Transition},
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};
use voice_room::{Epoch, Incarnation, NodeName, RoomId, State, Version, Wall};

/// First legs asked for in one page: each may need a question of its own.
const MAX_LEGS: usize = 200;
/// The health is written at least so often, ms: an hour at the longest tick that is usual.
const HEALTH_WITHIN: u64 = 3_600_000;

/// Reads the history. Calls block for as long as the database takes, which is bounded.
#[derive(Debug, Clone)]
pub struct Reader {
    client: Client,
    node: NodeName,
}

/// A row: its columns by name.
type Row = HashMap<String, Value>;

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    results: Vec<QueryResult>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct QueryResult {
    #[serde(default)]
    series: Vec<Series>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Series {
    columns: Vec<String>,
    #[serde(default)]
    values: Vec<Vec<Value>>,
}

impl Reader {
    pub(super) fn new(client: Client, node: NodeName) -> Reader {
        Reader { client, node }
    }

    /// The same, for one question that is answered until then or not at all.
    #[must_use]
    pub fn until(&self, until: Instant) -> Reader {
        Reader::new(self.client.until(until), self.node.clone())
    }

    /// A room over a time.
    ///
    /// # Errors
    /// No such room, a range or cursor that is none, or the database is away.
    pub fn room(&self, question: &Question) -> Result<Answer, HistoryError> {
        let range = question.range.checked()?;
        let after = question.after.as_ref().map(number_of).transpose()?;
        let limit = question.limit.clamp(1, MAX_PAGE);
        let mut answer = Answer::default();
        let begin = after.map_or_else(
            || format!("time >= {}ms", time(range.from)),
            |after| format!("time > {after}ms"),
        );
        let tags = self.of(&question.room);
        let every = self.every(question, &tags)?;
        let rows = self.rows(&format!(
            "SELECT * FROM room WHERE {tags} AND {begin} AND time <= {}ms ORDER BY time ASC LIMIT {}",
            time(range.to),
            MAX_PAGE.max(limit)
        ))?;
        let all = rows.len() < MAX_PAGE.max(limit);
        let mut last: Option<Snapshot> = None;
        let (mut looked, count) = (0, rows.len());
        for (n, row) in rows.into_iter().enumerate() {
            looked += 1;
            let Some(taken) = taken(&row) else {
                answer.damaged += 1;
                continue;
            };
            let differs = last.as_ref().is_none_or(|last| {
                last.state != taken.snapshot.state
                    || last.incarnation != taken.snapshot.incarnation
                    || last.blocked_until.is_some() != taken.snapshot.blocked_until.is_some()
            });
            last = Some(taken.snapshot.clone());
            let at = taken.at;
            if differs || n % every == 0 {
                answer.snapshots.push(taken);
            }
            let full = answer.snapshots.len() >= limit;
            if full || (looked == count && !all) {
                answer.next = (!all || looked < count).then(|| Cursor(at.0.to_string()));
                break;
            }
        }
        if after.is_none() {
            answer.transitions = self.changes(&tags, range, "ASC", MAX_PAGE)?;
            answer.health = self.health(range)?;
            if answer.snapshots.is_empty() && answer.transitions.is_empty() {
                self.must_know(&question.room, &tags)?;
            }
        }
        Ok(answer)
    }

    /// A room as it was at a moment.
    ///
    /// # Errors
    /// As [`Reader::room`].
    pub fn at(&self, room: &RoomId, at: Wall) -> Result<Moment, HistoryError> {
        let tags = self.of(room);
        let rows = self.rows(&format!(
            "SELECT * FROM room WHERE {tags} AND time <= {}ms ORDER BY time DESC LIMIT 1",
            time(at)
        ))?;
        let snapshot = rows.first().and_then(taken);
        let range = Range {
            from: Wall(0),
            to: at,
        };
        let mut transitions = self.changes(&tags, range, "DESC", LAST_TRANSITIONS)?;
        transitions.reverse();
        if snapshot.is_none() && transitions.is_empty() {
            self.must_know(room, &tags)?;
        }
        let health = match &snapshot {
            Some(taken) => self.health_at(taken.at)?,
            None => NodeHealth::default(),
        };
        Ok(Moment {
            snapshot,
            health,
            transitions,
        })
    }

    /// Rooms that went a way through the states.
    ///
    /// # Errors
    /// As [`Reader::room`].
    pub fn path(&self, question: &PathQuestion) -> Result<PathPage, HistoryError> {
        let range = question.range.checked()?;
        let skip = question.after.as_ref().map(number_of).transpose()?.unwrap_or(0);
        let limit = question.limit.clamp(1, MAX_LEGS);
        let (from, to) = question.path.first_leg();
        let tags = format!(
            "node = {} AND path = {}",
            literal(&self.node),
            literal(&path_of(from, to))
        );
        let rows = self.rows(&format!(
            "SELECT record FROM transition WHERE {tags} AND time >= {}ms AND time <= {}ms ORDER BY time ASC LIMIT {} OFFSET {skip}",
            time(range.from),
            time(range.to),
            MAX_LEGS + 1
        ))?;
        let mut page = PathPage::default();
        let found = rows.len();
        for (n, row) in rows.iter().take(MAX_LEGS).enumerate() {
            match change(row) {
                Some(first) => page.trips.extend(self.trip(first, question)?),
                None => page.damaged += 1,
            }
            if n + 1 < found && (page.trips.len() >= limit || n + 1 == MAX_LEGS) {
                page.next = Some(Cursor((skip + n as u64 + 1).to_string()));
                break;
            }
        }
        Ok(page)
    }

    /// The room of a first leg, if it went on as asked.
    fn trip(&self, first: Transition, question: &PathQuestion) -> Result<Option<Trip>, HistoryError> {
        let room = first.room.clone();
        let (begin, wanted) = (
            Wall(first.timestamp.0.saturating_add(1)),
            question.path.changes() - 1,
        );
        let mut changes = vec![first];
        if wanted > 0 {
            let range = Range {
                from: begin,
                to: Wall(u64::MAX),
            };
            changes.extend(self.changes(&self.of(&room), range, "ASC", wanted)?);
        }
        Ok(question.path.is(&changes).then_some(Trip { room, changes }))
    }

    fn of(&self, room: &RoomId) -> String {
        format!("room_id = {} AND node = {}", literal(room), literal(&self.node))
    }

    /// Each how many-th snapshot is wanted.
    fn every(&self, question: &Question, tags: &str) -> Result<usize, HistoryError> {
        let Some(points) = question.points else {
            return Ok(1);
        };
        let rows = self.rows(&format!(
            "SELECT count(version) FROM room WHERE {tags} AND time >= {}ms AND time <= {}ms",
            time(question.range.from),
            time(question.range.to)
        ))?;
        let count = rows.first().and_then(|row| number(row, "count")).unwrap_or(0);
        Ok(usize::try_from(count)
            .unwrap_or(usize::MAX)
            .div_ceil(points.max(1))
            .max(1))
    }

    fn changes(
        &self,
        tags: &str,
        range: Range,
        order: &str,
        limit: usize,
    ) -> Result<Vec<Transition>, HistoryError> {
        let rows = self.rows(&format!(
            "SELECT record FROM transition WHERE {tags} AND time >= {}ms AND time <= {}ms ORDER BY time {order} LIMIT {limit}",
            time(range.from),
            time(range.to)
        ))?;
        Ok(rows.iter().filter_map(change).collect())
    }

    /// The health as a time begins, and each change in it.
    fn health(&self, range: Range) -> Result<Vec<HealthAt>, HistoryError> {
        let before = Wall(range.from.0.saturating_sub(HEALTH_WITHIN));
        let mut told = self.told(before, range.to)?;
        // What was before the beginning is as of the beginning; only the last of it counts.
        if let Some((last, _)) = told.range(..=range.from).next_back() {
            let last = *last;
            told = told.split_off(&last);
            if let Some(health) = told.remove(&last) {
                told.insert(range.from, health);
            }
        }
        let mut all: Vec<HealthAt> = Vec::new();
        for (at, health) in told {
            if all.last().is_none_or(|last| last.health != health) && all.len() < MAX_PAGE {
                all.push(HealthAt { at, health });
            }
        }
        Ok(all)
    }

    fn health_at(&self, at: Wall) -> Result<NodeHealth, HistoryError> {
        let told = self.told(Wall(at.0.saturating_sub(HEALTH_WITHIN)), at)?;
        Ok(told
            .into_iter()
            .next_back()
            .map(|(_, health)| health)
            .unwrap_or_default())
    }

    /// The health as it was written: all of it each time.
    fn told(&self, from: Wall, to: Wall) -> Result<BTreeMap<Wall, NodeHealth>, HistoryError> {
        let rows = self.rows(&format!(
            "SELECT level, dependency FROM health WHERE node = {} AND time >= {}ms AND time <= {}ms ORDER BY time ASC LIMIT {}",
            literal(&self.node),
            time(from),
            time(to),
            MAX_PAGE * 16
        ))?;
        let mut told: BTreeMap<Wall, NodeHealth> = BTreeMap::new();
        for row in rows {
            let health =
                text(&row, "level").and_then(|name| Health::ALL.into_iter().find(|h| h.name() == name));
            if let (Some(at), Some(name), Some(health)) =
                (number(&row, "time"), text(&row, "dependency"), health)
            {
                told.entry(Wall(at)).or_default().insert(name.into(), health);
            }
        }
        Ok(told)
    }

    /// An error when nothing at all is kept of a room.
    fn must_know(&self, room: &RoomId, tags: &str) -> Result<(), HistoryError> {
        for measurement in ["room", "transition"] {
            let rows = self.rows(&format!("SELECT version FROM {measurement} WHERE {tags} LIMIT 1"))?;
            if !rows.is_empty() {
                return Ok(());
            }
        }
        Err(HistoryError::NoSuchRoom { room: room.clone() })
    }

    fn rows(&self, question: &str) -> Result<Vec<Row>, HistoryError> {
        let away = |problem: String| HistoryError::Away(problem.trim().chars().take(300).collect());
        let said = self.client.query(question).map_err(|e| away(e.to_string()))?;
        let response: Response = serde_json::from_str(&said.body)
            .map_err(|e| away(format!("it answers {} with what is no answer: {e}", said.status)))?;
        let result = response.results.into_iter().next();
        if let Some(error) = response.error.or(result.as_ref().and_then(|r| r.error.clone())) {
            // Before the first batch has made it.
            if error.starts_with("database not found") {
                return Ok(Vec::new());
            }
            return Err(away(format!("{}: {error}", said.status)));
        }
        let series = result.map(|result| result.series).unwrap_or_default();
        let rows = series.into_iter().flat_map(|Series { columns, values }| {
            values
                .into_iter()
                .map(move |row| columns.iter().cloned().zip(row).collect())
        });
        Ok(rows.collect())
    }
}

fn number(row: &Row, name: &str) -> Option<u64> {
    row.get(name)?.as_u64()
}

fn text<'r>(row: &'r Row, name: &str) -> Option<&'r str> {
    row.get(name)?.as_str()
}

fn change(row: &Row) -> Option<Transition> {
    serde_json::from_str(text(row, "record")?).ok()
}

fn taken(row: &Row) -> Option<Taken> {
    let n = |name: &str| number(row, name);
    let small = |name: &str| n(name).and_then(|n| u32::try_from(n).ok());
    let mut media = Counters::default();
    for ((packets, bytes), count) in FIELDS.iter().zip(&mut media.0) {
        (count.packets, count.bytes) = (n(packets).unwrap_or(0), n(bytes).unwrap_or(0));
    }
    let state = text(row, "state")?;
    let snapshot = Snapshot {
        state: State::ALL.into_iter().find(|s| s.name() == state)?,
        since: Wall(n("since")?),
        incarnation: Incarnation(n("incarnation")?),
        version: Version(n("version")?),
        epoch: Epoch {
            era: small("era")?,
            revision: n("revision")?,
        },
        misses: small("misses")?,
        heartbeat_age: small("heartbeat_age"),
        members: small("members")?,
        blocked_until: n("blocked_until").map(Wall),
        media,
    };
    Some(Taken {
        at: Wall(n("time")?),
        snapshot,
    })
}

fn number_of(cursor: &Cursor) -> Result<u64, HistoryError> {
    cursor
        .0
        .parse()
        .map_err(|_| HistoryError::Cursor(cursor.0.clone()))
}
