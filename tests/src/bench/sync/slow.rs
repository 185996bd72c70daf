//! A long line: what goes in at one end comes out at the other a fixed time later, in order, in both directions.

use anyhow::Context;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

/// Pieces under way; more wait at the near end, as in a full window.
const PIECES: usize = 4096;

/// Its near end. Gone when dropped.
pub(super) struct Line {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    /// To the server at `url` (`http://HOST:PORT`).
    pub(super) async fn to(url: &str, delay: Duration) -> anyhow::Result<Line> {
        let far: SocketAddr = url.trim_start_matches("http://").parse().context("an address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(join(near, far, delay));
            }
        });
        Ok(Line {
            address,
            _task: AbortOnDropHandle::new(task),
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn join(near: TcpStream, far: SocketAddr, delay: Duration) -> std::io::Result<()> {
    let far = TcpStream::connect(far).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_out, near_in) = near.into_split();
    let (far_out, far_in) = far.into_split();
    tokio::select! {
        ended = carry(near_out, far_in, delay) => ended,
        ended = carry(far_out, near_in, delay) => ended,
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> std::io::Result<()> {
    let (put, mut take) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reads = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            let piece = buffer.get(..read).unwrap_or_default().to_vec();
            if read == 0 || put.send((Instant::now() + delay, piece)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writes = async {
        while let Some((due, piece)) = take.recv().await {
            sleep_until(due).await;
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = reads => ended,
        ended = writes => ended,
    }
}
