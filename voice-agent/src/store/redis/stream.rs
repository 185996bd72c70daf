//! The events of all partitions: read from a position on, followed with the help of the word to listeners, and cut at their old
//! end. Groups with acknowledgement are in `groups`.

use super::{Redis, answer::text, encode, keys, problem::Problem, script, script::Call};
use crate::{
    store::{Cursor, Position, RoomStore, StoreError, position::StreamId, wall_now},
    telemetry::Counter,
};
use futures::{StreamExt, stream::iter};
use redis::Value;
use std::{collections::BTreeMap, time::Duration};
use voice_room::{Change, RoomId, StateChangeEvent};

/// Events of one partition in one answer.
const PAGE: usize = 250;
/// Pages looked through for one op_id, from the youngest event on.
const LOOKED_THROUGH: usize = 20;
/// A partition keeps at most so many events, unless a group still needs them.
const KEPT: u64 = 200_000;
/// A follower looks by itself so often: the word to listeners may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Isolations that ended so long ago are forgotten; their own key is gone since.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// An entry of a stream: its id, and what it holds if that is an event of ours.
pub(super) type Found = (StreamId, Option<StateChangeEvent>);

impl Redis {
    /// Events behind `after`. Those of one partition are in order; partitions are put together by the time of their entries, as
    /// far as every partition was read.
    pub(super) async fn read_events(
        &self,
        after: &Cursor,
        limit: usize,
    ) -> Result<Vec<(Position, StateChangeEvent)>, Problem> {
        let mut after = after.clone();
        loop {
            let (events, last) = self.read_page(&after, limit).await?;
            // Where nothing of a page is ours, the next one is looked at: a reader must not stand still over it.
            match (events.is_empty(), last.is_empty()) {
                (true, false) => last.into_iter().for_each(|position| after.read(position)),
                _ => return Ok(events),
            }
        }
    }

    /// Entries behind `after`, and the last one that was cut off before it was read. The entry that was read last is asked for
    /// again: while it is there nothing behind it is gone, as only beginnings are cut.
    async fn behind(
        &self,
        after: &Cursor,
        partition: u8,
        count: usize,
    ) -> Result<(Vec<Found>, Option<StreamId>), Problem> {
        let Some(read) = after.last(partition) else {
            let from = after.start(partition);
            let page = self.range(partition, "XRANGE", &from, "+", count).await?;
            let gone = match after.begins() {
                Some(begins) => self.cut(partition).await?.filter(|cut| cut.ms >= begins),
                None => None,
            };
            return Ok((page, gone));
        };
        let from = read.to_string();
        let mut page = self.range(partition, "XRANGE", &from, "+", count + 1).await?;
        if page.first().is_some_and(|(id, _)| *id == read) {
            page.remove(0);
            return Ok((page, None));
        }
        page.truncate(count);
        let cut = self.cut(partition).await?;
        Ok((page, cut.filter(|cut| *cut > read)))
    }

    /// The last entry that was cut off a partition's events.
    async fn cut(&self, partition: u8) -> Result<Option<StreamId>, Problem> {
        let key = keys::cut(partition);
        let mut get = redis::cmd("GET");
        get.arg(&key);
        match self.link.call(&get).await? {
            Value::Nil => Ok(None),
            value => {
                let id = text(value).ok_or_else(|| Problem::foreign(&*key, "is no text"))?;
                let id = encode::id(&id).map_err(|problem| Problem::foreign(key, problem))?;
                Ok(Some(id))
            }
        }
    }

