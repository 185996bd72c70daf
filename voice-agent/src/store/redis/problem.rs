//! Why a call to Redis did not do what it should: what may be tried again, what an operator must mend, what is not ours.

use crate::{
    store::{Position, StoreError},
    telemetry::Counter,
};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// See the variants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// Not now: away, overloaded, failing over, moving. Whether the command was done is not known.
    Again(String),
    /// The server will not do it, however often it is asked.
    Refused(String),
    /// The script is not there; it is sent whole then.
    NoScript,
    /// What is stored is not ours, or the answer is not what was asked for.
    Foreign {
        /// Where.
        key: String,
        /// What.
        problem: String,
    },
    /// Events that were asked for are gone.
    Cut(Vec<Position>),
}

impl Problem {
    /// What an error of the client or the server means. `place` is where it was asked.
    pub(super) fn of(error: &RedisError, place: &str) -> Problem {
        let again = |what: &str| Problem::Again(format!("{place}: {what}{error}"));
        let kind = match error.kind() {
            ErrorKind::Server(kind) => kind,
            ErrorKind::AuthenticationFailed => {
                return Problem::Refused(format!(
                    "{place}: {error}; look at store.redis.username and store.redis.password_file"
                ));
            }
            ErrorKind::InvalidClientConfig => return Problem::Refused(format!("{place}: {error}")),
            ErrorKind::Extension => return extension(error, place),
            _ => return again(""),
        };
        match kind {
            ServerErrorKind::NoScript => Problem::NoScript,
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot => {
                again("is that a cluster? Then set store.redis.cluster = true; ")
            }
            ServerErrorKind::ReadOnly => again("it is a replica now; "),
            ServerErrorKind::NoPerm => Problem::Refused(format!(
                "{place}: {error}; the ACL of store.redis.username lacks something, docs/OPERATIONS.md has what it needs"
            )),
            ServerErrorKind::ResponseError => Problem::Refused(format!("{place}: {error}")),
            _ => again(""),
        }
    }

    pub(super) fn foreign(key: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem::Foreign {
            key: key.into(),
            problem: problem.into(),
        }
    }

    /// Counts it, and makes it what every store has.
    pub(super) fn told(self) -> StoreError {
        match self {
            Problem::Again(text) | Problem::Refused(text) => {
                Counter::StoreFailed.count();
                StoreError::Unavailable(format!("Redis: {text}"))
            }
            Problem::NoScript => {
                Counter::StoreFailed.count();
                StoreError::Unavailable("Redis: it has no script although it was sent whole".into())
            }
            Problem::Foreign { key, problem } => {
                Counter::StoreForeign.count();
                StoreError::Foreign { key, problem }
            }
            Problem::Cut(up_to) => {
                Counter::EventsCut.count();
                StoreError::Cut { up_to }
            }
        }
    }
}

/// Codes that the client has no name for.
fn extension(error: &RedisError, place: &str) -> Problem {
    match error.code() {
        Some("WRONGTYPE") => Problem::foreign(place, error.to_string()),
        Some("NOAUTH" | "WRONGPASS") => Problem::Refused(format!(
            "{place}: {error}; look at store.redis.username and store.redis.password_file"
        )),
        Some("OOM") => Problem::Refused(format!("{place}: {error}; it needs more maxmemory")),
        Some("MISCONF" | "NOREPLICAS" | "BUSY" | "UNBLOCKED" | "MASTERDOWN") => {
            Problem::Again(format!("{place}: {error}"))
        }
        _ => Problem::Refused(format!("{place}: {error}")),
    }
}
