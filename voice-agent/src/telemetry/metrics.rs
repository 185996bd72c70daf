//! The HTTP listener behind /metrics, /livez and /readyz. What the figures are called is in `metrics/page.rs`.
//!
//! /livez looks at nothing but the time of the driver's last tick. /metrics asks the driver one question, and answers
//! without it when the driver does not.

mod history;
mod page;

use crate::{
    driver::{ALIVE_WITHIN, Handle, ModeInForce, Phase, Vitals},
    history::History,
    registry::Registry,
    session::Sessions,
};
use hyper::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
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

/// How long the driver may take to tell its figures.
const FIGURES_WITHIN: Duration = Duration::from_secs(2);
/// How long a request's headers may take, and how long an idle connection stays open.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Scrapers and probes; further ones wait.
const CONNECTIONS: usize = 16;
/// The wait after a failed bind or accept.
const RETRY: Duration = Duration::from_secs(1);

/// Where the figures come from.
#[derive(Clone)]
pub struct Source {
    /// The driver.
    pub handle: Handle,
    /// The connected peers.
    pub sessions: Sessions,
    /// What the driver leaves behind.
    pub vitals: Vitals,
    /// `trip.mode`
    pub mode: ModeInForce,
    /// Who owns rooms.
    pub registry: Registry,
    /// What snapshots are asked of; `None`: none are taken.
    pub history: Option<History>,
}

/// Serves until `shutdown`. While the address cannot be had, tries again: an agent that nobody watches still does its
/// work, and its log says why.
pub async fn serve(address: SocketAddr, source: Source, shutdown: CancellationToken) {
    let serve = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => accept(&listener, &source).await,
                Err(error) => {
                    tracing::error!(%address, %error, "cannot listen on metrics.listen; trying again");
                    sleep(RETRY).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(serve).await;
}

async fn accept(listener: &TcpListener, source: &Source) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    // Never closed, so a permit always comes.
    while let Ok(permit) = free.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = source.clone();
                connections.spawn(async move {
                    talk(stream, source).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection to metrics.listen");
                sleep(RETRY).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, source: Source) {
    let service = service_fn(move |request| {
        let source = source.clone();
        async move { Ok::<_, Infallible>(answer(&request, &source).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(READ_WITHIN);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        // A scraper that went away, or stayed idle; the next one connects anew.
        tracing::debug!(%error, "connection to metrics.listen");
    }
}

async fn answer<B>(request: &Request<B>, source: &Source) -> Response<String> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are served\n".into());
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => metrics(source).await,
        "/livez" => livez(&source.vitals),
        "/readyz" => readyz(&source.vitals),
        _ => plain(
            StatusCode::NOT_FOUND,
            "served are /metrics, /livez and /readyz\n".into(),
        ),
    }
}

fn livez(vitals: &Vitals) -> Response<String> {
    let age = vitals.tick_age();
    let said = format!("the driver's last tick was {} ms ago", age.as_millis());
    if age <= ALIVE_WITHIN {
        plain(StatusCode::OK, format!("alive: {said}\n"))
    } else {
        let limit = ALIVE_WITHIN.as_secs();
        plain(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not alive: {said}; allowed are {limit} s\n"),
        )
    }
}

fn readyz(vitals: &Vitals) -> Response<String> {
    let (status, said) = match (vitals.phase(), vitals.is_alive()) {
        (Phase::Running, true) => (StatusCode::OK, "ready"),
        (Phase::Running, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the driver does not tick",
        ),
        (Phase::Starting, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: starting"),
        (Phase::Stopping, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready: stopping"),
    };
    plain(status, format!("{said}\n"))
}

async fn metrics(source: &Source) -> Response<String> {
    let figures = timeout(FIGURES_WITHIN, source.handle.figures()).await;
    let figures = figures.ok().and_then(Result::ok);
    match page::page(figures.as_deref(), source) {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, text);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
            response
        }
        Err(error) => {
            tracing::error!(%error, "writing the metrics");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("writing the metrics: {error}\n"),
            )
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests;