    /// Events, and where they end if there are more.
    async fn read_page(
        &self,
        after: &Cursor,
        limit: usize,
    ) -> Result<(Vec<(Position, StateChangeEvent)>, Vec<Position>), Problem> {
        let count = limit.clamp(1, PAGE);
        let mut pages = iter(0..keys::PARTITIONS)
            .map(|partition| async move { (partition, self.behind(after, partition, count).await) })
            .buffer_unordered(usize::from(keys::PARTITIONS));
        let (mut all, mut horizon, mut ends, mut gone) = (Vec::new(), None, Vec::new(), Vec::new());
        while let Some((partition, page)) = pages.next().await {
            let (page, cut) = page?;
            gone.extend(cut.map(|id| Position::Stream { id, partition }));
            if page.len() == count
                && let Some((last, _)) = page.last()
            {
                ends.push(Position::Stream { id: *last, partition });
                horizon = Some(horizon.map_or(*last, |h: StreamId| h.min(*last)));
            }
            let events = page
                .into_iter()
                .filter_map(|(id, event)| Some((id, partition, event?)));
            all.extend(events);
        }
        if !gone.is_empty() {
            return Err(Problem::Cut(gone));
        }
        all.sort_by_key(|(id, partition, _)| (*id, *partition));
        let known = all
            .into_iter()
            .filter(|(id, ..)| horizon.is_none_or(|horizon| *id <= horizon));
        let told = known.map(|(id, partition, event)| (Position::Stream { id, partition }, event));
        Ok((told.take(limit).collect(), ends))
    }

    /// A page of one partition. What is not ours is counted and has no event.
    pub(super) async fn range(
        &self,
        partition: u8,
        name: &str,
        from: &str,
        to: &str,
        count: usize,
    ) -> Result<Vec<Found>, Problem> {
        let key = keys::events(partition);
        let mut range = redis::cmd(name);
        range.arg(&key).arg(from).arg(to).arg("COUNT").arg(count);
        entries(self.link.call(&range).await?, &key)
    }

    /// Whether a change was applied, although the room has gone on since: its event says so.
    pub(super) async fn was_applied(&self, change: &Change) -> Result<bool, Problem> {
        let (record, partition) = (&change.record, keys::partition(&change.record.room));
        let mut to = "+".to_owned();
        for _ in 0..LOOKED_THROUGH {
            let page = self.range(partition, "XREVRANGE", &to, "-", PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(false);
            };
            to = format!("({last}");
            let of_room = page
                .iter()
                .filter_map(|(_, event)| event.as_ref())
                .filter(|e| e.room == record.room);
            for event in of_room {
                if event.version == record.version {
                    return Ok(event.op_id == record.op_id);
                }
            }
        }
        Ok(false)
    }

    /// The events of one room that are kept, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Redis does not answer, or its answer is none of ours.
    pub async fn events_of(
        &self,
        room: &RoomId,
        limit: usize,
    ) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        let partition = keys::partition(room);
        let (mut from, mut events) = ("-".to_owned(), Vec::new());
        loop {
            let page = self
                .range(partition, "XRANGE", &from, "+", PAGE)
                .await
                .map_err(Problem::told)?;
            let Some((last, _)) = page.last() else {
                return Ok(events);
            };
            from = format!("({last}");
            let own = page
                .into_iter()
                .filter_map(|(id, event)| Some((Position::Stream { id, partition }, event?)));
            events.extend(own.filter(|(_, event)| event.room == *room));
            if events.len() >= limit {
                events.truncate(limit);
                return Ok(events);
            }
        }
    }

    /// Cuts the old end of every partition's stream: what is older than `store.redis.events_kept`, or too much, but nothing that
    /// a group has not acknowledged. How many entries were cut, and how many beyond the bound a group holds back.
    ///
    /// # Errors
    /// Redis does not answer, or a stream is none.
    pub async fn trim(&self) -> Result<(u64, u64), StoreError> {
        let now = wall_now();
        let before = |age: Duration| {
            now.0
                .saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                .to_string()
        };
        let args = vec![
            before(self.config.events_kept),
            KEPT.to_string(),
            before(FORGOTTEN_AFTER),
        ];
        let (mut cut, mut held) = (0, 0);
        for partition in 0..keys::PARTITIONS {
            let key = keys::events(partition);
            let call = Call {
                keys: vec![key.clone(), keys::isolated(partition), keys::cut(partition)],
                args: args.clone(),
            };
            let trimmed = async {
                let answer = super::Answer::read(script::TRIM.run(&self.link, &call).await?, &key)?;
                let number = |n| answer.at(n)?.parse::<u64>().map_err(|_| answer.unexpected());
                Ok((number(1)?, number(2)?))
            };
            let (c, h) = trimmed.await.map_err(Problem::told)?;
            (cut, held) = (cut + c, held + h);
        }
        Ok((cut, held))
    }

    /// Follows the events of every room from `cursor` on.
    pub fn follow(&self, cursor: Cursor) -> Follower {
        Follower {
            redis: self.clone(),
            cursor,
            listener: None,
        }
    }
}

