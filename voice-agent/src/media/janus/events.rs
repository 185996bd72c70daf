//! The HTTP listener that Janus' sample event handler posts to. Reads, checks, queues; never waits for anyone: Janus
//! posts from one thread, and what is dropped here a listing repairs. What events mean is in `rooms`.

use super::{
    counters::{Counters, count},
    wire::{self, Event},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::ALLOW, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The longest request taken.
const BODY_BOUND: usize = 1 << 20;
/// How long a request's headers, and then its body, may take.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Janus needs one connection, a few during its own retries.
const CONNECTIONS: usize = 32;
/// The wait after a failed bind or accept.
const RETRY: Duration = Duration::from_secs(1);

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    /// The queue to the translation.
    pub(super) queue: mpsc::Sender<Event>,
    /// Asks for a listing when the queue was full.
    pub(super) list_now: Arc<Notify>,
    pub(super) counters: Arc<Counters>,
}

/// Listens until `shutdown`; while the address cannot be had, tries again: the listing alone keeps the rooms.
pub(super) async fn listen(address: SocketAddr, sink: Sink, shutdown: CancellationToken) {
    let serve = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => accept(listener, &sink).await,
                Err(error) => {
                    tracing::error!(%address, %error, "janus: cannot listen for events (janus.events_listen); trying again");
                    sleep(RETRY).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(serve).await;
}

async fn accept(listener: TcpListener, sink: &Sink) {
    tracing::info!(address = ?listener.local_addr().ok(), "janus: listening for events");
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
                let sink = sink.clone();
                connections.spawn(async move {
                    serve(stream, sink).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "janus: accepting an event connection");
                count(&sink.counters.connections_failed);
                sleep(RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, sink: Sink) {
    let counters = sink.counters.clone();
    let service = service_fn(move |request| {
        let sink = sink.clone();
        async move { Ok::<_, Infallible>(take(request, &sink).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READ_WITHIN);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        // An idle connection that Janus keeps open ends this way too; it opens another.
        if !error.is_timeout() {
            count(&counters.connections_failed);
            tracing::debug!(%error, "janus: event connection");
        }
    }
}

async fn take(request: Request<Incoming>, sink: &Sink) -> Response<String> {
    let refused = |status: StatusCode, why: String| {
        count(&sink.counters.bad_requests);
        let mut response = Response::new(why);
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::POST {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "events are posted\n".into());
        response
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("POST"));
        return response;
    }
    let body = match timeout(
        READ_WITHIN,
        Limited::new(request.into_body(), BODY_BOUND).collect(),
    )
    .await
    {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("at most {BODY_BOUND} bytes are taken\n"),
            );
        }
        Ok(Err(error)) => return refused(StatusCode::BAD_REQUEST, format!("reading the body: {error}\n")),
        Err(_) => {
            return refused(
                StatusCode::REQUEST_TIMEOUT,
                "the body did not come in time\n".into(),
            );
        }
    };
    match wire::events(&body, &sink.counters) {
        Ok(events) => {
            queue(events, sink);
            Response::new(String::new())
        }
        Err(error) => refused(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn queue(events: Vec<Event>, sink: &Sink) {
    for event in events {
        if sink.queue.try_send(event).is_err() {
            count(&sink.counters.events_dropped);
            sink.list_now.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
