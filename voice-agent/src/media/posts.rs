//! The HTTP listener that a media server posts its events to. Reads within bounds and hands on; what a post has to say, and
//! whether it may say it, is its [`Receiver`]'s.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The longest request taken.
pub(super) const BODY_BOUND: usize = 1 << 20;
/// How long a request's headers, and then its body, may take.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// A media server needs one connection, a few during its own retries.
const CONNECTIONS: usize = 32;
/// The wait after a failed bind or accept.
const RETRY: Duration = Duration::from_secs(1);

/// Why a post is not taken: what it is answered with.
pub(super) type NotTaken = (StatusCode, String);

/// Who takes posts. Never waits for anyone: a media server may post from one thread.
pub(super) trait Receiver: Clone + Send + Sync + 'static {
    /// The media server, for the log.
    const NAME: &'static str;
    /// The configuration's key of the address.
    const KEY: &'static str;

    /// Takes the whole body of a post, or nothing of it.
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), NotTaken>;

    /// A request was refused before it could be taken: no post, too large, too slow.
    fn refused(&self);

    /// A connection ended with an error.
    fn failed(&self);
}

/// Listens until `shutdown`; while the address cannot be had, tries again: the listing alone keeps the rooms.
pub(super) async fn listen<R: Receiver>(address: SocketAddr, receiver: R, shutdown: CancellationToken) {
    let serve = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => accept(listener, &receiver).await,
                Err(error) => {
                    let (server, key) = (R::NAME, R::KEY);
                    tracing::error!(%address, %error, "{server}: cannot listen for events ({key}); trying again");
                    sleep(RETRY).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(serve).await;
}

/// Takes connections for ever.
pub(super) async fn accept<R: Receiver>(listener: TcpListener, receiver: &R) {
    let server = R::NAME;
    tracing::info!(address = ?listener.local_addr().ok(), "{server}: listening for events");
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Never closed, so a permit always comes.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let receiver = receiver.clone();
                connections.spawn(async move {
                    serve(stream, receiver).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "{server}: accepting an event connection");
                receiver.failed();
                sleep(RETRY).await;
            }
        }
    }
}

async fn serve<R: Receiver>(stream: TcpStream, receiver: R) {
    let taker = receiver.clone();
    let service = service_fn(move |request| {
        let taker = taker.clone();
        async move { Ok::<_, Infallible>(take(request, &taker).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READ_WITHIN);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        // An idle connection that is kept open ends this way too; the media server opens another.
        if !error.is_timeout() {
            receiver.failed();
            tracing::debug!(%error, "{}: event connection", R::NAME);
        }
    }
}

async fn take<R: Receiver>(request: Request<Incoming>, receiver: &R) -> Response<String> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        receiver.refused();
        return answer(StatusCode::METHOD_NOT_ALLOWED, "events are posted\n".into());
    }
    let body = match read(body).await {
        Ok(body) => body,
        Err((status, why)) => {
            receiver.refused();
            return answer(status, why);
        }
    };
    match receiver.take(&head.headers, &body) {
        Ok(()) => Response::new(String::new()),
        Err((status, why)) => answer(status, why),
    }
}

async fn read(body: Incoming) -> Result<Vec<u8>, NotTaken> {
    match timeout(READ_WITHIN, Limited::new(body, BODY_BOUND).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("at most {BODY_BOUND} bytes are taken\n"),
        )),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("reading the body: {error}\n"))),
        Err(_) => Err((
            StatusCode::REQUEST_TIMEOUT,
            "the body did not come in time\n".into(),
        )),
    }
}

fn answer(status: StatusCode, why: String) -> Response<String> {
    let mut response = Response::new(why);
    *response.status_mut() = status;
    // RFC 9110 wants these with these.
    let header = match status {
        StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, "POST")),
        StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
        _ => None,
    };
    if let Some((name, value)) = header {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
