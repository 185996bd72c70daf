//! Bounds the TCP connections: one too many is closed at once, so that those that are there keep working. Counts those that
//! do not speak HTTP/2; closing them is the HTTP/2 server's part.

use crate::telemetry::Counter;
use std::{
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
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// Connections beyond twice `max_peers` (each peer may reconnect while its old connection is not known to be dead): for
/// health checks, admission and people.
const OTHERS: usize = 64;

/// What a client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The accepted connections, at most so many at a time.
pub(super) fn accept(listener: TcpListener, max_peers: usize) -> impl Stream<Item = io::Result<Connection>> {
    let most = max_peers
        .saturating_mul(2)
        .saturating_add(OTHERS)
        .min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(most));
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .filter_map(move |accepted| {
            let stream = match accepted {
                Ok(stream) => stream,
                Err(e) => return Some(Err(e)),
            };
            if let Ok(place) = places.clone().try_acquire_owned() {
                return Some(Ok(Connection {
                    stream,
                    preface: PREFACE,
                    _place: place,
                }));
            }
            Counter::SessionTooManyConnections.count();
            None
        })
}

/// A connection that gives its place back when it ends.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What of the preface has not come yet; empty also once it is known that it will not.
    preface: &'static [u8],
    _place: OwnedSemaphorePermit,
}

impl Connection {
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
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
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
