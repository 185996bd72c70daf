//! The audit line of what is done here because the agent is away. What the agent does, it writes down itself.

use crate::{
    api::convert,
    config::AuditConfig,
    telemetry::audit::{self, Line},
};
use serde_json::{Value, json};
use voice_room::{RoomId, timeline::Actor};

/// One action without the agent. Its line is written once it is known what came of it.
#[derive(Debug)]
pub(super) struct Unattended<'a> {
    audit: &'a AuditConfig,
    line: Line,
}

impl<'a> Unattended<'a> {
    /// The caller does this.
    pub(super) fn new(audit: &'a AuditConfig, action: &'static str) -> Unattended<'a> {
        let uid = Some(nix::unistd::getuid().as_raw());
        let line = Line::new(action, Actor::Operator { uid }, convert::now());
        let line = line.arguments(json!({ "agent": "away" }));
        Unattended { audit, line }
    }

    /// To this room.
    pub(super) fn to(mut self, room: Option<&RoomId>) -> Self {
        if let Some(room) = room {
            self.line = self.line.room(room.as_str());
        }
        self
    }

    /// For this reason.
    pub(super) fn because(mut self, reason: &str) -> Self {
        self.line = self.line.reason(reason);
        self
    }

    /// With these arguments.
    pub(super) fn saying(mut self, mut arguments: Value) -> Self {
        arguments["agent"] = "away".into();
        self.line = self.line.arguments(arguments);
        self
    }

    /// This came of it. A line that cannot be written is told, and keeps nothing from being done.
    pub(super) fn ended<T>(self, result: Result<T, super::Failure>) -> Result<T, super::Failure> {
        let told = match &result {
            Ok(_) => json!({ "ok": true }),
            Err(failure) => json!({ "ok": false, "problem": failure.message }),
        };
        if let Some(file) = &self.audit.file
            && let Err(problem) = audit::append(file, self.line.result(told))
        {
            eprintln!("not in the audit log {}: {problem}", file.display());
        }
        result
    }
}
