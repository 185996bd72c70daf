//! A service manager's end of sd_notify(3): a real datagram socket that a test reads.

use crate::clock;
use anyhow::Context;
use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

/// The socket, and every message that came.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Mutex<Vec<String>>,
}

impl Manager {
    /// Listens on a socket in `dir`.
    pub fn in_dir(dir: &Path) -> anyhow::Result<Manager> {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).context("bind the manager's socket")?;
        socket.set_nonblocking(true)?;
        Ok(Manager {
            socket,
            path,
            heard: Mutex::new(Vec::new()),
        })
    }

    /// For NOTIFY_SOCKET.
    pub fn socket(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }

    /// Every message so far.
    pub fn heard(&self) -> Vec<String> {
        let mut heard = crate::rtp::lock(&self.heard);
        let mut text = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut text) {
            heard.push(String::from_utf8_lossy(&text[..n]).into_owned());
        }
        heard.clone()
    }

    /// Waits until, after the first `after` messages, one begins like this; how many there are up to it.
    pub fn wait(&self, begins: &str, after: usize, within: Duration) -> anyhow::Result<usize> {
        let found = clock::poll(within, || {
            let heard = self.heard();
            let at = heard.iter().skip(after).position(|m| m.starts_with(begins))?;
            Some(after + at + 1)
        });
        found.with_context(|| {
            format!(
                "no {begins:?} within {within:?} after {after} of {:?}",
                self.heard()
            )
        })
    }
}
