//! The store that many nodes share: Redis, single or Cluster. Each change is one script (`redis/scripts/transition.lua`), so
//! that nobody ever sees half of it. How a change is judged is the script's business, the same as the embedded store's.

mod answer;
mod encode;
pub mod groups;
pub mod keys;
mod link;
mod problem;
mod script;
mod stream;
mod survey;
mod transition;

pub use stream::Follower;

use super::{Cursor, Member, Position, Refresh, Refreshed, RoomStore, Seen, StoreError, Stored};
use crate::{config::redis::RedisConfig, telemetry::Counter};
use answer::Answer;
use async_trait::async_trait;
use futures::{StreamExt, stream::iter};
use link::Link;
use problem::Problem;
use script::Call;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use transition::Transition;
use voice_room::{
    Change, Isolation, NodeName, RoomId, RoomRecord, StateChangeEvent, patrol::StoreSight, record::Committed,
};

/// A change of unknown outcome is sent again so often, by the same op_id, before the core is told; it asks again later.
const TRIES: u32 = 3;
/// Before the second try; half as much again before the next.
const WAIT: Duration = Duration::from_millis(100);
/// Calls on their way at one time of one request that needs many.
const AT_ONCE: usize = 256;

/// The Redis store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Redis {
    link: Arc<Link>,
    config: Arc<RedisConfig>,
}