/// Reads events as they come: woken by the word to listeners, which may be lost, and by itself every second.
pub struct Follower {
    redis: Redis,
    cursor: Cursor,
    listener: Option<redis::aio::PubSub>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl Follower {
    /// How far it has read; a follower begun there goes on where this one was.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Waits for events, and gives at most `limit`. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Redis does not answer now; asked again, it goes on where it was. Wait a little before that. Or events were cut off
    /// before they were read: told once, then it goes on behind them.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        loop {
            // Before reading, so that nothing falls between.
            if self.listener.is_none() {
                let listener = self.redis.link.subscribe(&self.redis.config, keys::CHANNEL).await;
                self.listener = Some(listener.map_err(Problem::told)?);
            }
            let events = self.redis.events(self.cursor.clone(), limit).await;
            if let Err(StoreError::Cut { up_to }) = &events {
                up_to.iter().for_each(|position| self.cursor.read(*position));
            }
            let events = events?;
            if !events.is_empty() {
                events
                    .iter()
                    .for_each(|(position, _)| self.cursor.read(*position));
                return Ok(events);
            }
            self.wait().await;
        }
    }

    /// Until something was said, or a while. A subscription that ended is made anew.
    async fn wait(&mut self) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let mut words = listener.on_message();
        let heard = tokio::time::timeout(LOOK_EVERY, words.next()).await;
        drop(words);
        if let Ok(None) = heard {
            self.listener = None;
        }
    }
}

/// The entries of an answer of XRANGE and its kind.
pub(super) fn entries(value: Value, key: &str) -> Result<Vec<Found>, Problem> {
    let shape = || Problem::foreign(key, "the answer is no list of entries");
    let items = match value {
        Value::Array(items) => items,
        Value::Nil => return Ok(Vec::new()),
        _ => return Err(shape()),
    };
    let mut entries = Vec::with_capacity(items.len());
    for item in items {
        entries.extend(entry(item, key).ok_or_else(shape)??);
    }
    Ok(entries)
}

/// One entry; `Ok(None)` for one that was cut while a group still had it.
fn entry(item: Value, key: &str) -> Option<Result<Option<Found>, Problem>> {
    let Value::Array(pair) = item else {
        return matches!(item, Value::Nil).then_some(Ok(None));
    };
    let [id, fields]: [Value; 2] = pair.try_into().ok()?;
    let id = match encode::id(&text(id)?) {
        Ok(id) => id,
        Err(problem) => return Some(Err(Problem::foreign(key, problem))),
    };
    let fields = match fields {
        Value::Array(fields) => fields,
        Value::Nil => return Some(Ok(None)),
        _ => return None,
    };
    let texts: Option<Vec<String>> = fields.into_iter().map(text).collect();
    let event = texts
        .ok_or_else(|| "a field is no text".to_owned())
        .and_then(|texts| {
            let pairs: BTreeMap<String, String> = texts
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect();
            encode::event(&pairs)
        });
    let event = event
        .inspect_err(|problem| {
            Counter::StoreForeign.count();
            tracing::debug!(key, %id, problem, "an entry that is not ours is left out");
        })
        .ok();
    Some(Ok(Some((id, event))))
}
