//! The admin service behind the CLI: gRPC over a unix socket. Who may open the socket may ask anything; the caller's uid
//! goes into the audit log. What the answers look like is in `api/convert.rs`, the socket file in `api/socket.rs`.

pub mod convert;
mod events;
mod history;
mod maintenance;
mod ops;
mod patrol;
pub(crate) use ops::REASON;
mod socket;
#[cfg(test)]
mod tests;
mod top;

use crate::{
    driver::{Handle, ModeInForce},
    history::History,
    proto::admin::admin_server::AdminServer,
    telemetry::audit::Audit,
    tiers::Tiers,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use voice_room::{NodeName, Wall};

/// The admin socket's name in `paths.run`.
pub const SOCKET: &str = "admin.sock";

/// Calls served at one time on one connection; further ones wait.
const CALLS_AT_ONCE: usize = 32;

/// How long a call may wait for the driver or the store. Below the CLI's own patience, so that the CLI hears why.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long open connections may take to end after `shutdown`: a client that is frozen would hold the agent up for ever.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// What `status` says of the agent itself.
#[derive(Clone)]
pub struct About {
    /// `node.name`
    pub node: NodeName,
    /// `node.instance`
    pub instance: Option<String>,
    /// `trip.mode`
    pub mode: ModeInForce,
    /// When the agent started.
    pub started: Wall,
    /// What the start found and repaired.
    pub recovered: String,
    /// What snapshots are asked of; `None`: none are taken.
    pub history: Option<History>,
    /// How well what is depended on does.
    pub tiers: Tiers,
}

/// Why the admin service could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another agent answers on the socket.
    #[error(
        "admin socket {0}: another agent answers there; stop it, or give this one a node.instance of its own"
    )]
    InUse(PathBuf),
    /// Something that is not a socket lies there.
    #[error("admin socket {0}: something that is not a socket lies there; move it away")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("admin socket {path}: {tried}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        tried: &'static str,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The server ended by itself.
    #[error("admin socket {path}: serving: {source}")]
    Serve {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: tonic::transport::Error,
    },
}

/// The admin socket, open: who connects waits until it is served.
#[derive(Debug)]
pub struct Listening {
    listener: tokio::net::UnixListener,
    guard: socket::Guard,
}

/// Opens the unix socket `path` (mode 0660). A dead agent's socket is replaced.
///
/// # Errors
/// A live agent's is not ([`ApiError::InUse`]); or the system refused.
pub fn listen(path: &Path) -> Result<Listening, ApiError> {
    let (listener, guard) = socket::bind(path)?;
    Ok(Listening { listener, guard })
}

/// [`listen`], and then [`serve_on`].
///
/// # Errors
/// Those of both.
pub async fn serve(
    path: &Path,
    handle: Handle,
    audit: Audit,
    about: About,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    serve_on(listen(path)?, handle, audit, about, shutdown).await
}

/// Serves the admin service until `shutdown`; the socket is removed afterwards.
///
/// # Errors
/// The server ended by itself.
pub async fn serve_on(
    Listening { listener, guard }: Listening,
    handle: Handle,
    audit: Audit,
    about: About,
    shutdown: CancellationToken,
) -> Result<(), ApiError> {
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let ops = ops::Ops {
        handle,
        audit,
        about,
        readers: events::Readers::new(shutdown.clone()),
    };
    let serving = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(CALLS_AT_ONCE)
        .add_service(AdminServer::new(ops))
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(CLOSE_WITHIN).await;
    };
    tokio::select! {
        ended = serving => ended.map_err(|source| ApiError::Serve { path: guard.path().into(), source }),
        () = patience => {
            tracing::warn!("a client of the admin socket did not hang up; it was cut off");
            Ok(())
        }
    }
}
