//! Consumer groups over the streams of all partitions: each event goes to one consumer of the group, and comes again until it
//! is acknowledged.

use super::{Redis, keys, problem::Problem, stream};
use crate::store::{Cursor, Position, StoreError};
use futures::{StreamExt, stream::iter};
use redis::Value;
use std::time::Duration;
use voice_room::StateChangeEvent;

/// Events of one partition in one answer.
const PAGE: usize = 100;

/// Where a new group begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At the oldest event that is kept.
    Oldest,
    /// With what comes from now on.
    Now,
    /// Behind a position, or at a time.
    At(Cursor),
}

/// One consumer of a group.
#[derive(Debug, Clone)]
pub struct Consumer {
    redis: Redis,
    group: String,
    name: String,
}

impl Redis {
    /// Takes part in `group` as the consumer `name`. A group that does not exist yet is made, and begins at `begin`: from then on
    /// nothing is cut that it has not acknowledged, until [`Redis::forget_group`].
    ///
    /// # Errors
    /// Redis does not answer, or a stream is none.
    pub async fn consumer(&self, group: &str, name: &str, begin: &Begin) -> Result<Consumer, StoreError> {
        for partition in 0..keys::PARTITIONS {
            let from = match begin {
                Begin::Oldest => "0".to_owned(),
                Begin::Now => "$".to_owned(),
                Begin::At(cursor) => before(&cursor.start(partition)),
            };
            let mut create = redis::cmd("XGROUP");
            create
                .arg("CREATE")
                .arg(keys::events(partition))
                .arg(group)
                .arg(from)
                .arg("MKSTREAM");
            match self.link.call(&create).await {
                Ok(_) => {}
                Err(Problem::Refused(problem)) if problem.contains("BUSYGROUP") => {}
                Err(problem) => return Err(problem.told()),
            }
        }
        Ok(Consumer {
            redis: self.clone(),
            group: group.into(),
            name: name.into(),
        })
    }

    /// Forgets a group, with what it has not acknowledged. Whether there was one.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn forget_group(&self, group: &str) -> Result<bool, StoreError> {
        let mut found = false;
        for partition in 0..keys::PARTITIONS {
            let mut destroy = redis::cmd("XGROUP");
            destroy.arg("DESTROY").arg(keys::events(partition)).arg(group);
            match self.link.call(&destroy).await {
                Ok(answer) => found |= answer == Value::Int(1),
                // The partition has no stream yet.
                Err(Problem::Refused(problem)) if problem.contains("requires the key to exist") => {}
                Err(problem) => return Err(problem.told()),
            }
        }
        Ok(found)
    }
}

impl Consumer {
    /// New events, of any partition, that go to this consumer; empty when there are none now.
    ///
    /// # Errors
    /// Redis does not answer. What it had already given is pending, and comes again by [`Consumer::claim`].
    pub async fn read(&self) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        self.all(|partition| self.read_one(partition)).await
    }

    /// Events that a consumer of the group, this one too, was given and has not acknowledged within `idle`.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn claim(&self, idle: Duration) -> Result<Vec<(Position, StateChangeEvent)>, StoreError> {
        self.all(|partition| self.claim_one(partition, idle)).await
    }

    /// Says that events were dealt with: they do not come again.
    ///
    /// # Errors
    /// Redis does not answer; acknowledge them again.
    pub async fn acknowledge(&self, positions: &[Position]) -> Result<(), StoreError> {
        for partition in 0..keys::PARTITIONS {
            let of = |position: &Position| match position {
                Position::Stream { id, partition: p } if *p == partition => Some(id.to_string()),
                _ => None,
            };
            let ids: Vec<String> = positions.iter().filter_map(of).collect();
            if !ids.is_empty() {
                let mut ack = redis::cmd("XACK");
                ack.arg(keys::events(partition)).arg(&self.group).arg(ids);
                self.redis.link.call(&ack).await.map_err(Problem::told)?;
            }
        }
        Ok(())
    }

    async fn all<F>(&self, ask: impl Fn(u8) -> F) -> Result<Vec<(Position, StateChangeEvent)>, StoreError>
    where
        F: Future<Output = Result<Vec<stream::Found>, Problem>>,
    {
        let mut answers = iter(0..keys::PARTITIONS)
            .map(|partition| {
                let asked = ask(partition);
                async move { (partition, asked.await) }
            })
            .buffer_unordered(usize::from(keys::PARTITIONS));
        let (mut events, mut foreign) = (Vec::new(), Vec::new());
        while let Some((partition, answer)) = answers.next().await {
            for (id, event) in answer.map_err(Problem::told)? {
                let position = Position::Stream { id, partition };
                match event {
                    Some(event) => events.push((position, event)),
                    None => foreign.push(position),
                }
            }
        }
        // Nobody can deal with what is not ours; unacknowledged it would be kept for ever.
        self.acknowledge(&foreign).await?;
        events.sort_by_key(|(position, _)| match position {
            Position::Stream { id, partition } => (*id, *partition),
            Position::Local(_) => Default::default(),
        });
        Ok(events)
    }

    async fn read_one(&self, partition: u8) -> Result<Vec<stream::Found>, Problem> {
        let key = keys::events(partition);
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(&self.group)
            .arg(&self.name)
            .arg("COUNT")
            .arg(PAGE);
        read.arg("STREAMS").arg(&key).arg(">");
        let shape = || Problem::foreign(&*key, "the answer is no list of streams");
        match self.redis.link.call(&read).await? {
            Value::Nil => Ok(Vec::new()),
            Value::Array(mut streams) if streams.len() == 1 => match streams.pop() {
                Some(Value::Array(mut pair)) if pair.len() == 2 => {
                    stream::entries(pair.pop().unwrap_or_default(), &key)
                }
                _ => Err(shape()),
            },
            _ => Err(shape()),
        }
    }

    async fn claim_one(&self, partition: u8, idle: Duration) -> Result<Vec<stream::Found>, Problem> {
        let key = keys::events(partition);
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&key).arg(&self.group).arg(&self.name);
        claim
            .arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX))
            .arg("0-0")
            .arg("COUNT")
            .arg(PAGE);
        match self.redis.link.call(&claim).await? {
            Value::Array(parts) => match parts.into_iter().nth(1) {
                Some(found) => stream::entries(found, &key),
                None => Err(Problem::foreign(&*key, "the answer of XAUTOCLAIM has no entries")),
            },
            _ => Err(Problem::foreign(&*key, "the answer of XAUTOCLAIM is no list")),
        }
    }
}

/// What a group has read when it goes on at `start`, which is as XRANGE has it.
fn before(start: &str) -> String {
    match (start, start.strip_prefix('(')) {
        ("-", _) => "0".into(),
        (_, Some(read)) => read.into(),
        (ms, None) => match ms.parse::<u64>() {
            // Entries of this millisecond are still to come.
            Ok(ms) => format!("{}-{}", ms.saturating_sub(1), u64::MAX),
            Err(_) => "0".into(),
        },
    }
}