impl Redis {
    /// Reads the files that the configuration names. Connects at the first call only: an agent starts without Redis.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(config: &RedisConfig) -> Result<Redis, StoreError> {
        Ok(Redis {
            link: Arc::new(Link::new(config)?),
            config: Arc::new(config.clone()),
        })
    }

    /// Whether it answers, and within which time. For probes and `doctor`.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<Duration, StoreError> {
        let begin = std::time::Instant::now();
        self.link.call(&redis::cmd("PING")).await.map_err(Problem::told)?;
        Ok(begin.elapsed())
    }

    /// As [`RoomStore::commit`], but sent once only: the outcome of an error is not known. For who keeps its own time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn commit_once(&self, change: Change) -> Result<Committed, StoreError> {
        self.transition(&change).await.map_err(Problem::told)
    }

    /// The hash of the script that does a change, and what follows it in EVALSHA: for who wants to see or measure it.
    ///
    /// # Errors
    /// The change cannot be written down.
    pub fn sample_call(change: &Change) -> Result<(String, Vec<String>), String> {
        let written = Transition::of(change, 300).map_err(|problem| format!("{problem:?}"))?;
        let call = script::TRANSITION.call(transition::KEYS, |cmd| written.write(cmd));
        let words = call.args_iter().skip(2).filter_map(|word| match word {
            redis::Arg::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        Ok((script::TRANSITION.hash().to_owned(), words.collect()))
    }

    /// One room's record, with the milliseconds it has left; -1 when it does not run out.
    async fn record(&self, room: &RoomId) -> Result<Option<(RoomRecord, i64)>, Problem> {
        let key = keys::room(room);
        let call = Call {
            keys: vec![key.clone()],
            args: Vec::new(),
        };
        let answer = Answer::read(script::READ.run(&self.link, &call).await?, &key)?;
        match answer.word() {
            "MISSING" => return Ok(None),
            "RECORD" => {}
            _ => return Err(answer.unexpected()),
        }
        let left = answer.at(10)?.parse().map_err(|_| answer.unexpected())?;
        Ok(answer.record(room)?.map(|record| (record, left)))
    }

    async fn transition(&self, change: &Change) -> Result<Committed, Problem> {
        let room = &change.record.room;
        let written = Transition::of(change, self.config.record_ttl.as_secs().max(1))?;
        let value = script::TRANSITION
            .send(&self.link, transition::KEYS, |cmd| written.write(cmd))
            .await?;
        Answer::read(value, &keys::room(room))?.committed(room)
    }

    /// Sends a change until its outcome is known, or the tries are spent.
    async fn settled(&self, change: &Change) -> Result<Committed, Problem> {
        let mut wait = WAIT;
        for _ in 1..TRIES {
            match self.transition(change).await {
                Err(Problem::Again(problem)) => {
                    tracing::debug!(room = %change.record.room, problem, "a change is sent again");
                    Counter::StoreRetried.count();
                }
                other => return other,
            }
            tokio::time::sleep(wait).await;
            wait = wait * 3 / 2;
        }
        self.transition(change).await
    }

    async fn isolations(&self, partition: u8) -> Result<Vec<Result<Isolation, Problem>>, Problem> {
        let list = keys::isolated(partition);
        let mut range = redis::cmd("ZRANGE");
        range.arg(&list).arg(0).arg(-1);
        let rooms = texts(self.link.call(&range).await?, &list)?;
        let mut isolations = Vec::new();
        for room in rooms {
            let isolation = match RoomId::new(&room) {
                Ok(room) => self.isolation_in(&list, &room).await.transpose(),
                Err(error) => Some(Err(Problem::foreign(&*list, error.to_string()))),
            };
            isolations.extend(isolation);
        }
        Ok(isolations)
    }

    async fn isolation_in(&self, list: &str, room: &RoomId) -> Result<Option<Isolation>, Problem> {
        let key = keys::isolation(room);
        let call = Call {
            keys: vec![key.clone(), list.into()],
            args: vec![room.to_string()],
        };
        let answer = Answer::read(script::ISOLATION.run(&self.link, &call).await?, &key)?;
        match answer.word() {
            "MISSING" => Ok(None),
            "ISOLATION" => {
                let isolation: Isolation = serde_json::from_str(answer.at(1)?)
                    .map_err(|e| Problem::foreign(&*key, e.to_string()))?;
                match isolation.room == *room {
                    true => Ok(Some(isolation)),
                    false => Err(Problem::foreign(key, format!("it is of room {}", isolation.room))),
                }
            }
            _ => Err(answer.unexpected()),
        }
    }

    async fn refreshed(&self, refresh: &Refresh) -> Result<Refreshed, Problem> {
        let (room, epoch) = (&refresh.room, refresh.epoch);
        let key = keys::room(room);
        let call = Call {
            keys: vec![key.clone(), keys::fence(room), keys::clients(room)],
            args: vec![
                refresh.version.to_string(),
                epoch.era.to_string(),
                epoch.revision.to_string(),
                self.record_seconds(),
                transition::FENCE_SECONDS.to_string(),
                refresh.op_id.to_string(),
            ],
        };
        let answer = Answer::read(script::REFRESH.run(&self.link, &call).await?, &key)?;
        match answer.word() {
            "KEPT" => Ok(Refreshed::Kept),
            "MISSING" => Ok(Refreshed::Missing),
            "FENCED" => answer.epoch().map(Refreshed::Fenced),
            "DIFFERS" => match answer.record(room)? {
                Some(record) => Ok(Refreshed::Differs(record)),
                None => Err(answer.unexpected()),
            },
            _ => Err(answer.unexpected()),
        }
    }

    async fn told_served(&self, room: &RoomId, by: &NodeName) -> Result<(), Problem> {
        let key = keys::room(room);
        let call = Call {
            keys: vec![key.clone(), keys::clients(room), keys::served(room)],
            args: vec![by.to_string(), self.record_seconds()],
        };
        let answer = Answer::read(script::SERVED.run(&self.link, &call).await?, &key)?;
        match answer.word() {
            "OK" => Ok(()),
            _ => Err(answer.unexpected()),
        }
    }

    /// Since a key was written whose expiry is a record's, by the milliseconds that it has left. One that does not run out is old.
    fn age(&self, left: i64) -> Duration {
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        self.config.record_ttl.saturating_sub(left)
    }

    async fn moved(&self, room: &RoomId, clients: &BTreeMap<String, bool>) -> Result<(), Problem> {
        let of = |wanted: bool| {
            clients
                .iter()
                .filter(move |(_, joined)| **joined == wanted)
                .map(|(id, _)| id.clone())
        };
        let joined: Vec<String> = of(true).collect();
        let mut args = vec![self.record_seconds(), joined.len().to_string()];
        args.extend(joined);
        args.extend(of(false));
        let key = keys::clients(room);
        let call = Call {
            keys: vec![key.clone()],
            args,
        };
        let answer = Answer::read(script::MEMBERS.run(&self.link, &call).await?, &key)?;
        match answer.word() {
            "OK" => Ok(()),
            _ => Err(answer.unexpected()),
        }
    }

    fn record_seconds(&self) -> String {
        self.config.record_ttl.as_secs().max(1).to_string()
    }
}

#[async_trait]
impl RoomStore for Redis {
    /// An outcome that is not known, because no answer came in time or the connection broke, is found out by sending the same
    /// op_id again. When others have changed the room further meanwhile, its events tell whether the change was applied.
    async fn commit(&self, change: Change) -> Result<Committed, StoreError> {
        let outcome = match self.settled(&change).await {
            Ok(Committed::Conflict(Some(stored))) if stored.version > change.record.version => {
                match self.was_applied(&change).await {
                    Ok(true) => Ok(Committed::Skipped),
                    Ok(false) => Ok(Committed::Conflict(Some(stored))),
                    Err(problem) => Err(problem),
                }
            }
            other => other,
        };
        outcome.map_err(Problem::told)
    }

    async fn load(&self, known: Vec<RoomId>) -> Result<Stored, StoreError> {
        let mut stored = Stored::default();
        let mut records = iter(known)
            .map(|room| async move { self.record(&room).await })
            .buffer_unordered(AT_ONCE);
        while let Some(record) = records.next().await {
            match record {
                Ok(record) => stored.rooms.extend(record.map(|(record, _)| record)),
                Err(foreign @ Problem::Foreign { .. }) => stored.damaged.push(foreign.told()),
                Err(other) => return Err(other.told()),
            }
        }
        let mut lists = iter(0..keys::PARTITIONS)
            .map(|partition| async move { self.isolations(partition).await })
            .buffer_unordered(AT_ONCE);
        while let Some(list) = lists.next().await {
            let list = match list {
                Ok(list) => list,
                Err(foreign @ Problem::Foreign { .. }) => vec![Err(foreign)],
                Err(other) => return Err(other.told()),
            };
            for isolation in list {
                match isolation {
                    Ok(isolation) => stored.isolations.push(isolation),
                    Err(foreign @ Problem::Foreign { .. }) => stored.damaged.push(foreign.told()),
                    Err(other) => return Err(other.told()),
                }
            }
        }
        Ok(stored)
    }

    /// What is not ours is counted, told in the log and left out of the answer: it is neither refreshed nor overwritten.
    async fn refresh(&self, rooms: Vec<Refresh>) -> Result<Vec<(RoomId, Refreshed)>, StoreError> {
        let mut answers = Vec::with_capacity(rooms.len());
        let mut asked = iter(rooms)
            .map(|refresh| async move { (self.refreshed(&refresh).await, refresh.room) })
            .buffered(AT_ONCE);
        while let Some((answer, room)) = asked.next().await {
            match answer {
                Ok(answer) => answers.push((room, answer)),
                Err(foreign @ Problem::Foreign { .. }) => {
                    let error = foreign.told();
                    tracing::error!(%room, %error, "not refreshed, and left as it is");
                }
                Err(other) => return Err(other.told()),
            }
        }
        Ok(answers)
    }

    async fn look(&self, room: RoomId) -> Result<Option<Seen>, StoreError> {
        let seen = self.record(&room).await.map_err(Problem::told)?;
        Ok(seen.map(|(record, left)| Seen {
            record,
            age: self.age(left),
        }))
    }

    /// What is not ours is counted, told in the log and left out of the answer.
    async fn tell_served(&self, rooms: Vec<RoomId>, by: &NodeName) -> Result<Vec<RoomId>, StoreError> {
        let mut told = Vec::with_capacity(rooms.len());
        let mut asked = iter(rooms)
            .map(|room| async move { (self.told_served(&room, by).await, room) })
            .buffered(AT_ONCE);
        while let Some((answer, room)) = asked.next().await {
            match answer {
                Ok(()) => told.push(room),
                Err(foreign @ Problem::Foreign { .. }) => {
                    let error = foreign.told();
                    tracing::error!(%room, %error, "not told that the room is served");
                }
                Err(other) => return Err(other.told()),
            }
        }
        Ok(told)
    }

    async fn served(&self, room: RoomId) -> Result<Option<Duration>, StoreError> {
        let key = keys::served(&room);
        let mut left = redis::cmd("PTTL");
        left.arg(&key);
        match self.link.call(&left).await.map_err(Problem::told)? {
            redis::Value::Int(-2) => Ok(None),
            redis::Value::Int(left) => Ok(Some(self.age(left))),
            _ => Err(Problem::foreign(key, "its time to live is no number").told()),
        }
    }

    async fn survey(&self, rooms: Vec<RoomId>) -> Result<Vec<(RoomId, StoreSight)>, StoreError> {
        let mut seen = Vec::with_capacity(rooms.len());
        let mut asked = iter(rooms)
            .map(|room| async move { (self.surveyed(&room).await, room) })
            .buffered(AT_ONCE);
        while let Some((sight, room)) = asked.next().await {
            seen.push((room, sight.map_err(Problem::told)?));
        }
        Ok(seen)
    }

    async fn isolation(&self, room: RoomId) -> Result<Option<Isolation>, StoreError> {
        let list = keys::isolated(keys::partition(&room));
        self.isolation_in(&list, &room).await.map_err(Problem::told)
    }

    async fn members(&self, changes: Vec<Member>) -> Result<(), StoreError> {
        let mut rooms: BTreeMap<RoomId, BTreeMap<String, bool>> = BTreeMap::new();
        for Member { room, client, joined } in changes {
            rooms.entry(room).or_default().insert(client.to_string(), joined);
        }
        let mut moved = iter(rooms)
            .map(|(room, clients)| async move { self.moved(&room, &clients).await })
            .buffer_unordered(AT_ONCE);
        let mut outcome = Ok(());
        while let Some(result) = moved.next().await {
            outcome = outcome.and(result.map_err(Problem::told));
        }
        outcome
    }

    async fn events(
        &self,
        after: Cursor,
        limit: usize,
    ) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        self.read_events(&after, limit).await.map_err(Problem::told)
    }
}

/// A list of texts.
fn texts(value: redis::Value, key: &str) -> Result<Vec<String>, Problem> {
    let redis::Value::Array(items) = value else {
        return Err(Problem::foreign(key, "the answer is no list"));
    };
    let texts: Option<Vec<String>> = items.into_iter().map(answer::text).collect();
    texts.ok_or_else(|| Problem::foreign(key, "the answer is no list of texts"))
}
