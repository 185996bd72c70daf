//! The archive: a gzipped tar, written as it grows, everything in one folder.

use flate2::{Compression, write::GzEncoder};
use std::{
    io::{self, Write},
    time::SystemTime,
};
use tar::{Builder, Header};

/// The folder in it.
const FOLDER: &str = "voice-agent-bug";

pub(super) struct Archive<W: Write>(Builder<GzEncoder<W>>);

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Archive<W> {
        Archive(Builder::new(GzEncoder::new(to, Compression::default())))
    }

    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        header.set_mtime(now.unwrap_or_default().as_secs());
        self.0.append_data(&mut header, format!("{FOLDER}/{name}"), bytes)
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.finish()?.flush()
    }
}
