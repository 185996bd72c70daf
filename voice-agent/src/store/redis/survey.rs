//! What is stored of a room, field by field, for patrol: one that cannot be read keeps none of the others from being compared.

use super::{
    Redis,
    answer::Answer,
    encode::{self, Data},
    keys,
    problem::Problem,
    script::{self, Call},
};
use serde::de::DeserializeOwned;
use std::str::FromStr;
use voice_room::{
    Incarnation, RoomId, Version, Wall,
    patrol::{Field, Fields, StoreSight, Stored},
};

/// So much is shown of what cannot be read.
const SHOWN: usize = 80;

impl Redis {
    pub(super) async fn surveyed(&self, room: &RoomId) -> Result<StoreSight, Problem> {
        let key = keys::room(room);
        let call = Call {
            keys: vec![key.clone(), keys::fence(room), keys::isolation(room)],
            args: Vec::new(),
        };
        let answer = Answer::read(script::SURVEY.run(&self.link, &call).await?, &key)?;
        let record = match answer.word() {
            "NO_RECORD" => Stored::Nothing,
            "FOREIGN_RECORD" => Stored::Foreign(shown(answer.at(3)?)),
            "RECORD" => Stored::Record(Box::new(fields(&answer)?)),
            _ => return Err(answer.unexpected()),
        };
        Ok(StoreSight {
            record,
            fence: optional(answer.at(1)?, encode::parse_epoch),
            isolation: optional(answer.at(2)?, |text| serde_json::from_str(text).ok()),
        })
    }
}

fn fields(answer: &Answer) -> Result<Fields, Problem> {
    let number = |at| {
        answer
            .at(at)
            .map(|text| read(text, |text| text.parse::<u64>().ok()))
    };
    Ok(Fields {
        state: read(answer.at(3)?, named),
        version: number(4)?.map(Version),
        epoch: read(answer.at(5)?, encode::parse_epoch),
        op_id: read(answer.at(6)?, parsed),
        incarnation: number(7)?.map(Incarnation),
        owner: read(answer.at(8)?, parsed),
        since: number(9)?.map(Wall),
        data: read(answer.at(10)?, |text| {
            serde_json::from_str::<Data>(text).ok().map(drop)
        }),
    })
}

/// A field that must be there.
fn read<T>(text: &str, value: impl Fn(&str) -> Option<T>) -> Field<T> {
    optional(text, value).unwrap_or_else(|| Err("nothing".into()))
}

/// A text as the script gives it: `None` where nothing is stored.
fn optional<T>(text: &str, value: impl Fn(&str) -> Option<T>) -> Option<Field<T>> {
    match text.strip_prefix('=') {
        Some(text) => Some(value(text).ok_or_else(|| shown(text))),
        None => text.strip_prefix('!').map(|problem| Err(shown(problem))),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn named<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.into())).ok()
}
