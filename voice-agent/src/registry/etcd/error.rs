//! What can go wrong between this agent and etcd. Typed by what to do about it; etcd's own words are in the text.

use tonic::{Code, Status};

/// A request that failed, or was not answered in time: then it may have been carried out all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("etcd at {endpoint}: {what}: {problem}")]
pub struct EtcdError {
    /// What was tried.
    pub what: &'static str,
    /// Of which member.
    pub endpoint: String,
    /// What kind of failure.
    pub cause: Cause,
    /// In words.
    pub problem: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The member cannot be reached, or broke off. Another one may answer.
    Unreachable,
    /// The member has no leader: it is cut off from most others, or they are electing.
    NoLeader,
    /// No answer in time.
    Late,
    /// The revision asked for is gone from etcd's history.
    Compacted,
    /// The lease is not there (any more).
    LeaseGone,
    /// User, password or rights.
    Denied,
    /// The answer is not one to our question.
    Malformed,
    /// Anything else that etcd refused.
    Refused,
}

impl EtcdError {
    pub(super) fn status(what: &'static str, endpoint: &str, status: &Status) -> EtcdError {
        EtcdError {
            what,
            endpoint: endpoint.to_owned(),
            cause: cause(status.code(), status.message()),
            problem: problem(endpoint, status),
        }
    }

    pub(super) fn new(
        what: &'static str,
        endpoint: &str,
        cause: Cause,
        problem: impl Into<String>,
    ) -> EtcdError {
        EtcdError {
            what,
            endpoint: endpoint.to_owned(),
            cause,
            problem: problem.into(),
        }
    }
}

fn problem(endpoint: &str, status: &Status) -> String {
    let Some(why) = std::error::Error::source(status) else {
        return format!("{}: {}", status.code(), status.message());
    };
    // Not etcd's words but the connection's: the reason lies inside.
    let mut problem = format!("{}: {}", status.message(), in_full(why));
    if endpoint.starts_with("https://") && problem.contains("connection closed") {
        problem += " (over TLS this is also how a member refuses a client's certificate: see registry.etcd.cert_file, and its log)";
    }
    problem
}

/// tonic says "transport error" and keeps the reason as its source.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// etcd tells its failures by a few gRPC codes and fixed sentences (api/v3rpc/rpctypes/error.go).
fn cause(code: Code, message: &str) -> Cause {
    match code {
        _ if message.contains("no leader") || message.contains("leader changed") => Cause::NoLeader,
        Code::OutOfRange if message.contains("compacted") => Cause::Compacted,
        Code::NotFound if message.contains("lease not found") => Cause::LeaseGone,
        Code::Unauthenticated | Code::PermissionDenied => Cause::Denied,
        Code::InvalidArgument | Code::FailedPrecondition
            if message.contains("auth") || message.contains("user name is empty") =>
        {
            Cause::Denied
        }
        Code::DeadlineExceeded => Cause::Late,
        Code::Unavailable | Code::Cancelled | Code::Unknown | Code::Internal | Code::Aborted => {
            Cause::Unreachable
        }
        _ => Cause::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_own_sentences_are_told_apart() {
        let of = |code, message: &str| EtcdError::status("x", "e", &Status::new(code, message)).cause;
        assert_eq!(of(Code::Unavailable, "etcdserver: no leader"), Cause::NoLeader);
        assert_eq!(
            of(Code::Unavailable, "etcdserver: request timed out"),
            Cause::Unreachable
        );
        assert_eq!(
            of(Code::NotFound, "etcdserver: requested lease not found"),
            Cause::LeaseGone
        );
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        assert_eq!(of(Code::OutOfRange, compacted), Cause::Compacted);
        assert_eq!(
            of(
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision"
            ),
            Cause::Refused
        );
        assert_eq!(
            of(Code::Unauthenticated, "etcdserver: invalid auth token"),
            Cause::Denied
        );
        assert_eq!(
            of(
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request"
            ),
            Cause::Refused
        );
    }
}
