//! Bounds the TCP connections: one too many is closed at once, so that those that are there keep working. Sees to TLS before
//! anything else is read. Counts those that do not speak HTTP/2; closing them is the HTTP/2 server's part.

use crate::{
    session::{identity::Caller, tls::Tls},
    telemetry::Counter,
};
use futures::StreamExt;
use std::{
    fmt,
    future::ready,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_stream::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::{Connected, TcpIncoming};

/// Connections beyond twice `max_peers` (each peer may reconnect while its old connection is not known to be dead): for
/// health checks, admission and people.
const OTHERS: usize = 64;

/// What a client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The accepted connections, at most so many at a time, those in the middle of a handshake included. Handshakes wait for
/// each other as little as possible: each is a task of its own.
pub(super) fn accept(
    listener: TcpListener,
    max_peers: usize,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<Connection>> {
    let most = max_peers
        .saturating_mul(2)
        .saturating_add(OTHERS)
        .min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(most));
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .filter_map(move |accepted| ready(accepted.map(|stream| placed(stream, &places)).transpose()))
        .map(move |placed| greet(placed, tls.clone()))
        .buffer_unordered(most)
        .filter_map(ready)
}

type Placed = (TcpStream, OwnedSemaphorePermit);

fn placed(stream: TcpStream, places: &Arc<Semaphore>) -> Option<Placed> {
    let place = places.clone().try_acquire_owned().ok();
    if place.is_none() {
        Counter::SessionTooManyConnections.count();
    }
    Some((stream, place?))
}

/// `None`: its handshake failed.
async fn greet(placed: io::Result<Placed>, tls: Option<Tls>) -> Option<io::Result<Connection>> {
    let (stream, place) = match placed {
        Ok(placed) => placed,
        Err(error) => return Some(Err(error)),
    };
    let Some(tls) = tls else {
        return Some(Ok(Connection::new(stream, Caller(None), place)));
    };
    let handshake = AbortOnDropHandle::new(tokio::spawn(async move { tls.accept(stream).await }));
    // A task that panicked has no connection to give.
    let (stream, identity) = handshake.await.ok().flatten()?;
    Some(Ok(Connection::new(stream, Caller(Some(identity)), place)))
}

/// What a connection reads from and writes to: TCP, or TLS on it.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection that gives its place back when it ends.
pub(super) struct Connection {
    stream: Box<dyn Wire>,
    caller: Caller,
    /// What of the preface has not come yet; empty also once it is known that it will not.
    preface: &'static [u8],
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("caller", &self.caller)
            .finish()
    }
}

impl Connection {
    fn new(stream: impl Wire + 'static, caller: Caller, place: OwnedSemaphorePermit) -> Connection {
        Connection {
            stream: Box::new(stream),
            caller,
            preface: PREFACE,
            _place: place,
        }
    }

    /// Counts the connection once what was read is not the preface.
    fn compare(&mut self, read: &[u8]) {
        let (expected, rest) = self.preface.split_at(read.len().min(self.preface.len()));
        self.preface = rest;
        if !read.starts_with(expected) {
            self.preface = &[];
            Counter::SessionNotHttp2.count();
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.compare(buf.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
