//! The way to the agent: connects to the admin socket, bounds every wait, and turns what goes wrong into a [`Failure`].

use super::failure::{Code, Failure};
use crate::{api, config::Paths, proto::admin::admin_client::AdminClient};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// How long an answer may take. Above the agent's own bound, so that a slow store is told as such.
const PATIENCE: Duration = Duration::from_secs(8);

/// The same for what looks at every room, or repairs them.
pub(super) const LONG_PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer taken: 10,000 rooms are about 5 MiB.
const ANSWER_MAX: usize = 64 << 20;

/// A connection to the agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) calls: AdminClient<Channel>,
    socket: PathBuf,
}

/// Runs a client command.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Code::Failed, format!("starting the client: {e}")))?;
    runtime.block_on(work)
}

impl Agent {
    /// Connects. `AgentNotRunning` when nobody listens.
    pub(super) async fn connect(paths: &Paths) -> Result<Agent, Failure> {
        let socket = paths.run.join(api::SOCKET);
        let stream = match timeout(PATIENCE, UnixStream::connect(&socket)).await {
            Ok(stream) => stream.map_err(|e| unreachable(&socket, &e))?,
            Err(_) => return Err(silent(&socket, PATIENCE)),
        };
        let channel = channel(stream).await;
        let channel = channel.map_err(|e| {
            let message = format!(
                "admin socket {}: {e}; is it an agent of this version?",
                socket.display()
            );
            Failure::new(Code::Failed, message)
        })?;
        let calls = AdminClient::new(channel).max_decoding_message_size(ANSWER_MAX);
        Ok(Agent { calls, socket })
    }

    /// Waits for an answer.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.answer_within(PATIENCE, call).await
    }

    /// Waits so long for an answer.
    pub(super) async fn answer_within<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(refused(&status)),
            Err(_) => Err(silent(&self.socket, patience)),
        }
    }
}

/// The next of a stream that has an end; `None` at it.
pub(super) async fn received<T>(
    paths: &Paths,
    next: impl Future<Output = Result<Option<T>, Status>>,
) -> Result<Option<T>, Failure> {
    match timeout(PATIENCE, next).await {
        Ok(next) => next.map_err(|status| refused(&status)),
        Err(_) => Err(silent(&paths.run.join(api::SOCKET), PATIENCE)),
    }
}

/// Does one call: connects, asks, waits.
macro_rules! call {
    ($paths:expr, $method:ident($request:expr)) => {
        match $crate::cli::client::Agent::connect($paths).await {
            Ok(agent) => agent.answer(agent.calls.clone().$method($request)).await,
            Err(failure) => Err(failure),
        }
    };
}
pub(super) use call;

/// The same for a call that may take long.
macro_rules! call_patiently {
    ($paths:expr, $method:ident($request:expr)) => {
        match $crate::cli::client::Agent::connect($paths).await {
            Ok(agent) => {
                let patience = $crate::cli::client::LONG_PATIENCE;
                let mut call = agent.calls.clone();
                agent.answer_within(patience, call.$method($request)).await
            }
            Err(failure) => Err(failure),
        }
    };
}
pub(super) use call_patiently;

/// One HTTP/2 connection over the stream. The endpoint's address is a form only; the stream is already there.
async fn channel(stream: UnixStream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let once = stream.take();
        async move { once.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static("http://admin.sock")
        .connect_with_connector(connector)
        .await
}

fn unreachable(socket: &Path, problem: &io::Error) -> Failure {
    let at = socket.display();
    match problem.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            Code::AgentNotRunning,
            format!("agent not running: nobody listens on {at}; start it, or check --instance and paths.run"),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            Code::Permission,
            format!("admin socket {at}: permission denied; run as root or as a member of the socket's group"),
        ),
        _ => Failure::new(Code::Failed, format!("admin socket {at}: connecting: {problem}")),
    }
}

fn silent(socket: &Path, waited: Duration) -> Failure {
    let message = format!(
        "the agent does not answer on {} (waited {} s): it may be frozen; see its log",
        socket.display(),
        waited.as_secs()
    );
    Failure::new(Code::AgentSilent, message)
}

pub(super) fn refused(status: &Status) -> Failure {
    let code = match status.code() {
        tonic::Code::NotFound => Code::NoSuchRoom,
        tonic::Code::InvalidArgument => Code::Usage,
        tonic::Code::PermissionDenied => Code::Permission,
        // The driver hangs or ends, or the agent died during the call.
        tonic::Code::Unavailable => Code::AgentSilent,
        _ => Code::Failed,
    };
    let reason = status.metadata().get(api::REASON);
    Failure {
        reason: reason.and_then(|r| r.to_str().ok()).map(String::from),
        ..Failure::new(code, status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_is_absent_or_hangs_is_away_and_one_that_refuses_or_may_not_be_asked_is_not() {
        let socket = Path::new("/run/voice-agent/admin.sock");
        let io = |kind: io::ErrorKind| unreachable(socket, &kind.into());
        let cases = [
            (io(io::ErrorKind::NotFound), Code::AgentNotRunning),
            (io(io::ErrorKind::ConnectionRefused), Code::AgentNotRunning),
            (io(io::ErrorKind::PermissionDenied), Code::Permission),
            (silent(socket, PATIENCE), Code::AgentSilent),
            (refused(&Status::unavailable("")), Code::AgentSilent),
            (refused(&Status::deadline_exceeded("")), Code::Failed),
            (refused(&Status::failed_precondition("")), Code::Failed),
            (refused(&Status::invalid_argument("")), Code::Usage),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.code, code, "{failure:?}");
            assert_eq!(failure.agent_is_away(), code.exit() == 3);
        }
    }
}
