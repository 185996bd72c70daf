//! What an operator asked for on the admin socket: one line, also when it was refused or nobody waited for the answer.

use super::{Audit, Line};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::SystemTime;
use voice_room::{Wall, timeline::Actor};

/// Longer names and reasons than are allowed are refused; of those, this much is kept, in characters.
const SHOWN: usize = 300;

/// An action under way. Dropped without an answer, its line says that the caller hung up.
#[derive(Debug)]
pub struct Asked<'a> {
    audit: &'a Audit,
    line: Option<Line>,
}

impl Audit {
    /// `actor` asks for this.
    pub fn asked(&self, action: &'static str, actor: Actor) -> Asked<'_> {
        let line = Some(Line::new(action, actor, now()));
        Asked { audit: self, line }
    }
}

impl Asked<'_> {
    /// For this room, as it was named.
    #[must_use]
    pub fn of_room(self, room: &str) -> Self {
        self.with(|line| line.room(short(room)))
    }

    /// For this reason.
    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        self.with(|line| line.reason(short(reason)))
    }

    /// With these arguments.
    #[must_use]
    pub fn saying(self, arguments: Value) -> Self {
        self.with(|line| line.arguments(arguments))
    }

    fn with(mut self, add: impl FnOnce(Line) -> Line) -> Self {
        self.line = self.line.take().map(add);
        self
    }

    /// It was done, with this answer.
    pub fn done(mut self, answer: &impl Serialize) {
        self.end(json!({ "ok": true, "answer": answer }));
    }

    /// It was refused or failed; `code` is the core's own name of a refusal.
    pub fn refused(mut self, code: Option<&str>, problem: &str) {
        self.end(json!({ "ok": false, "code": code, "problem": short(problem) }));
    }

    fn end(&mut self, result: Value) {
        if let Some(line) = self.line.take() {
            self.audit.write(line.result(result));
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.end(json!({ "ok": null, "problem": "the caller hung up before the answer" }));
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Wall(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}
