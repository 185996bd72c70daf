//! How a command fails: a class with an exit code and a stable name, and one line for a person.

use std::process::ExitCode;

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The agent or the kernel refused, or something broke.
    Failed,
    /// Wrong arguments.
    Usage,
    /// Wrong configuration.
    Config,
    /// Nobody listens on the admin socket.
    AgentNotRunning,
    /// Somebody listens and does not answer.
    AgentSilent,
    /// No such room.
    NoSuchRoom,
    /// Not allowed to.
    Permission,
}

impl Code {
    /// Every class.
    pub const ALL: [Code; 7] = [
        Code::Failed,
        Code::Usage,
        Code::Config,
        Code::AgentNotRunning,
        Code::AgentSilent,
        Code::NoSuchRoom,
        Code::Permission,
    ];

    /// The process's exit code, as documented in `--help`.
    pub fn exit(self) -> u8 {
        match self {
            Code::Failed => 1,
            Code::Usage | Code::Config => 2,
            Code::AgentNotRunning | Code::AgentSilent => 3,
            Code::NoSuchRoom => 4,
            Code::Permission => 5,
        }
    }

    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Code::Failed => "failed",
            Code::Usage => "usage",
            Code::Config => "config",
            Code::AgentNotRunning => "agent_not_running",
            Code::AgentSilent => "agent_silent",
            Code::NoSuchRoom => "no_such_room",
            Code::Permission => "permission",
        }
    }
}

/// A command that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub code: Code,
    /// The core's own name of a refusal ("not_in_table"), where it has one.
    pub reason: Option<String>,
    /// What went wrong and what to do next. One line, except for a list of configuration mistakes.
    pub message: String,
    /// What was done before it failed; belongs on stdout.
    pub done: String,
}

impl Failure {
    /// A failure without a reason of the core.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason: None,
            message: message.into(),
            done: String::new(),
        }
    }

    /// Whether the pinned maps may stand in for the agent.
    pub(super) fn agent_is_away(&self) -> bool {
        matches!(self.code, Code::AgentNotRunning | Code::AgentSilent)
    }

    /// Prints it on stderr, and gives the exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        if json {
            eprintln!("{}", self.to_json());
        } else {
            eprintln!("error: {}", self.message);
        }
        ExitCode::from(self.code.exit())
    }

    fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({
            "code": self.code.name(),
            "exit": self.code.exit(),
            "message": self.message,
        });
        if let Some(reason) = &self.reason {
            error["reason"] = reason.as_str().into();
        }
        serde_json::json!({ "error": error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_in_json_names_its_class_exit_code_and_the_cores_reason() {
        let failure = Failure {
            reason: Some("unknown_room".into()),
            ..Failure::new(Code::NoSuchRoom, "room a is not known here")
        };
        assert_eq!(
            failure.to_json().to_string(),
            r#"{"error":{"code":"no_such_room","exit":4,"message":"room a is not known here","reason":"unknown_room"}}"#
        );
    }
}
