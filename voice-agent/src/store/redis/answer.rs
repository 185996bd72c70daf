//! The answers of the scripts, which are lists of texts with a word at their head. What has another shape is an error, and is
//! never guessed at.

use super::{encode, problem::Problem};
use redis::Value;
use voice_room::{Epoch, RoomRecord, record::Committed};

/// A list of texts.
pub(super) struct Answer {
    texts: Vec<String>,
    /// Of which key, for messages.
    key: String,
}

impl Answer {
    /// Reads an answer about `key`.
    pub(super) fn read(value: Value, key: &str) -> Result<Answer, Problem> {
        let shape = || Problem::foreign(key, "the answer of the script is no list of texts");
        let Value::Array(items) = value else {
            return Err(shape());
        };
        let texts: Option<Vec<String>> = items.into_iter().map(text).collect();
        let texts = texts.ok_or_else(shape)?;
        let answer = Answer {
            texts,
            key: key.to_owned(),
        };
        if answer.word() == "FOREIGN" {
            return Err(Problem::foreign(answer.at(1)?, answer.at(2)?));
        }
        Ok(answer)
    }

    /// What it begins with; empty for an empty list.
    pub(super) fn word(&self) -> &str {
        self.texts.first().map_or("", String::as_str)
    }

    /// The text at `index`.
    pub(super) fn at(&self, index: usize) -> Result<&str, Problem> {
        self.texts
            .get(index)
            .map(String::as_str)
            .ok_or_else(|| self.unexpected())
    }

    /// The record behind the word, if there is one.
    pub(super) fn record(&self, room: &voice_room::RoomId) -> Result<Option<RoomRecord>, Problem> {
        match self.texts.get(1..) {
            None | Some([]) => Ok(None),
            Some(fields) => encode::record(room, fields)
                .map(Some)
                .map_err(|problem| Problem::foreign(&*self.key, problem)),
        }
    }

    /// The epoch behind the word.
    pub(super) fn epoch(&self) -> Result<Epoch, Problem> {
        encode::parse_epoch(self.at(1)?).ok_or_else(|| self.unexpected())
    }

    /// The answer to a change.
    pub(super) fn committed(&self, room: &voice_room::RoomId) -> Result<Committed, Problem> {
        match self.word() {
            "OK" => Ok(Committed::Ok),
            "SKIPPED" => Ok(Committed::Skipped),
            "FENCED" => self.epoch().map(Committed::Fenced),
            "CONFLICT" => self.record(room).map(Committed::Conflict),
            _ => Err(self.unexpected()),
        }
    }

    /// It is none of those that were expected.
    pub(super) fn unexpected(&self) -> Problem {
        let said: String = self.texts.join(" ").chars().take(80).collect();
        Problem::foreign(
            &*self.key,
            format!("the script answers {said:?}, which is no answer of ours"),
        )
    }
}

/// A text, or a number as text.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK".into()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voice_room::RoomId;

    fn answer(texts: &[&str]) -> Result<Committed, Problem> {
        let items = texts
            .iter()
            .map(|t| Value::BulkString(t.as_bytes().to_vec()))
            .collect();
        Answer::read(Value::Array(items), "key")?.committed(&RoomId::new("a").unwrap())
    }

    #[test]
    fn an_answer_of_the_wrong_shape_is_an_error_and_never_taken_for_another() {
        for wrong in [
            &[][..],
            &["ok"],
            &["OKAY"],
            &["FENCED"],
            &["FENCED", "x"],
            &["CONFLICT", "LIVEING", "1"],
            &["FOREIGN"],
        ] {
            assert!(matches!(answer(wrong), Err(Problem::Foreign { .. })), "{wrong:?}");
        }
        for wrong in [
            Value::Nil,
            Value::Int(1),
            Value::Okay,
            Value::Array(vec![Value::Nil]),
        ] {
            assert!(Answer::read(wrong, "key").is_err());
        }
        assert_eq!(answer(&["SKIPPED"]), Ok(Committed::Skipped));
        assert_eq!(
            answer(&["FENCED", "1.7"]),
            Ok(Committed::Fenced(Epoch { era: 1, revision: 7 }))
        );
        assert_eq!(answer(&["CONFLICT"]), Ok(Committed::Conflict(None)));
    }
}
