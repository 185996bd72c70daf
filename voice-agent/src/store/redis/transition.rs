//! A change as its script (`scripts/transition.lua`) is given it. What record and event have in common is sent once.

use super::{encode, keys, problem::Problem};
use crate::store::wall_now;
use redis::{Cmd, RedisWrite};
use voice_room::{Change, EventType, State, Wall, record::IsolationChange};

/// How long the highest epoch of a room is remembered after its last change.
pub(super) const FENCE_SECONDS: u64 = 7 * 86_400;
/// Keys of the call.
pub(super) const KEYS: usize = 6;

/// What of a change has to be written down before it can be sent.
pub(super) struct Transition<'a> {
    change: &'a Change,
    record_seconds: u64,
    data: String,
    message: String,
    actor: String,
    isolation: String,
}

impl Transition<'_> {
    /// Writes it down, with the seconds a record lives.
    ///
    /// # Errors
    /// It cannot be, or its record and its event are not of one change.
    pub(super) fn of(change: &Change, record_seconds: u64) -> Result<Transition<'_>, Problem> {
        let (record, event) = (&change.record, &change.event);
        let room = &record.room;
        let unable =
            |e: serde_json::Error| Problem::Refused(format!("cannot write a change of {room} down: {e}"));
        let same = event.room == *room
            && event.incarnation == record.incarnation
            && event.new_state == record.state
            && event.version == record.version
            && event.epoch == record.epoch
            && event.op_id == record.op_id;
        if !same {
            return Err(Problem::Refused(format!(
                "a change of {room} is not sent: its record and its event are not of one change"
            )));
        }
        Ok(Transition {
            change,
            record_seconds,
            data: encode::data(record).map_err(unable)?,
            message: serde_json::to_string(event).map_err(unable)?,
            actor: serde_json::to_string(&event.actor).map_err(unable)?,
            isolation: match &change.isolation {
                IsolationChange::Set(isolation) => serde_json::to_string(isolation).map_err(unable)?,
                IsolationChange::Keep | IsolationChange::Clear => String::new(),
            },
        })
    }

    /// Keys and arguments, in the order that the head of the script tells. What remains of an isolation is told at the moment of
    /// sending.
    pub(super) fn write(&self, cmd: &mut Cmd) {
        let (record, event) = (&self.change.record, &self.change.event);
        let partition = keys::partition(&record.room);
        cmd.arg(keys::room(&record.room))
            .arg(keys::fence(&record.room))
            .arg(keys::isolation(&record.room))
            .arg(keys::events(partition))
            .arg(keys::isolated(partition))
            .arg(keys::clients(&record.room));
        let kind = match event.event_type {
            EventType::Create | EventType::Adopt => "begin",
            EventType::Restore if self.change.is_by_hand() => "repair",
            EventType::Restore => "restore",
            _ => "go",
        };
        cmd.arg(kind)
            .arg(record.version.0.saturating_sub(1))
            .arg(event.old_state.map_or("", State::name))
            .arg(FENCE_SECONDS)
            .arg(self.record_seconds)
            .arg(keys::CHANNEL)
            .arg(&self.message);
        match &self.change.isolation {
            IsolationChange::Keep => cmd.arg("keep").arg("").arg(0).arg(0),
            IsolationChange::Clear => cmd.arg("clear").arg("").arg(0).arg(0),
            IsolationChange::Set(isolation) => cmd
                .arg("set")
                .arg(&self.isolation)
                .arg(remaining(isolation.until, wall_now()))
                .arg(isolation.until.0),
        };
        cmd.arg(&*record.room)
            .arg(record.state.name())
            .arg(record.version.0);
        cmd.write_arg_fmt(record.epoch);
        cmd.arg(&*record.op_id)
            .arg(record.incarnation.0)
            .arg(&*record.owner)
            .arg(record.since.0)
            .arg(&self.data)
            .arg(event.trace_id.as_ref().map_or("", |id| id.as_str()))
            .arg(event.event_type.name())
            .arg(&self.actor)
            .arg(&event.reason)
            .arg(event.timestamp.0);
    }
}

/// Milliseconds until `until`; 0 when that is past.
fn remaining(until: Wall, now: Wall) -> u64 {
    u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX)
}
