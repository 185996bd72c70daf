//! Reads lists of commands: what was committed, recorded, tripped, held; and the answers of a world in which everything
//! works.

use voice_room::{
    Command, Entry, Incarnation, Input, Mono, Now, Rejected, RoomId,
    command::Accepted,
    input::{ReplyId, StepResult},
    record::Committed,
    timeline::{Step, What},
};

/// The answer of a world in which everything works.
pub(crate) fn positive(now: Now, command: &Command) -> Option<Input> {
    let step = |room: &RoomId, incarnation: Incarnation, step: Step, at: Option<Mono>| {
        Some(Input::Step(StepResult {
            room: room.clone(),
            incarnation,
            step,
            at,
            result: Ok("done".into()),
        }))
    };
    match command {
        Command::Commit(change) => Some(stored(change, Ok(Committed::Ok))),
        Command::Journal(intent) => {
            let record = &intent.change.record;
            step(&record.room, record.incarnation, Step::Journal, None)
        }
        Command::Arm {
            room, incarnation, ..
        } => step(room, *incarnation, Step::Arm, Some(now.mono)),
        Command::PushExpired(e) => step(&e.room, e.incarnation, Step::Push, None),
        Command::Record(Entry {
            room,
            incarnation,
            what: What::Trip { .. },
            ..
        })
        | Command::RecordAgain(Entry {
            room, incarnation, ..
        }) => step(room, *incarnation, Step::Audit, None),
        _ => None,
    }
}

pub(crate) fn stored(change: &voice_room::Change, result: Result<Committed, String>) -> Input {
    Input::Stored {
        room: change.record.room.clone(),
        op_id: change.record.op_id.clone(),
        result,
    }
}

pub(crate) fn replies(commands: &[Command], id: ReplyId) -> Vec<Result<Accepted, Rejected>> {
    let answer = |c: &Command| match c {
        Command::Reply { to, result } if *to == id => Some(result.clone()),
        _ => None,
    };
    commands.iter().filter_map(answer).collect()
}

pub(crate) fn commits(commands: &[Command]) -> Vec<voice_room::Change> {
    let change = |c: &Command| match c {
        Command::Commit(change) => Some(change.clone()),
        _ => None,
    };
    commands.iter().filter_map(change).collect()
}

/// What was recorded of one room.
pub(crate) fn recorded(commands: &[Command], name: &str) -> Vec<What> {
    let what = |c: &Command| match c {
        Command::Record(entry) if *entry.room == *name => Some(entry.what.clone()),
        _ => None,
    };
    commands.iter().filter_map(what).collect()
}

/// Rooms tripped by a rule or an operator, in order.
pub(crate) fn trips(commands: &[Command]) -> Vec<(String, voice_room::timeline::Rule)> {
    let trip = |c: &Command| match c {
        Command::Record(Entry {
            room,
            what: What::Trip { rule, .. },
            ..
        }) => Some((room.to_string(), *rule)),
        _ => None,
    };
    commands.iter().filter_map(trip).collect()
}

/// Why rooms were held, in order.
pub(crate) fn holds(commands: &[Command]) -> Vec<(String, voice_room::timeline::Hold)> {
    let held = |c: &Command| match c {
        Command::Record(Entry {
            room,
            what: What::Held { hold, .. },
            ..
        }) => Some((room.to_string(), *hold)),
        _ => None,
    };
    commands.iter().filter_map(held).collect()
}

/// The kinds of commands, for comparing orders.
pub(crate) fn kinds(commands: &[Command]) -> Vec<&'static str> {
    let kind = |c: &Command| match c {
        Command::Journal(_) => "journal",
        Command::Forget { .. } => "forget",
        Command::KeepMaintenance { .. } => "keep_maintenance",
        Command::ForgetMaintenance { .. } => "forget_maintenance",
        Command::Bind { .. } => "bind",
        Command::Unbind { .. } => "unbind",
        Command::Arm { shadow: false, .. } => "arm",
        Command::Arm { shadow: true, .. } => "arm shadow",
        Command::Disarm { .. } => "disarm",
        Command::PushExpired(_) => "push expired",
        Command::PushRestored(_) => "push restored",
        Command::PushUpdate(_) => "push update",
        Command::Tell { .. } => "tell",
        Command::Prepare(_) => "prepare",
        Command::Rollback(_) => "rollback",
        Command::Commit(_) => "commit",
        Command::Claim(_) => "claim",
        Command::Cede { .. } => "cede",
        Command::Describe(_) => "describe",
        Command::Refresh(_) => "refresh",
        Command::TellServed { .. } => "tell served",
        Command::Look { .. } => "look",
        Command::Degraded { .. } => "degraded",
        Command::Members(_) => "members",
        Command::Keep(_) => "keep",
        Command::ForgetRoom { .. } => "forget room",
        Command::Record(_) => "record",
        Command::RecordAgain(_) => "record again",
        Command::Note { .. } => "note",
        Command::Reply { .. } => "reply",
    };
    commands.iter().map(kind).collect()
}
