//! The daemon and the CLI: adapters around `voice-room`.
//!
//! Adapters never call each other. They tell facts to the [`driver::Handle`] and are called by the driver; see
//! `docs/ARCHITECTURE.md`.

pub mod api;
mod backoff;
pub mod cli;
pub mod config;
pub mod driver;
pub mod history;
pub mod kernel;
pub mod lock;
pub mod media;
mod memory;
pub mod patrol;
pub mod privileges;
pub mod registry;
pub mod relay;
pub mod session;
pub mod store;
pub mod supervisor;
pub mod telemetry;
pub mod tiers;
pub mod tokens;

/// What `voice-agent/proto` describes, generated; and that of `voice-client`.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files are documented"
)]
pub mod proto {
    pub use voice_client::proto::{DESCRIPTORS, v1};

    /// The admin service, for the CLI.
    pub mod admin {
        tonic::include_proto!("voice.agent.admin.v1");
    }
    /// etcd's API v3, as far as it is used.
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
    /// etcd's keys and events.
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
}
