//! `[livekit]`.

use std::{net::SocketAddr, path::PathBuf};

/// The LiveKit adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivekitConfig {
    /// `livekit.api`: the server API; loopback only.
    pub api: SocketAddr,
    /// `livekit.api_key`
    pub api_key: String,
    /// `livekit.api_secret_file`
    pub api_secret_file: PathBuf,
    /// `livekit.webhook_listen`: where webhooks are posted to; loopback only. Default 127.0.0.1:7404.
    pub webhook_listen: SocketAddr,
}

/// The same while it is being filled.
#[derive(Debug)]
pub(super) struct LivekitDraft {
    /// `None`: no adapter.
    pub(super) api: Option<SocketAddr>,
    pub(super) api_key: String,
    pub(super) api_secret_file: Option<PathBuf>,
    pub(super) webhook_listen: SocketAddr,
}

impl LivekitDraft {
    /// The adapter's, if it is wanted and whole; `check` tells what is missing.
    pub(super) fn whole(&self) -> Option<LivekitConfig> {
        Some(LivekitConfig {
            api: self.api?,
            api_key: Some(self.api_key.clone()).filter(|key| !key.is_empty())?,
            api_secret_file: self.api_secret_file.clone()?,
            webhook_listen: self.webhook_listen,
        })
    }
}
